"""Owns the order in which the codes of a network's tensors are coded: many lanes side by side, step after step.

A tensor is a matrix of rows (output channels) and columns (input channels) whose cells are kernels; a tensor without
kernels has cells of one code. Every tensor gets lanes in proportion to its size, so that all of them end together and
each step codes some of every tensor. A lane takes one cell after another and codes its kernel position by position.
The cells of a tensor are visited along its diagonals, in strips of them: every stretch meets all rows and all columns
evenly, so that what is known about each grows evenly too. Which side is the rows' does not matter: one is longer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_LANES: Final = 6144
_MIN_LANES: Final = 128
_CODES_A_LANE: Final = 96
_MANY_CODES_A_LANE: Final = 8192
_MOST_LANES: Final = 1 << 14
"""Networks of more than 33 million codes take more lanes, which are quicker, up to this many."""
_MAX_POSITIONS: Final = 121
"""Kernels up to 11 × 11 are coded position by position; more positions are columns like any other."""
_MAX_KERNELS: Final = 8

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
    def wide(self) -> int:
        """Channels of the longer side."""
        return max(self.rows, self.columns)

    @property
    def narrow(self) -> int:
        """Channels of the shorter side."""
        return min(self.rows, self.columns)

    @property
    def wide_step(self) -> int:
        """Cells from one channel of the longer side to the next."""
        return self.columns if self.rows >= self.columns else 1

    @property
    def narrow_step(self) -> int:
        """Cells from one channel of the shorter side to the next."""
        return 1 if self.rows >= self.columns else self.columns

    @property
    def codes(self) -> int:
        """Codes in the grid."""
        return self.cells * self.positions

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Grid:
        """Return the grid of a tensor of this shape."""
        sides = (1, *shape) if len(shape) == 1 else shape or (1, 1)
        kernel = sides[2:]
        return cls(sides[0], sides[1], math.prod(kernel[:-1]), kernel[-1] if kernel else 1)

    def flat(self) -> Grid:
        """Return the grid without kernels: their positions are columns."""
        return Grid(self.rows, self.columns * self.positions)


def grids_of(shapes: Sequence[tuple[int, ...]], has_base: Sequence[bool]) -> list[Grid]:
    """Return the grids of tensors.

    Kernels are made use of where there is no base, and for the `_MAX_KERNELS` sizes of kernel that most codes have.
    """
    grids = [Grid.of(shape) for shape in shapes]
    codes: Counter[tuple[int, int]] = Counter()
    for grid, based in zip(grids, has_base, strict=True):
        if not based and grid.positions <= _MAX_POSITIONS:
            codes[grid.height, grid.width] += grid.codes
    used = {size for size, _ in codes.most_common(_MAX_KERNELS)}
    return [
        grid if (grid.height, grid.width) in used and not based else grid.flat()
        for grid, based in zip(grids, has_base, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Places:
    """Cells that lanes stand on: arrays of one shape."""

    wide: Index
    """Channel of the longer side, among those of all tensors."""
    narrow: Index
    """Channel of the shorter side."""
    first: Index
    """The cell's first code, among those of all tensors."""

    strand: Index
    """Which strip of the group's tensors, and which channel of the shorter side in it, the cell belongs to."""

    def take(self, turn: int, lanes: Index | slice) -> Places:
        """Return the places of these lanes in one of the turns, (lanes,)."""
        return Places(
            self.wide[turn, lanes], self.narrow[turn, lanes], self.first[turn, lanes], self.strand[turn, lanes]
        )


