"""Owns the prediction of a code from the codes before it in its own kernel: their weights, and how they are laid out.

Each position of a kernel has a mean and a width, both linear in the codes before it (`Taps`), with weights that the
encoder fits to each tensor and sends. Small kernels use every earlier position with weights of its own; larger ones
use the nearest neighbours, with weights that depend on the distance alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.traversal import Grid

TAP_UNIT: Final = 16
"""Weights are in sixteenths."""

_OWN_WEIGHTS: Final = 9
"""Most positions of a kernel whose weights are sent for each pair of positions: 36 pairs of a 3 × 3 kernel."""
_NEIGHBOURS: Final = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2), (-2, -1), (-2, 1))
CHANNEL_TAPS: Final = 3
"""The first parameters of every tensor weigh the mean of either channel, and the trail's."""
TRAIL_TAP: Final = 2

Parameters = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Position:
    """One position of a kernel: what it looks at, and which parameters weigh that."""

    before: slice | list[int]
    """Earlier positions."""
    mean: slice | list[int]
    """For each of `before`, the parameter that weighs its code in the mean."""
    width: slice | list[int]
    """For each of `before`, the parameter that weighs its magnitude in the width."""
    count: int
    """How many `before` there are."""
    channels: int
    """The parameter that weighs the width expected from row and column."""


@cache
def positions(height: int, width: int) -> tuple[Position, ...]:
    """Return the positions of a kernel in the order of coding."""
    count = height * width
    if count <= _OWN_WEIGHTS:
        pairs = count * (count - 1) // 2
        starts = [CHANNEL_TAPS + place * (place - 1) // 2 for place in range(count)]
        return tuple(
            Position(
                slice(place),
                slice(start, start + place),
                slice(start + pairs, start + pairs + place),
                place,
                CHANNEL_TAPS + 2 * pairs + place,
            )
            for place, start in enumerate(starts)
        )
    return tuple(_by_neighbours(place, height, width) for place in range(count))


def parameter_count(grid: Grid) -> int:
    """Return how many parameters a tensor has."""
    count = grid.positions
    if count == 1:
        return CHANNEL_TAPS
    return CHANNEL_TAPS + (count * count if count <= _OWN_WEIGHTS else 2 * len(_NEIGHBOURS) + 1)


def neutral_parameters(grid: Grid) -> Parameters:
    """Return the parameters that predict nothing: mean 0, and the width that the channels have."""
    parameters = np.zeros(parameter_count(grid), np.int32)
    if grid.positions > 1:
        parameters[[place.channels for place in positions(grid.height, grid.width)]] = TAP_UNIT
    return parameters


def _by_neighbours(place: int, height: int, width: int) -> Position:
    y, x = divmod(place, width)
    usable = [number for number, (dy, dx) in enumerate(_NEIGHBOURS) if 0 <= y + dy < height and 0 <= x + dx < width]
    before = [(y + _NEIGHBOURS[number][0]) * width + x + _NEIGHBOURS[number][1] for number in usable]
    reach = len(_NEIGHBOURS)
    mean = [CHANNEL_TAPS + number for number in usable]
    return Position(before, mean, [reach + tap for tap in mean], len(usable), CHANNEL_TAPS + 2 * reach)
