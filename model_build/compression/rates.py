"""Owns what a code costs in bits, as the rounding is told: entropy tables of the codes as they stand.

The coder of `ota_protocol.delta` adapts to the size of a code's neighbours. The tables follow it roughly: codes are
classed by what the mean magnitudes of their row and of their column lead one to expect, one table a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.code_length import code_lengths

CLASSES = 6
"""Tables a layer: more would split the few codes of small layers too thinly."""
LEAST_A_CLASS = 2000
"""Codes that a table is counted from at least."""
_KNOWN_CLASSES = 4
"""Tables for a change from a base release's code: by its magnitude 0, 1, 2, and more."""

Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Bits of each possible code of each weight.

    Args:
        bits: (classes, 2 × reach + 1) float32; entry (c, reach + d) is the price of a code d above its origin.
        classes: (outputs, width) of each weight.
        origin: (outputs, width): 0, or the code that the other end knows already.
    """

    bits: NDArray[np.float32]
    classes: NDArray[np.intp]
    origin: Codes

    def column(self, index: int, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the bits of `codes`, (..., outputs), in column `index`."""
        reach = self.bits.shape[1] // 2
        above = np.clip(codes.astype(np.intp) - self.origin[:, index], -reach, reach) + reach
        return np.asarray(self.bits[self.classes[:, index], above])

    def total(self, codes: Codes) -> float:
        """Return the bits of all codes, (outputs, width)."""
        reach = self.bits.shape[1] // 2
        above = np.clip(codes - self.origin, -reach, reach) + reach
        return float(self.bits[self.classes, above].sum(dtype=np.float64))


def rates_of(codes: Codes, reach: int) -> Rates:
    """Return the prices under the statistics of `codes`, (outputs, width), sent without a base."""
    size = np.abs(codes).astype(np.float64)
    mean = max(size.mean(), 1e-9)
    expected = np.outer(size.mean(axis=1) + 0.02 * mean, size.mean(axis=0) + 0.02 * mean)
    count = max(1, min(CLASSES, codes.size // LEAST_A_CLASS))
    edges = np.quantile(expected, np.arange(1, count) / count)
    classes = np.searchsorted(edges, expected)
    return Rates(_tables(codes, classes, count, reach), classes, np.zeros_like(codes))


def rates_above(codes: Codes, base: Codes, reach: int) -> Rates:
    """Return the prices under the statistics of `codes` where the other end holds `base`, both (outputs, width)."""
    classes = np.minimum(np.abs(base), _KNOWN_CLASSES - 1).astype(np.intp)
    return Rates(_tables(codes - base, classes, _KNOWN_CLASSES, 2 * reach), classes, base)


def _tables(values: Codes, classes: NDArray[np.intp], count: int, reach: int) -> NDArray[np.float32]:
    tables = [code_lengths(values[classes == index], reach) for index in range(count)]
    return np.asarray(tables, np.float32)
