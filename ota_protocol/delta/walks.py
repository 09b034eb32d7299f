"""Owns how lanes walk over their cells, and what each expects of the code it stands on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.contexts import Contexts, base_step, classify, mean_step
from ota_protocol.delta.kernel_taps import CHANNEL_TAPS, TAP_UNIT, Parameters, positions
from ota_protocol.delta.surroundings import MEAN_LIMIT, MEAN_UNIT, WIDTH_BITS, Surroundings
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
        self.steps = group.turns

    def begin_round(self, first_step: int, last_step: int) -> None:
        """Look ahead over the steps of a round."""
        self._places, self._valid = self._group.stretch(first_step, last_step)
        self._all_valid = bool(self._valid.all())
        self._contexts = self._expect(self._places)
        self._first_step = first_step

    def expect(self, step: int) -> tuple[Places, Contexts]:
        """Return where the lanes stand at this step of the round, and the contexts there."""
        turn = step - self._first_step
        lanes = slice(None) if self._all_valid else self._valid[turn].nonzero()[0]
        return self._places.take(turn, lanes), self._contexts.take((turn, lanes))

    def note(self, codes: Codes) -> None:
        """Take note of the codes that were found at the last step."""

    def _expect(self, places: Places) -> Contexts:
        if self._bases is None:
            wide, narrow = self._surroundings.means(places)
            wide *= self._taps[0]
            narrow *= self._taps[1]
            wide += narrow
            mean = mean_step(wide)
        else:
            mean = base_step(self._bases[places.first])
        width = self._surroundings.width(places)
        quarter = self._surroundings.layer_quarters()[self._group.layer]
        return classify(self._layers, width, quarter, mean, has_base=self._bases is not None)


class KernelWalk:
    """Lanes over cells that are kernels, position after position; each position looks at those before it."""

    def __init__(
        self, group: LaneGroup, surroundings: Surroundings, statistics: Index, parameters: Sequence[Parameters]
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
        if position.before:
            before = self._codes[position.before, :]
            mean = mean + MEAN_UNIT * np.einsum("ij,ij->j", before, self._taps[position.mean, :])
            sizes = np.einsum("ij,ij->j", np.abs(before), self._taps[position.width, :])
            width = width + sizes.astype(np.float64) * (1 << WIDTH_BITS)
        width = np.maximum(width, 1.0) * (1 / TAP_UNIT)
        contexts = classify(self._layers, width, self._quarters, mean_step(mean), has_base=False)
        cell = self._cell
        return Places(cell.wide, cell.narrow, cell.first + self._place), contexts

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
