"""The link policy as the pure function that it is."""

from __future__ import annotations

import pytest

from edge_client.ledger import Count
from edge_client.policy import (
    REQUEST_BYTES,
    Link,
    check_in_interval_s,
    choose,
    may_check_in,
    may_download,
)
from edge_client.settings import LinkClass
from ota_protocol.errors import MalformedError
from ota_protocol.manifest import FileRef
from ota_protocol.wire import Candidate, FileOffer, TransferOffer

RESULT, BASE, OTHER = "a" * 64, "b" * 64, "c" * 64


def link(budget: int | None = None, link_class: LinkClass = "cellular") -> Link:
    return Link(link_class, ("wifi", "cellular"), budget, 100.0)


def spent(count_bytes: int) -> Count:
    return Count(period_start_s=1_000.0, period_received=count_bytes, received=count_bytes)


def test_no_budget_lets_everything_pass() -> None:
    assert may_download(link(), spent(10**9), 10**9, 1_010.0).verdict == "go"


def test_class_that_may_not_download_waits_for_another_link() -> None:
    decision = may_download(link(link_class="roaming"), spent(0), 1, 1_010.0)
    assert (decision.verdict, decision.until_s) == ("wait", None)
    assert "roaming" in decision.reason


def test_what_fits_goes() -> None:
    assert may_download(link(100_000), spent(0), 50_000, 1_010.0).verdict == "go"


def test_what_does_not_fit_goes_in_part() -> None:
    decision = may_download(link(100_000), spent(50_000), 90_000, 1_010.0)
    assert decision.verdict == "partial"
    assert 0 < decision.allowed_bytes <= 100_000 - 50_000 - REQUEST_BYTES


def test_spent_budget_waits_for_the_period_to_end() -> None:
    decision = may_download(link(100_000), spent(99_900), 10, 1_010.0)
    assert (decision.verdict, decision.until_s) == ("wait", 1_100.0)


def test_downloads_leave_room_for_check_ins() -> None:
    used, budget = 0, 100_000
    while (decision := may_download(link(budget), spent(used), 10**6, 1_010.0)).verdict != "wait":
        used += decision.allowed_bytes + REQUEST_BYTES
    assert used <= budget
    assert may_check_in(link(budget), spent(used), 1_010.0).verdict == "go"


def test_check_in_waits_for_the_period_to_end_when_the_budget_is_gone() -> None:
    decision = may_check_in(link(10_000), spent(9_900), 1_010.0)
    assert (decision.verdict, decision.until_s) == ("wait", 1_100.0)


def test_first_check_in_of_a_period_is_always_made() -> None:
    assert may_check_in(link(1_024), Count(period_start_s=1_000.0), 1_010.0).verdict == "go"


def test_check_ins_take_no_more_than_their_share() -> None:
    seconds = check_in_interval_s(link(100_000), 0.5, 2_500)
    assert 2_500 * (100.0 / seconds) <= 25_000
    assert check_in_interval_s(link(100_000), 60.0, 2_500) == 60.0
    assert check_in_interval_s(link(None), 0.5, 2_500) == 0.5
    assert check_in_interval_s(link(1_024), 0.5, 10**6) == 100.0


def transfer(name: str, length: int, base: str | None = None, result: str = RESULT) -> TransferOffer:
    return TransferOffer(target=f"deltas/{name}", digest=name[0] * 64, length_bytes=length, base=base, result=result)


RAW = Candidate(kind="raw", transfers=(TransferOffer(target="m", digest=RESULT, length_bytes=900, result=RESULT),))
FULL = Candidate(kind="compressed_full", transfers=(transfer("1", 500),))
DELTA = Candidate(kind="delta", transfers=(transfer("2", 50, BASE),))
CHAIN = Candidate(kind="chain", transfers=(transfer("3", 10, BASE, OTHER), transfer("4", 20, OTHER)))


def offer(*candidates: Candidate) -> FileOffer:
    return FileOffer(target="m", file=FileRef(digest=RESULT, length_bytes=900), candidates=candidates)


@pytest.mark.parametrize(
    ("held", "expected"),
    [((), FULL), ((BASE,), CHAIN), ((OTHER,), FULL)],
)
def test_cheapest_that_can_be_used(held: tuple[str, ...], expected: Candidate) -> None:
    assert choose(offer(RAW, FULL, DELTA, CHAIN), held, ()) is expected


def test_rejected_candidates_are_not_taken_again_and_raw_always_is() -> None:
    ways = offer(DELTA, FULL, RAW)
    assert choose(ways, (BASE,), ("2" * 64,)) is FULL
    assert choose(ways, (BASE,), ("2" * 64, "1" * 64, RESULT)) is RAW


def test_bytes_that_are_here_already_count() -> None:
    here = {RESULT: 880}
    assert choose(offer(DELTA, RAW), (BASE,), (), lambda digest: here.get(digest, 0)) is RAW


def test_candidate_that_yields_another_file_is_no_candidate() -> None:
    stray = Candidate(kind="delta", transfers=(transfer("5", 1, None, OTHER),))
    assert choose(offer(stray, RAW), (), ()) is RAW
    with pytest.raises(MalformedError, match="no usable way"):
        choose(offer(stray), (), ())
