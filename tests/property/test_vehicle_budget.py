"""Whatever is wished and whenever, the policy never allows more than the budget, and never starves a download."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_client.ledger import Count, period_start
from edge_client.policy import REQUEST_BYTES, Link, may_check_in, may_download

PERIOD_S = 60.0
CHECK_IN_MOST = 4 << 10


@given(
    budget=st.integers(16 << 10, 1 << 20),
    wishes=st.lists(st.tuples(st.booleans(), st.integers(1, 1 << 21), st.floats(0, 30)), max_size=60),
)
def test_no_period_goes_over_its_budget(budget: int, wishes: list[tuple[bool, int, float]]) -> None:
    link = Link("cellular", ("cellular",), budget, PERIOD_S)
    now, count = 1_000_000.0, Count(period_start_s=period_start(1_000_000.0, PERIOD_S, 0.0))
    for is_check_in, wanted, pause in wishes:
        now += pause
        start = period_start(now, PERIOD_S, count.period_start_s)
        if start != count.period_start_s:
            count = Count(period_start_s=start)
        if is_check_in:
            moved = CHECK_IN_MOST if may_check_in(link, count, now).verdict == "go" else 0
        else:
            decision = may_download(link, count, wanted, now)
            moved = 0 if decision.verdict == "wait" else min(wanted, decision.allowed_bytes) + REQUEST_BYTES
            assert decision.until_s is None or now < decision.until_s <= now + PERIOD_S
        count = Count(period_start_s=start, period_received=count.period_received + moved)
        assert count.period_bytes <= budget


@given(budget=st.integers(16 << 10, 1 << 20), length=st.integers(1, 1 << 24))
def test_every_file_comes_in_the_end(budget: int, length: int) -> None:
    link = Link("cellular", ("cellular",), budget, PERIOD_S)
    periods = 0
    while length > 0:
        decision = may_download(link, Count(period_start_s=0.0), length, 0.0)
        assert decision.allowed_bytes >= min(length, budget // 2)
        length -= decision.allowed_bytes
        periods += 1
    assert periods <= 2_100


@given(now=st.floats(0, 4e9), back=st.floats(0, PERIOD_S))
def test_clock_that_wavers_earns_no_second_budget(now: float, back: float) -> None:
    start = period_start(now, PERIOD_S, 0.0)
    assert period_start(max(0.0, start - back / 2), PERIOD_S, start) == start
