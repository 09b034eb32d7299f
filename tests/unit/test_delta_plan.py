"""Which way a vehicle takes, for what it holds."""

from __future__ import annotations

from collections.abc import Sequence

from ota_protocol.delta.plan import cheapest_way, forecast, plan
from ota_protocol.wire import Candidate, TransferOffer

OLD, MIDDLE, NEW = "a" * 64, "b" * 64, "c" * 64


def transfer(base: str | None, result: str, length: int) -> TransferOffer:
    return TransferOffer(target=f"deltas/{length}", digest="d" * 64, length_bytes=length, base=base, result=result)


RAW = Candidate(kind="raw", transfers=(transfer(None, NEW, 500),))
FULL = Candidate(kind="compressed_full", transfers=(transfer(None, NEW, 300),))
DELTA = Candidate(kind="delta", transfers=(transfer(OLD, NEW, 100),))
CHAIN = Candidate(kind="chain", transfers=(transfer(OLD, MIDDLE, 20), transfer(MIDDLE, NEW, 30)))
ALL = (RAW, FULL, DELTA, CHAIN)


def kinds(candidates: Sequence[Candidate]) -> list[str]:
    return [candidate.kind for candidate in candidates]


def test_the_cheapest_comes_first() -> None:
    assert kinds(plan({OLD}, ALL)) == ["chain", "delta", "compressed_full", "raw"]


def test_without_a_base_only_full_files_are_left() -> None:
    assert kinds(plan(set(), ALL)) == ["compressed_full", "raw"]


def test_a_chain_may_start_in_its_middle_only_with_that_base() -> None:
    rest = Candidate(kind="delta", transfers=(transfer(MIDDLE, NEW, 30),))
    assert kinds(plan({MIDDLE}, (*ALL, rest))) == ["delta", "compressed_full", "raw"]


def test_the_raw_file_is_the_last_resort_even_where_it_is_short() -> None:
    short = Candidate(kind="raw", transfers=(transfer(None, NEW, 1),))
    assert kinds(plan({OLD}, (short, *ALL[1:])))[-1] == "raw"


def test_a_chain_in_the_wrong_order_is_no_way() -> None:
    backwards = Candidate(kind="chain", transfers=(transfer(MIDDLE, NEW, 30), transfer(OLD, MIDDLE, 20)))
    assert plan({OLD}, (backwards,)) == ()


def test_nothing_offered_is_nothing_planned() -> None:
    assert plan({OLD}, ()) == ()


def test_the_forecast_is_what_the_cheapest_way_moves() -> None:
    assert forecast({OLD}, ALL) == 50
    assert forecast(set(), ALL) == 300
    assert forecast({OLD}, ()) is None


TRANSFERS = (*DELTA.transfers, *CHAIN.transfers, *FULL.transfers)


def test_a_chain_is_found_where_it_is_cheaper() -> None:
    assert cheapest_way({OLD}, NEW, TRANSFERS) == CHAIN


def test_a_chain_is_no_longer_than_allowed() -> None:
    assert cheapest_way({OLD}, NEW, TRANSFERS, most=1) == DELTA


def test_without_a_base_the_way_is_the_compressed_full() -> None:
    assert cheapest_way(set(), NEW, TRANSFERS) == FULL
    assert cheapest_way(set(), NEW, DELTA.transfers) is None


def test_a_full_file_may_be_the_start_of_a_chain() -> None:
    small = transfer(None, MIDDLE, 5)
    way = cheapest_way(set(), NEW, (*TRANSFERS, small))
    assert way is not None and way.kind == "chain" and way.length_bytes == 35


def test_transfers_in_a_circle_end() -> None:
    circle = (transfer(OLD, MIDDLE, 1), transfer(MIDDLE, OLD, 1))
    assert cheapest_way({OLD}, NEW, circle) is None
