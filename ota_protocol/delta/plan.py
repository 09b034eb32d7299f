"""Owns the choice among the ways to come by a file, for what a vehicle holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal

from ota_protocol.digest import DigestHex
from ota_protocol.wire import Candidate, TransferOffer

MAX_CHAIN: Final = 8
"""Transfers in one candidate, as `wire.Candidate` allows."""


def plan(held: Collection[DigestHex], candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates that a holder of `held` can use, cheapest first, raw files last.

    A candidate is usable if each of its transfers starts from a held file, from nothing, or from the result of a
    transfer before it. The forecast of a candidate is its `length_bytes`.
    """
    usable = [candidate for candidate in candidates if _is_usable(frozenset(held), candidate)]
    return tuple(sorted(usable, key=lambda candidate: (candidate.kind == "raw", candidate.length_bytes)))


def forecast(held: Collection[DigestHex], candidates: Sequence[Candidate]) -> int | None:
    """Return the payload bytes that a holder of `held` is going to fetch; None where no candidate is usable."""
    usable = plan(held, candidates)
    return usable[0].length_bytes if usable else None


def cheapest_way(
    held: Collection[DigestHex], result: DigestHex, transfers: Sequence[TransferOffer], *, most: int = MAX_CHAIN
) -> Candidate | None:
    """Return the cheapest way from what is held to `result` over at most `most` transfers, if there is one.

    The search is that of Bellman and Ford, files as nodes and transfers as edges: a chain of small deltas may be
    cheaper than the one delta that skips them, or the only way.

    Args:
        transfers: deltas and compressed fulls, in any order.
    """
    known: dict[DigestHex | None, tuple[TransferOffer, ...]] = dict.fromkeys((None, *held), ())
    for _ in range(most):
        reached = dict(known)
        for transfer in transfers:
            if transfer.base in known:
                way = (*known[transfer.base], transfer)
                if transfer.result not in reached or _length(way) < _length(reached[transfer.result]):
                    reached[transfer.result] = way
        known = reached
    way = known.get(result, ())
    return Candidate(kind=_kind(way), transfers=way) if way else None


def _length(way: Sequence[TransferOffer]) -> int:
    return sum(transfer.length_bytes for transfer in way)


def _kind(way: Sequence[TransferOffer]) -> Literal["delta", "chain", "compressed_full"]:
    if len(way) > 1:
        return "chain"
    return "delta" if way[0].base is not None else "compressed_full"


def _is_usable(held: frozenset[DigestHex], candidate: Candidate) -> bool:
    at_hand = set(held)
    for transfer in candidate.transfers:
        if transfer.base is not None and transfer.base not in at_hand:
            return False
        at_hand.add(transfer.result)
    return True
