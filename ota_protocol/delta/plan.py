"""Owns the choice among the ways to come by a file, for what a vehicle holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ota_protocol.digest import DigestHex
from ota_protocol.wire import Candidate


def plan(held: Collection[DigestHex], candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates that a holder of `held` can use, cheapest first, raw files last.

    A candidate is usable if each of its transfers starts from a held file, from nothing, or from the result of a
    transfer before it. The forecast of a candidate is its `length_bytes`.
    """
    usable = [candidate for candidate in candidates if _is_usable(frozenset(held), candidate)]
    return tuple(sorted(usable, key=lambda candidate: (candidate.kind == "raw", candidate.length_bytes)))


def _is_usable(held: frozenset[DigestHex], candidate: Candidate) -> bool:
    at_hand = set(held)
    for transfer in candidate.transfers:
        if transfer.base is not None and transfer.base not in at_hand:
            return False
        at_hand.add(transfer.result)
    return True
