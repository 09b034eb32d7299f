"""Owns what is known about a code's surroundings: how large, and of which sign, the codes of its row and column were.

Weights of a layer follow one shape of distribution whose width differs between output channels (rows) and input
channels (columns). The width expected of a code is row width × column width / layer width, each a mean magnitude so
far, shrunk towards what it is part of. Whole numbers throughout; floats hold integers below 2**53.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.fixed_log import quarter_octaves
from ota_protocol.delta.traversal import Grid, Stretch

ENERGY_LIMIT: Final = 15
"""Magnitudes above this count as this, so that one huge code does not blind its row."""
MEAN_LIMIT: Final = 8
"""Codes beyond ± this count as this in means and predictions."""
MEAN_UNIT: Final = 64
WIDTH_BITS: Final = 28
"""A width is a whole number of 2**-28."""

_RATIO_BITS: Final = 12
_ENERGY_BITS: Final = WIDTH_BITS - _RATIO_BITS
_LAYER_PRIOR: Final = 16
_CHANNEL_PRIOR: Final = 4
_MEAN_PRIOR: Final = 6

Whole = NDArray[np.float64]


class Surroundings:
    """Sums over rows, columns and layers of all tensors; what was noted shows after the next `refresh`."""

    def __init__(self, grids: Sequence[Grid]) -> None:
        self._row_layer = np.repeat(np.arange(len(grids)), [grid.rows for grid in grids])
        self._column_layer = np.repeat(np.arange(len(grids)), [grid.columns for grid in grids])
        self._rows = np.zeros((3, self._row_layer.size), np.int64)
        self._columns = np.zeros((3, self._column_layer.size), np.int64)
        self._layers = len(grids)
        self._noted: list[tuple[Stretch, NDArray[np.int32]]] = []
        self.refresh()

    def note(self, places: Stretch, codes: NDArray[np.int32]) -> None:
        """Take note of the (n,) codes that turned out to be at these places."""
        self._noted.append((places, codes))

    def refresh(self) -> None:
        """Let what was noted enter widths and means."""
        if self._noted:
            codes = np.concatenate([codes for _, codes in self._noted])
            self._add(self._rows, np.concatenate([places.row for places, _ in self._noted]), codes)
            self._add(self._columns, np.concatenate([places.column for places, _ in self._noted]), codes)
            self._noted.clear()
        self._set_widths()
        self._row_mean = self._mean(self._rows)
        self._column_mean = self._mean(self._columns)

    def width(self, places: Stretch) -> Whole:
        """Return the expected magnitude at each place, (n,), in 2**-WIDTH_BITS, at least 1."""
        return self._row_width[places.row] * self._column_ratio[places.column]

    def means(self, places: Stretch) -> tuple[Whole, Whole]:
        """Return the mean code of each place's row and of its column, (n,) each, in 1 / MEAN_UNIT."""
        return self._row_mean[places.row], self._column_mean[places.column]

    def layer_quarters(self) -> NDArray[np.int32]:
        """Return the quarter octave of each layer's own width, (layers,)."""
        return self._layer_quarters

    @staticmethod
    def _add(table: NDArray[np.int64], index: NDArray[np.intp], codes: NDArray[np.int32]) -> None:
        magnitudes = np.minimum(np.abs(codes), ENERGY_LIMIT)
        clipped = np.minimum(np.maximum(codes, -MEAN_LIMIT), MEAN_LIMIT)
        size = table.shape[1]
        table[0] += np.bincount(index, minlength=size)
        table[1] += np.bincount(index, magnitudes, minlength=size).astype(np.int64)
        table[2] += np.bincount(index, clipped, minlength=size).astype(np.int64)

    def _set_widths(self) -> None:
        layer_count = np.bincount(self._row_layer, self._rows[0], minlength=self._layers).astype(np.int64)
        layer_sum = np.bincount(self._row_layer, self._rows[1], minlength=self._layers).astype(np.int64)
        overall = (int(layer_sum.sum()) + 4 << _ENERGY_BITS) // (int(layer_count.sum()) + 4)
        layer = _shrunk(layer_sum, layer_count, overall, _LAYER_PRIOR)
        row = _shrunk(self._rows[1], self._rows[0], layer[self._row_layer], _CHANNEL_PRIOR)
        own = layer[self._column_layer]
        column = _shrunk(self._columns[1], self._columns[0], own, _CHANNEL_PRIOR)
        self._row_width: Whole = row.astype(np.float64)
        self._column_ratio: Whole = np.maximum((column << _RATIO_BITS) // own, 1).astype(np.float64)
        self._layer_quarters = quarter_octaves(layer.astype(np.float64) * (1 << _RATIO_BITS))

    @staticmethod
    def _mean(table: NDArray[np.int64]) -> Whole:
        mean: Whole = (table[2] * MEAN_UNIT // (table[0] + _MEAN_PRIOR)).astype(np.float64)
        return mean


def _shrunk(
    sums: NDArray[np.int64], counts: NDArray[np.int64], towards: NDArray[np.int64] | int, weight: int
) -> NDArray[np.int64]:
    """Return the mean in 2**-_ENERGY_BITS as if `weight` more codes had the magnitude `towards`; at least 1."""
    mean: NDArray[np.int64] = ((sums << _ENERGY_BITS) + weight * towards) // (counts + weight)
    return np.maximum(mean, 1)
