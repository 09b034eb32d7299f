"""Owns the contexts of a code's decisions: which layer, how wide, around which mean, each in a few steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.fixed_log import quarter_octaves
from ota_protocol.delta.kernel_taps import TAP_UNIT
from ota_protocol.delta.surroundings import MEAN_UNIT, WIDTH_BITS

WIDTHS: Final = 21
"""Quarter octaves of width told apart."""
OCTAVES: Final = 6
RELATIVES: Final = 13
"""Quarter octaves of width against the layer's own."""
MEAN_STEPS: Final = 9
"""Steps of the expected mean to either side of none."""
MEANS: Final = 2 * MEAN_STEPS + 1
MEAN_SCALE: Final = MEAN_UNIT * TAP_UNIT
"""A mean is a whole number of 2**-10."""
MAX_LAYERS: Final = 64
"""In networks of more tensors, neighbours share the statistics of a layer."""

_NARROWEST: Final = 4 * (127 + WIDTH_BITS) - 13
"""The quarter octave of a width of 2**-3.25; narrower ones are taken together."""
_WIDE: Final = WIDTHS - 4
"""From here on, 2 codes wide, each octave has one more plain bit, which keeps what is modelled below 4 codes."""
_MAX_SHIFT: Final = 7
_MEAN_EDGES: Final = (61, 154, 307, 512, 768, 1024, 1434, 2048, 3072)
_MEAN_REACH: Final = 4 * MEAN_SCALE
_SHRINK: Final = 0.5 ** np.arange(_MAX_SHIFT + 1)

Index = NDArray[np.intp]
Whole = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contexts:
    """What the decisions about (n,) codes depend on, for each of a decision's tables."""

    tables: Index
    """(3, n): layer with relative width; width with mean, apart for codes with a base; layer with octave and mean."""
    shift: Index | None
    """How many low bits of each magnitude less one are plain; None where it is none of any."""

    def take(self, chosen: Index) -> Contexts:
        """Return the contexts of the chosen codes."""
        return Contexts(self.tables.take(chosen, axis=1), self.shift if self.shift is None else self.shift[chosen])

    def split(self, flags: NDArray[np.bool_]) -> Contexts:
        """Return the contexts told apart by a flag each; there are twice as many then."""
        tables = self.tables << 1
        tables += flags
        return Contexts(tables, self.shift)

    @classmethod
    def join(cls, parts: Sequence[Contexts]) -> Contexts:
        """Return the contexts of all parts, one after another."""
        if len(parts) == 1:
            return parts[0]
        tables = np.concatenate([part.tables for part in parts], axis=1)
        if all(part.shift is None for part in parts):
            return cls(tables, None)
        shifts = [np.zeros(part.tables.shape[1], np.intp) if part.shift is None else part.shift for part in parts]
        return cls(tables, np.concatenate(shifts))


def table_sizes(layers: int) -> tuple[int, int, int]:
    """Return how many contexts each table has to tell apart."""
    return layers * RELATIVES, 2 * WIDTHS * MEANS, layers * OCTAVES * MEANS


@dataclass(frozen=True, slots=True)
class Widths:
    """What contexts take from the expected widths, for codes in an array of any shape."""

    fine: Index
    wide: Index
    coarse: Index
    shift: Index | None
    has_base: bool

    def take(self, chosen: tuple[int, Index | slice]) -> Widths:
        """Return the widths of the chosen codes."""
        shift = self.shift if self.shift is None else self.shift[chosen]
        return Widths(self.fine[chosen], self.wide[chosen], self.coarse[chosen], shift, self.has_base)

    def around(self, mean: Whole) -> Contexts:
        """Return the contexts of codes with these widths.

        Args:
            mean: expected mean in 1 / MEAN_SCALE, or the base's code.
        """
        if self.shift is not None:
            mean = mean * _SHRINK[self.shift]
        place = _base_step(mean) if self.has_base else _mean_step(mean)
        tables = np.empty((3, place.size), np.intp)
        tables[0] = self.fine
        np.add(self.wide, place, out=tables[1])
        np.add(self.coarse, place, out=tables[2])
        return Contexts(tables, self.shift)


def classify(layer: Index, width: Whole, layer_quarter: NDArray[np.int32], *, has_base: bool) -> Widths:
    """Return what contexts take from the widths.

    Args:
        layer: which statistics the codes share, below MAX_LAYERS.
        width: expected magnitude, in 2**-WIDTH_BITS, above 0.
        layer_quarter: quarter octave of the layer's own width.
        has_base: whether both ends know a base's code.
    """
    quarter = quarter_octaves(width)
    relative = np.minimum(np.maximum(quarter - (layer_quarter - RELATIVES // 2), 0), RELATIVES - 1)
    step = np.maximum(quarter - _NARROWEST, 0).astype(np.intp)
    shift = None
    if step.max(initial=0) >= WIDTHS:
        shift = np.minimum(np.maximum(step - _WIDE, 0) >> 2, _MAX_SHIFT)
        step = np.minimum(step - 4 * shift, WIDTHS - 1)
    coarse = (layer * OCTAVES + (step >> 2)) * MEANS
    step += WIDTHS * has_base
    step *= MEANS
    return Widths(layer * RELATIVES + relative, step, coarse, shift, has_base)


def octave_and_sign(contexts: Contexts) -> Index:
    """Return layer, octave and flag of contexts told apart by a flag, without the mean."""
    doubled = contexts.tables[2]
    apart: Index = doubled // (2 * MEANS) * 2 + (doubled & 1)
    return apart


def _mean_step(mean: Whole) -> Index:
    """Return the step of each expected mean."""
    return _mean_table().take((mean + _MEAN_REACH).astype(np.intp), mode="clip")


def _base_step(base: Whole) -> Index:
    """Return the step that stands for each base's code."""
    return np.rint(np.minimum(np.maximum(base, -MEAN_STEPS), MEAN_STEPS)).astype(np.intp) + MEAN_STEPS


@cache
def _mean_table() -> Index:
    upper = np.searchsorted(_MEAN_EDGES, np.arange(_MEAN_REACH + 1), side="right")
    return np.concatenate([MEAN_STEPS - upper[:0:-1], MEAN_STEPS + upper]).astype(np.intp)
