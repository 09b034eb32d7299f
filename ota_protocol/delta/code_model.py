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

from ota_protocol.delta.contexts import MAX_LAYERS, OCTAVES, Contexts, octave_and_sign, table_sizes
from ota_protocol.delta.kernel_taps import Parameters
from ota_protocol.delta.magnitude_choice import DIRECT, MagnitudeChoice, least, split
from ota_protocol.delta.mixing import SHARE_UNIT, Decision
from ota_protocol.delta.rounds import rounds
from ota_protocol.delta.surroundings import Surroundings
from ota_protocol.delta.traversal import Grid, lane_groups
from ota_protocol.delta.walks import KernelWalk, PointWalk

SMALL: Final = 3
"""Magnitudes below this are told by decisions alone."""

_LARGEST: Final = 2**31 - 1
_ALL_LEARN: Final = 64
_HALF_LEARN: Final = 128
"""After so many steps every other one is learnt from, then every fourth: it takes time and adds little by then."""

Index = NDArray[np.intp]
Codes = NDArray[np.int32]
Flags = NDArray[np.bool_]


class Coder(Protocol):
    """Either end: the encoder is told what is wanted and passes it on, the decoder finds out."""

    def begin_step(self, left: int) -> None: ...

    def flags(self, chances: NDArray[np.uint32], wanted: Flags | None) -> Flags: ...

    def choices(self, ends: NDArray[np.uint32], wanted: Index | None) -> Index: ...

    def plain(self, widths: Index, wanted: NDArray[np.uint32] | None) -> NDArray[np.uint32]: ...


