"""Owns when what was learnt takes effect: after each round of steps, shorter rounds first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

_ROUND_STEPS: Final = 9
"""As many as a 3 × 3 kernel has positions, so that each kernel is entered with fresh knowledge."""
_FIRST_ROUNDS: Final = 9
"""Rounds of a single step, so that learning starts at once."""


def rounds(steps: int) -> Iterator[tuple[int, int]]:
    """Yield the first step of each round, and the first beyond it."""
    starts = [*range(min(_FIRST_ROUNDS, steps)), *range(_FIRST_ROUNDS, steps, _ROUND_STEPS), steps]
    yield from pairwise(starts)
