"""Owns the order in which the codes of a network's tensors are coded: many lanes side by side, step after step.

A tensor is a matrix of rows (output channels) and columns (input channels) whose cells are kernels; a tensor without
kernels has cells of one code. Every tensor gets lanes in proportion to its size, so that all of them end together and
each step codes some of every tensor. A lane takes one cell after another and codes its kernel position by position.
The cells of a tensor are visited along its diagonals: every stretch of them meets all rows and all columns evenly, so
that what is known about each grows evenly too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_LANES: Final = 2048
_MIN_LANES: Final = 16
_CODES_A_LANE: Final = 96
_MAX_STEPS: Final = 2048
_MAX_KERNEL: Final = 121
"""Kernels up to 11 × 11 are coded position by position; a longer last axis is a row like any other."""

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Grid:
    """How one tensor is seen: rows × columns of cells of height × width codes, row-major."""

    rows: int
    columns: int
    height: int = 1
    width: int = 1

    @property
    def positions(self) -> int:
        """Codes in a cell."""
        return self.height * self.width

    @property
    def cells(self) -> int:
        """Cells in the grid."""
        return self.rows * self.columns

    @property
    def codes(self) -> int:
        """Codes in the grid."""
        return self.cells * self.positions

    @classmethod
    def of(cls, shape: tuple[int, ...], *, flat: bool) -> Grid:
        """Return the grid of a tensor of this shape; `flat` leaves kernels aside."""
        sides = (1, *shape) if len(shape) == 1 else shape or (1, 1)
        kernel = sides[2:]
        height = int(np.prod(kernel[:-1], dtype=np.int64))
        width = kernel[-1] if kernel else 1
        if flat or height * width > _MAX_KERNEL:
            return cls(sides[0], sides[1] * height * width)
        return cls(sides[0], sides[1], height, width)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Cells that lanes stand on: (n,) each."""

    layer: Index
    row: Index
    column: Index
    first: Index
    """Index of the cell's first code among all codes."""

    def slice(self, first: int, last: int) -> Stretch:
        """Return the places from `first` up to `last`."""
        here = slice(first, last)
        return Stretch(self.layer[here], self.row[here], self.column[here], self.first[here])


class LaneGroup:
    """Lanes whose cells have equally many positions, so that they move from cell to cell together."""

    def __init__(self, grids: Sequence[Grid], members: Sequence[int], steps: int, *, has_base: bool) -> None:
        self.grid = grids[members[0]]
        self.has_base = has_base
        self.turns = max(1, steps // self.grid.positions)
        """Cells that a lane visits, at most."""
        cells = np.array([grids[member].cells for member in members])
        strides = -(-cells // self.turns)
        self._lane_ends = np.cumsum(strides)
        lane_of = np.repeat(np.arange(len(members)), strides)
        self._number = np.arange(lane_of.size) - (self._lane_ends - strides)[lane_of]
        self._stride = strides[lane_of]
        self._cells = cells[lane_of]
        self.layer = np.array(members)[lane_of]
        shapes = np.array([(grids[member].rows, grids[member].columns) for member in members]).reshape(-1, 2)
        self._narrow = shapes.min(axis=1)[lane_of]
        self._wide = shapes.max(axis=1)[lane_of]
        self._is_tall = (shapes[:, 0] >= shapes[:, 1])[lane_of]
        self._columns = shapes[:, 1][lane_of]
        before = [_before(grids, member) for member in members]
        self._row0, self._column0, self._first0 = np.array(before).reshape(-1, 3)[lane_of].T

    def stretch(self, first_turn: int, last_turn: int) -> tuple[Stretch, list[int]]:
        """Return where the lanes stand in the turns of [first_turn, last_turn), and where each turn ends.

        Lanes that are done are left out.
        """
        turns = np.arange(first_turn, min(last_turn, self.turns))[:, np.newaxis]
        rank = turns * self._stride + self._number
        diagonal, along = np.divmod(rank, self._narrow)
        across = diagonal - along
        across += self._wide * (across < 0)
        row = np.where(self._is_tall, across, along)
        column = np.where(self._is_tall, along, across)
        first = (row * self._columns + column) * self.grid.positions + self._first0
        layer = np.broadcast_to(self.layer, rank.shape)
        valid = rank < self._cells
        ends = np.cumsum(valid.sum(axis=1)).tolist()
        places = (layer, row + self._row0, column + self._column0, first)
        if valid.all():
            return Stretch(*(place.ravel() for place in places)), ends
        return Stretch(*(place[valid] for place in places)), ends


def _before(grids: Sequence[Grid], member: int) -> tuple[int, int, int]:
    """Return how many rows, columns and codes come before tensor `member`."""
    earlier = grids[:member]
    return (
        sum(grid.rows for grid in earlier),
        sum(grid.columns for grid in earlier),
        sum(grid.codes for grid in earlier),
    )


def lane_groups(grids: Sequence[Grid], has_base: Sequence[bool]) -> list[LaneGroup]:
    """Return the lane groups of a network: single codes first, then kernels by size, then what has a base.

    Args:
        grids: of all tensors; the empty ones get no lanes.
        has_base: for each tensor, whether both ends know a base of it.
    """
    total = sum(grid.codes for grid in grids)
    lanes = max(min(MAX_LANES, total // _CODES_A_LANE), _MIN_LANES, total // (_MAX_STEPS * 4))
    steps = -(-total // lanes)
    kinds: dict[tuple[bool, int, int], list[int]] = {}
    for number, (grid, based) in enumerate(zip(grids, has_base, strict=True)):
        if grid.codes:
            kinds.setdefault((based, grid.height, grid.width), []).append(number)
    return [LaneGroup(grids, kinds[kind], steps, has_base=kind[0]) for kind in sorted(kinds)]
