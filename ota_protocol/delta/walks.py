"""Owns how lanes walk over their cells, and what each expects of the code it stands on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.contexts import Contexts, classify
from ota_protocol.delta.kernel_taps import CHANNEL_TAPS, TAP_UNIT, TRAIL_TAP, Parameters, positions
from ota_protocol.delta.surroundings import MEAN_LIMIT, MEAN_UNIT, WIDTH_BITS, Surroundings
from ota_protocol.delta.trail import Trail
from ota_protocol.delta.traversal import LaneGroup, Places

Codes = NDArray[np.int32]
Index = NDArray[np.intp]


class PointWalk:
    """Lanes over cells of one code; what they expect is worked out for a whole round at once."""

    def __init__(
        self,
        group: LaneGroup,
        surroundings: Surroundings,
        statistics: Index,
        parameters: Sequence[Parameters],
        *,
        bases: Codes | None,
    ) -> None:
        """Prepare the walk.

        Args:
            group: its lanes.
            surroundings: of all tensors.
            statistics: for each tensor, the layer whose statistics it shares.
            parameters: of each tensor.
            bases: known codes of all tensors; None where the group has none.
        """
        self._group = group
        self._surroundings = surroundings
        self._layers = statistics[group.layer]
        self._taps = np.array([own[:CHANNEL_TAPS] for own in parameters], np.float64)[group.layer].T
        self._bases = bases
        self._trail = Trail(group)
        self.steps = group.turns

    def begin_round(self, first_step: int, last_step: int) -> None:
        """Look ahead over the steps of a round, as far as it does not matter what they find."""
        places, self._valid = self._group.stretch(first_step, last_step)
        self._places, self._first_step = places, first_step
        self._all_valid = bool(self._valid.all())
        if self._bases is None:
            wide, narrow = self._surroundings.means(places)
            wide *= self._taps[0]
            narrow *= self._taps[1]
            wide += narrow
            self._mean = wide
        else:
            self._mean = self._bases[places.first].astype(np.float64)
        quarter = self._surroundings.layer_quarters()[self._group.layer]
        width = self._surroundings.width(places)
        self._widths = classify(self._layers, width, quarter, has_base=self._bases is not None)

    def expect(self, step: int) -> tuple[Places, Contexts]:
        """Return where the lanes stand at this step of the round, and the contexts there."""
        turn = step - self._first_step
        lanes = slice(None) if self._all_valid else self._valid[turn].nonzero()[0]
        places, mean = self._places.take(turn, lanes), self._mean[turn, lanes]
        if self._bases is None:
            mean = mean + self._trail.means(places) * self._taps[TRAIL_TAP, lanes]
        self._standing = places
        return places, self._widths.take((turn, lanes)).around(mean)

    def note(self, codes: Codes) -> None:
        """Take note of the codes that were found at the last step."""
        if self._bases is None:
            self._trail.note(self._standing, codes)


class KernelWalk:
    """Lanes over cells that are kernels, position after position; each position looks at those before it."""

    def __init__(
        self,
        group: LaneGroup,
        surroundings: Surroundings,
        statistics: Index,
        parameters: Sequence[Parameters],
    ) -> None:
        """Prepare the walk; the arguments are those of `PointWalk`."""
        self._group = group
        self._surroundings = surroundings
        self._statistics = statistics
        self._positions = positions(group.grid.height, group.grid.width)
        own = np.zeros((len(parameters), max(parameters[layer].size for layer in group.layer)), np.float32)
        for layer in np.unique(group.layer):
            own[layer] = parameters[layer]
        self._parameters = own
        self.steps = group.turns * group.grid.positions
        self._lanes = -1

    def begin_round(self, first_step: int, last_step: int) -> None:
        """Nothing to look ahead for: each position depends on the one before."""

    def expect(self, step: int) -> tuple[Places, Contexts]:
        """Return where the lanes stand at this step, and the contexts there."""
        turn, self._place = divmod(step, len(self._positions))
        if self._place == 0:
            self._enter(turn)
        position = self._positions[self._place]
        mean, width = self._channel_mean, self._taps[position.channels] * self._channel_width
        if position.count:
            before = self._codes[position.before]
            mean = mean + MEAN_UNIT * np.einsum("ij,ij->j", before, self._taps[position.mean])
            sizes = np.einsum("ij,ij->j", np.abs(before), self._taps[position.width])
            width += sizes * np.float64(1 << WIDTH_BITS)
        width = np.maximum(width, 1.0) * (1 / TAP_UNIT)
        contexts = classify(self._layers, width, self._quarters, has_base=False).around(mean)
        cell = self._cell
        return Places(cell.wide, cell.narrow, cell.first + self._place, cell.strand), contexts

    def note(self, codes: Codes) -> None:
        """Take note of the codes that were found at the last step."""
        self._codes[self._place] = np.minimum(np.maximum(codes, -MEAN_LIMIT), MEAN_LIMIT)

    def _enter(self, turn: int) -> None:
        """Step onto the next cells."""
        places, valid = self._group.stretch(turn, turn + 1)
        lanes = valid[0].nonzero()[0]
        self._cell = places.take(0, lanes)
        if lanes.size != self._lanes:
            self._lanes = lanes.size
            self._tensors = self._group.layer[lanes]
            self._taps = np.ascontiguousarray(self._parameters[self._tensors].T)
            self._layers = self._statistics[self._tensors]
            self._codes = np.zeros((len(self._positions), self._lanes), np.float32)
        self._quarters = self._surroundings.layer_quarters()[self._tensors]
        wide, narrow = self._surroundings.means(self._cell)
        self._channel_mean = wide * self._taps[0] + narrow * self._taps[1]
        self._channel_width = self._surroundings.width(self._cell)