class LaneGroup:
    """Lanes whose cells have equally many positions, so that they move from cell to cell together."""

    def __init__(
        self, grids: Sequence[Grid], before: Index, members: Sequence[int], steps: int, *, has_base: bool
    ) -> None:
        """Deal lanes to tensors.

        Args:
            grids: of all tensors.
            before: (tensors, 3) channels of longer sides, of shorter sides, and codes, before each tensor.
            members: which of them the group walks over; their cells have the same height and width.
            steps: in how many steps they should be done.
            has_base: whether both ends know a base of them.
        """
        self.grid = grids[members[0]]
        self.has_base = has_base
        self.turns = max(1, steps // self.grid.positions)
        """Cells that a lane visits, at most."""
        sides = [grids[member] for member in members]
        strips, lengths, strides = np.array([_strips(grid, self.turns) for grid in sides]).T
        lane_of = np.repeat(np.arange(len(members)), strides)
        self.layer = np.array(members)[lane_of]
        self._number = np.arange(lane_of.size) - (np.cumsum(strides) - strides)[lane_of]
        self._stride, self._strips, self._length = strides[lane_of], strips[lane_of], lengths[lane_of]
        self._narrow, self._wide = (np.array([(g.narrow, g.wide) for g in sides])[lane_of]).T
        steps_of = [(g.narrow_step * g.positions, g.wide_step * g.positions) for g in sides]
        self._narrow_step, self._wide_step = np.array(steps_of)[lane_of].T
        self._wide0, self._narrow0, self._first0 = before[list(members)][lane_of].T
        strands = strips * [grid.narrow for grid in sides]
        self._strand0 = (np.cumsum(strands) - strands)[lane_of]
        self.strands = int(strands.sum())

    def stretch(self, first_turn: int, last_turn: int) -> tuple[Places, NDArray[np.bool_]]:
        """Return where the lanes stand in the turns of [first_turn, last_turn), and whether, (turns, lanes) each.

        Lanes that are done, and those that find their strip a diagonal short, stand on a cell that is not theirs.
        """
        turns = np.arange(first_turn, min(last_turn, self.turns))[:, np.newaxis]
        rank = turns * self._stride + self._number
        row, narrow = np.divmod(rank, self._narrow)
        along, strip = np.divmod(row, self._strips)
        wide = strip * self._length
        wide += along
        valid = (along < self._length) & (wide < self._wide)
        wide -= narrow
        wide += self._wide * (wide < 0)
        np.minimum(wide, self._wide - 1, out=wide)
        strand = strip
        strand *= self._narrow
        strand += narrow
        strand += self._strand0
        first = wide * self._wide_step
        first += narrow * self._narrow_step
        first += self._first0
        wide += self._wide0
        narrow += self._narrow0
        return Places(wide, narrow, first, strand), valid


def _strips(grid: Grid, turns: int) -> tuple[int, int, int]:
    """Return into how many strips a tensor's diagonals are cut, their length, and how many lanes the tensor has.

    In a turn every strip moves on by at most one diagonal, so that the cell before on the same channel of the shorter
    side, which belongs to the channel before of the longer side, is known.
    """
    strips = max(1, grid.cells // (turns * grid.narrow))
    while True:
        length = -(-grid.wide // strips)
        lanes = -(-length * strips * grid.narrow // turns)
        if lanes <= strips * grid.narrow:
            return strips, length, lanes
        strips += 1


def lane_groups(grids: Sequence[Grid], has_base: Sequence[bool]) -> list[LaneGroup]:
    """Return the lane groups of a network: single codes first, then kernels by size, then what has a base.

    Args:
        grids: of all tensors; the empty ones get no lanes.
        has_base: for each tensor, whether both ends know a base of it.
    """
    total = sum(grid.codes for grid in grids)
    lanes = max(min(MAX_LANES, total // _CODES_A_LANE), _MIN_LANES, min(total // _MANY_CODES_A_LANE, _MOST_LANES))
    steps = -(-total // lanes)
    kinds: dict[tuple[bool, int, int], list[int]] = {}
    for number, (grid, based) in enumerate(zip(grids, has_base, strict=True)):
        if grid.codes:
            kinds.setdefault((based, grid.height, grid.width), []).append(number)
    sizes = np.array([(grid.wide, grid.narrow, grid.codes) for grid in grids], np.intp).reshape(-1, 3)
    before = np.cumsum(sizes, axis=0) - sizes
    return [LaneGroup(grids, before, kinds[kind], steps, has_base=kind[0]) for kind in sorted(kinds)]
