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

WIDTHS: Final = 23
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
_MEAN_EDGES: Final = (61, 154, 307, 512, 768, 1024, 1434, 2048, 3072)
_MEAN_REACH: Final = 4 * MEAN_SCALE

Index = NDArray[np.intp]
Whole = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contexts:
    """What the decisions about (n,) codes depend on, for each of a decision's tables."""

    tables: tuple[Index, Index, Index]
    """Layer with relative width; width with mean, apart for codes with a base; layer with octave and mean."""

    def take(self, chosen: Index | tuple[int, Index | slice]) -> Contexts:
        """Return the contexts of the chosen codes."""
        fine, wide, coarse = self.tables
        return Contexts((fine[chosen], wide[chosen], coarse[chosen]))

    def split(self, flags: NDArray[np.bool_]) -> Contexts:
        """Return the contexts told apart by a flag each; there are twice as many then."""
        fine, wide, coarse = self.tables
        return Contexts((2 * fine + flags, 2 * wide + flags, 2 * coarse + flags))

    @classmethod
    def join(cls, parts: Sequence[Contexts]) -> Contexts:
        """Return the contexts of all parts, one after another."""
        if len(parts) == 1:
            return parts[0]
        fine, wide, coarse = (np.concatenate(columns) for columns in zip(*(part.tables for part in parts), strict=True))
        return cls((fine, wide, coarse))


def table_sizes(layers: int) -> tuple[int, int, int]:
    """Return how many contexts each table has to tell apart."""
    return layers * RELATIVES, 2 * WIDTHS * MEANS, layers * OCTAVES * MEANS


def classify(layer: Index, width: Whole, layer_quarter: NDArray[np.int32], mean: Index, *, has_base: bool) -> Contexts:
    """Return the contexts of (n,) codes.

    Args:
        layer: which statistics they share, below MAX_LAYERS.
        width: expected magnitude, in 2**-WIDTH_BITS, above 0.
        layer_quarter: quarter octave of the layer's own width.
        mean: step of the expected mean.
        has_base: the mean is a base's code.
    """
    quarter = quarter_octaves(width)
    relative = np.minimum(np.maximum(quarter - (layer_quarter - RELATIVES // 2), 0), RELATIVES - 1)
    step = np.minimum(np.maximum(quarter - _NARROWEST, 0), WIDTHS - 1)
    own = step + WIDTHS if has_base else step
    return Contexts((layer * RELATIVES + relative, own * MEANS + mean, (layer * OCTAVES + (step >> 2)) * MEANS + mean))


def octave_and_sign(contexts: Contexts) -> Index:
    """Return layer, octave and flag of contexts told apart by a flag, without the mean."""
    doubled = contexts.tables[2]
    return doubled // (2 * MEANS) * 2 + (doubled & 1)


def mean_step(mean: Whole) -> Index:
    """Return the step of each expected mean, given in 1 / MEAN_SCALE."""
    return _mean_table().take((mean + _MEAN_REACH).astype(np.intp), mode="clip")


def base_step(base: NDArray[np.int32]) -> Index:
    """Return the step that stands for each base's code."""
    return np.minimum(np.maximum(base, -MEAN_STEPS), MEAN_STEPS).astype(np.intp) + MEAN_STEPS


@cache
def _mean_table() -> Index:
    upper = np.searchsorted(_MEAN_EDGES, np.arange(_MEAN_REACH + 1), side="right")
    return np.concatenate([MEAN_STEPS - upper[:0:-1], MEAN_STEPS + upper]).astype(np.intp)