def expected_shares(codes: Codes) -> list[int]:
    """Return, in 1 / SHARE_UNIT, the share of codes beyond 0, and of those the share beyond 1, up to SMALL."""
    beyond = [int(np.count_nonzero(np.abs(codes) > bound)) for bound in range(SMALL)]
    among = [codes.size, *beyond[:-1]]
    shares = [SHARE_UNIT * part // max(1, whole) for part, whole in zip(beyond, among, strict=True)]
    return [min(max(share, 1), SHARE_UNIT - 1) for share in shares]


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
        shares: Sequence[int],
        coder: Coder,
        decision: type[Decision] = Decision,
    ) -> None:
        """Prepare the pass.

        Args:
            grids: of the tensors.
            has_base: for each tensor, whether both ends know a base of it.
            bases: the bases' codes; as many as there are codes, or none at all.
            parameters: per tensor, see `kernel_taps`.
            classes: magnitude classes in use.
            shares: how often to expect codes other than zero, and those beyond 1, 2, …; see `expected_shares`.
            coder: either end.
            decision: what makes the decisions; another class can watch them.
        """
        layers = min(max(len(grids), 1), MAX_LAYERS)
        statistics = np.arange(len(grids)) * layers // max(len(grids), 1)
        self._surroundings = Surroundings(grids)
        self._codes = np.zeros(sum(grid.codes for grid in grids), np.int32)
        self._walks: list[KernelWalk | PointWalk] = []
        for group in lane_groups(grids, has_base):
            common = group, self._surroundings, statistics, parameters
            if group.grid.positions > 1:
                self._walks.append(KernelWalk(*common))
            else:
                self._walks.append(PointWalk(*common, bases=bases if group.has_base else None))
        kinds = len(self._walks)
        sizes = table_sizes(layers)
        self._nonzero, self._negative = decision(sizes, kinds, shares[0]), decision(sizes, kinds)
        self._beyond = [decision([2 * size for size in sizes], kinds, share) for share in shares[1:]]
        self._magnitude = MagnitudeChoice(layers, 2 * OCTAVES, classes)
        self._coder = coder

    def run(self, wanted: Codes | None) -> Codes:
        """Code all codes.

        Args:
            wanted: the encoder's (n,) codes, of all tensors one after another; None at the decoder.

        Returns:
            (n,) codes.
        """
        steps = max((walk.steps for walk in self._walks), default=0)
        for first_step, last_step in rounds(steps):
            self._refresh()
            for walk in self._walks:
                if first_step < walk.steps:
                    walk.begin_round(first_step, last_step)
            for step in range(first_step, last_step):
                self._coder.begin_step(steps - step)
                self._step(step, wanted)
        return self._codes

    def _refresh(self) -> None:
        self._surroundings.refresh()
        self._magnitude.refresh()
        for decision in (self._nonzero, self._negative, *self._beyond):
            decision.refresh()

    def _step(self, step: int, wanted: Codes | None) -> None:
        """Code one code in each lane."""
        standing = [(walk, *walk.expect(step)) for walk in self._walks if step < walk.steps]
        places = np.concatenate([place.first for _, place, _ in standing])
        sizes = {id(walk): place.first.size for walk, place, _ in standing}
        ends = np.cumsum([sizes.get(id(walk), 0) for walk in self._walks]).tolist()
        contexts = Contexts.join([context for _, _, context in standing])
        self._learns = step < _ALL_LEARN or step % (2 if step < _HALF_LEARN else 4) == 0
        found = self._tell(contexts, ends, None if wanted is None else wanted[places])
        self._codes[places] = found
        first = 0
        for walk, place, _ in standing:
            own = found[first : first + place.first.size]
            self._surroundings.note(place, own)
            walk.note(own)
            first += own.size

    def _tell(self, contexts: Contexts, ends: Sequence[int], truth: Codes | None) -> Codes:
        """Code one code for each context; `ends` says where each walk's lanes end."""
        is_nonzero = self._ask(self._nonzero, contexts, ends, None if truth is None else truth != 0)
        codes = np.zeros(is_nonzero.size, np.int32)
        chosen = is_nonzero.nonzero()[0]
        contexts, ends = contexts.take(chosen), chosen.searchsorted(ends).tolist()
        is_negative = self._ask(self._negative, contexts, ends, None if truth is None else truth[chosen] < 0)
        magnitudes = self._magnitudes(
            contexts.split(is_negative), ends, None if truth is None else np.abs(truth[chosen])
        )
        codes[chosen] = np.where(is_negative, -magnitudes, magnitudes)
        return codes

    def _magnitudes(self, contexts: Contexts, ends: Sequence[int], truth: Codes | None) -> Codes:
        """Code magnitudes above 0: what is above the plain bits, then those."""
        if contexts.shift is None:
            return self._steps(contexts, ends, truth)
        above = None if truth is None else ((truth - 1) >> contexts.shift).astype(np.int32) + 1
        steps = self._steps(contexts, ends, above).astype(np.intp)
        shifted = contexts.shift.nonzero()[0]
        width = contexts.shift[shifted]
        below = None if truth is None else ((truth[shifted] - 1) & ((1 << width) - 1)).astype(np.uint32)
        steps[shifted] = ((steps[shifted] - 1) << width) + self._coder.plain(width, below) + 1
        return np.minimum(steps, _LARGEST).astype(np.int32)

    def _steps(self, contexts: Contexts, ends: Sequence[int], truth: Codes | None) -> Codes:
        """Code numbers above 0 by decisions and classes."""
        steps = np.ones(contexts.tables.shape[1], np.int32)
        chosen = np.arange(steps.size)
        for bound, decision in enumerate(self._beyond, start=1):
            is_beyond = self._ask(decision, contexts, ends, None if truth is None else truth[chosen] > bound)
            kept = is_beyond.nonzero()[0]
            chosen = chosen[kept]
            steps[chosen] += 1
            contexts, ends = contexts.take(kept), kept.searchsorted(ends).tolist()
        steps[chosen] += self._excess(contexts, None if truth is None else truth[chosen])
        return steps

    def _ask(self, decision: Decision, contexts: Contexts, ends: Sequence[int], wanted: Flags | None) -> Flags:
        flags = self._coder.flags(decision.predict(contexts.tables, ends), wanted)
        decision.learn(flags, keep=self._learns)
        return flags

    def _excess(self, contexts: Contexts, truth: Codes | None) -> Codes:
        """Code by how much each number is above `SMALL`."""
        places = octave_and_sign(contexts)
        classes, below, _ = (None, None, None) if truth is None else split(truth.astype(np.int64) - SMALL)
        classes = self._coder.choices(self._magnitude.intervals(places), classes)
        self._magnitude.learn(places, classes)
        if classes.max(initial=0) < DIRECT:
            return classes.astype(np.int32)
        excess, width = least(classes)
        excess += self._coder.plain(width, below)
        return np.minimum(excess, _LARGEST - SMALL).astype(np.int32)
