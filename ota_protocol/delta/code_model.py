"""Owns the model that codes the integer codes of a network's tensors; encoder and decoder run the same one.

A code is told in yes-or-no decisions, as in CABAC (Marpe, Schwarz and Wiegand 2003) and its use for networks,
DeepCABAC (Wiedemann et al. 2020, arXiv:1907.11900): is it zero, is it negative, is it beyond one, beyond two; what
remains is one choice among magnitude classes. Each decision mixes three predictions (`mixing`), whose contexts are
the layer, the width expected here and the mean expected here (`surroundings`, `kernel_taps`), or, where both ends
hold a base, the base's code in place of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.contexts import MAX_LAYERS, MEAN_STEPS, OCTAVES, RELATIVES, WIDTHS, Contexts
from ota_protocol.delta.kernel_taps import Parameters
from ota_protocol.delta.magnitude_choice import MagnitudeChoice, split
from ota_protocol.delta.mixing import Decision
from ota_protocol.delta.rounds import rounds
from ota_protocol.delta.surroundings import Surroundings
from ota_protocol.delta.traversal import Grid, lane_groups
from ota_protocol.delta.walks import KernelWalk, PointWalk

SMALL: Final = 3
"""Magnitudes below this are told by decisions alone."""

_SIDES: Final = 2 * MEAN_STEPS + 1

Index = NDArray[np.intp]
Codes = NDArray[np.int32]
Flags = NDArray[np.bool_]


class Coder(Protocol):
    """Either end: the encoder is told what is wanted and passes it on, the decoder finds out."""

    def begin_step(self, left: int) -> None: ...

    def flags(self, chances: NDArray[np.uint32], wanted: Flags | None) -> Flags: ...

    def choices(self, ends: NDArray[np.uint32], wanted: Index | None) -> Index: ...


class CodeModel:
    """One pass over all codes of a network, at either end."""

    def __init__(
        self,
        grids: Sequence[Grid],
        has_base: Sequence[bool],
        bases: Codes,
        parameters: Sequence[Parameters],
        *,
        classes: int,
        coder: Coder,
    ) -> None:
        """Prepare the pass.

        Args:
            grids: of the tensors.
            has_base: for each tensor, whether both ends know a base of it.
            bases: the bases' codes; as many as there are codes, or none at all.
            parameters: per tensor, see `kernel_taps`.
            classes: magnitude classes in use.
            coder: either end.
        """
        layers = min(max(len(grids), 1), MAX_LAYERS)
        statistics = np.arange(len(grids)) * layers // max(len(grids), 1)
        self._surroundings = Surroundings(grids)
        self._walks = [
            KernelWalk(group, self._surroundings, statistics, parameters)
            if group.grid.positions > 1
            else PointWalk(group, self._surroundings, statistics, parameters, bases if group.has_base else None)
            for group in lane_groups(grids, has_base)
        ]
        self._count = sum(grid.codes for grid in grids)
        kinds = len(self._walks)
        fine, coarse = layers * RELATIVES, layers * OCTAVES
        one_sided = MEAN_STEPS + 1
        self._nonzero = Decision((fine, 2 * WIDTHS * one_sided, coarse * one_sided), kinds)
        self._negative = Decision((fine, 2 * WIDTHS * _SIDES, coarse * _SIDES), kinds)
        self._beyond = [Decision((2 * fine, 2 * WIDTHS * _SIDES, 2 * coarse * _SIDES), kinds) for _ in range(1, SMALL)]
        self._magnitude = MagnitudeChoice(2 * coarse, classes)
        self._coder = coder

    def run(self, wanted: Codes | None) -> Codes:
        """Code all codes.

        Args:
            wanted: the encoder's (n,) codes, of all tensors one after another; None at the decoder.

        Returns:
            (n,) codes; a magnitude of SMALL or more is SMALL plus the number of its class.
        """
        codes = np.zeros(self._count, np.int32)
        steps = max((walk.steps for walk in self._walks), default=0)
        for first_step, last_step in rounds(steps):
            self._refresh()
            for walk in self._walks:
                if first_step < walk.steps:
                    walk.begin_round(first_step, last_step)
            for step in range(first_step, last_step):
                self._coder.begin_step(steps - step)
                self._step(step, codes, wanted)
        return codes

    def _refresh(self) -> None:
        self._surroundings.refresh()
        self._magnitude.refresh()
        for decision in (self._nonzero, self._negative, *self._beyond):
            decision.refresh()

    def _step(self, step: int, codes: Codes, wanted: Codes | None) -> None:
        """Code one code in each lane."""
        standing = [(walk, *walk.expect(step)) for walk in self._walks if step < walk.steps]
        places = np.concatenate([place.first for _, place, _ in standing])
        sizes = {id(walk): place.first.size for walk, place, _ in standing}
        ends = np.cumsum([sizes.get(id(walk), 0) for walk in self._walks]).tolist()
        contexts = Contexts.join([context for _, _, context in standing])
        found = self._tell(contexts, ends, None if wanted is None else wanted[places])
        codes[places] = found
        first = 0
        for walk, place, _ in standing:
            own = found[first : first + place.first.size]
            self._surroundings.note(place, own)
            walk.note(own)
            first += own.size

    def _tell(self, contexts: Contexts, ends: Sequence[int], truth: Codes | None) -> Codes:
        """Code one code for each context; `ends` says where each walk's lanes end."""
        steps = np.abs(contexts.mean - MEAN_STEPS)
        near = MEAN_STEPS + 1
        tables = (contexts.fine, contexts.width * near + steps, contexts.coarse * near + steps)
        is_nonzero = self._ask(self._nonzero, tables, ends, None if truth is None else truth != 0)
        magnitudes = is_nonzero.astype(np.int32)
        chosen = is_nonzero.nonzero()[0]
        left = contexts.take(chosen)
        ends = np.searchsorted(chosen, ends).tolist()
        tables = (left.fine, left.width * _SIDES + left.mean, left.coarse * _SIDES + left.mean)
        is_negative = self._ask(self._negative, tables, ends, None if truth is None else truth[chosen] < 0)
        signs = chosen, is_negative
        mean = np.where(is_negative, 2 * MEAN_STEPS - left.mean, left.mean)
        tables = (
            2 * left.fine + is_negative,
            left.width * _SIDES + mean,
            2 * (left.coarse * _SIDES + mean) + is_negative,
        )
        last = 2 * left.coarse + is_negative
        for least, decision in enumerate(self._beyond, start=1):
            is_beyond = self._ask(decision, tables, ends, None if truth is None else np.abs(truth[chosen]) > least)
            kept = is_beyond.nonzero()[0]
            chosen = chosen[kept]
            magnitudes[chosen] += 1
            ends = np.searchsorted(kept, ends).tolist()
            tables = tables[0][kept], tables[1][kept], tables[2][kept]
            last = last[kept]
        classes = None if truth is None else split(np.abs(truth[chosen].astype(np.int64)) - SMALL)[0]
        found = self._coder.choices(self._magnitude.intervals(last), classes)
        self._magnitude.learn(last, found)
        magnitudes[chosen] += found.astype(np.int32)
        magnitudes[signs[0][signs[1]]] *= -1
        return magnitudes

    def _ask(
        self, decision: Decision, tables: tuple[Index, Index, Index], ends: Sequence[int], wanted: Flags | None
    ) -> Flags:
        flags = self._coder.flags(decision.predict(tables, ends), wanted)
        decision.learn(flags)
        return flags
