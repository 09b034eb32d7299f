"""Owns what is known about a code's surroundings: how large, and of which sign, the codes of its channels were.

Weights of a layer follow one shape of distribution whose width differs between output channels and input channels.
The width expected of a code is width of one channel × width of the other / width of the layer, each a mean magnitude
so far, shrunk towards what it is part of. Whole numbers throughout; floats hold integers below 2**53.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.fixed_log import quarter_octaves
from ota_protocol.delta.traversal import Grid, Places

ENERGY_LIMIT: Final = 255
"""Magnitudes above this count as this, so that one huge code does not blind its channel."""
MEAN_LIMIT: Final = 255
"""Codes beyond ± this count as this in means and predictions."""
MEAN_UNIT: Final = 64
WIDTH_BITS: Final = 28
"""A width is a whole number of 2**-28."""

_RATIO_BITS: Final = 12
_ENERGY_BITS: Final = WIDTH_BITS - _RATIO_BITS
_LAYER_PRIOR: Final = 16
_CHANNEL_PRIOR: Final = 32
_MEAN_PRIOR: Final = 12

_PACK: Final = 1 << 26
"""A round's magnitudes add up to less than this: 9 steps of 29,000 lanes."""

Whole = NDArray[np.float64]


class Surroundings:
    """Sums over the channels of all tensors; what was noted shows after the next `refresh`."""

    def __init__(self, grids: Sequence[Grid]) -> None:
        self._wide_layer = np.repeat(np.arange(len(grids)), [grid.wide for grid in grids])
        self._narrow_layer = np.repeat(np.arange(len(grids)), [grid.narrow for grid in grids])
        self._wide = np.zeros((3, self._wide_layer.size), np.int64)
        self._narrow = np.zeros((3, self._narrow_layer.size), np.int64)
        self._layers = len(grids)
        self._noted: list[tuple[Places, NDArray[np.int32]]] = []
        self.refresh()

    def note(self, places: Places, codes: NDArray[np.int32]) -> None:
        """Take note of the (n,) codes that turned out to be at these places."""
        self._noted.append((places, codes))

    def refresh(self) -> None:
        """Let what was noted enter widths and means."""
        if self._noted:
            codes = np.concatenate([codes for _, codes in self._noted])
            packed = np.minimum(np.abs(codes), ENERGY_LIMIT).astype(np.float64)
            packed += _PACK * np.minimum(np.maximum(codes, -MEAN_LIMIT), MEAN_LIMIT)
            _add(self._wide, np.concatenate([places.wide for places, _ in self._noted]), packed)
            _add(self._narrow, np.concatenate([places.narrow for places, _ in self._noted]), packed)
            self._noted.clear()
        self._set_widths()
        self._wide_mean = _mean(self._wide)
        self._narrow_mean = _mean(self._narrow)

    def width(self, places: Places) -> Whole:
        """Return the expected magnitude at each place, in 2**-WIDTH_BITS, at least 1."""
        return self._wide_width.take(places.wide) * self._narrow_ratio.take(places.narrow)

    def means(self, places: Places) -> tuple[Whole, Whole]:
        """Return the mean code of each place's channels, of the longer and of the shorter side, in 1 / MEAN_UNIT."""
        return self._wide_mean.take(places.wide), self._narrow_mean.take(places.narrow)

    def layer_quarters(self) -> NDArray[np.int32]:
        """Return the quarter octave of each layer's own width, (layers,)."""
        return self._layer_quarters

    def _set_widths(self) -> None:
        layer_count = np.bincount(self._wide_layer, self._wide[0], minlength=self._layers).astype(np.int64)
        layer_sum = np.bincount(self._wide_layer, self._wide[1], minlength=self._layers).astype(np.int64)
        overall = (int(layer_sum.sum()) + 4 << _ENERGY_BITS) // (int(layer_count.sum()) + 4)
        layer = _shrunk(layer_sum, layer_count, overall, _LAYER_PRIOR)
        wide = _shrunk(self._wide[1], self._wide[0], layer[self._wide_layer], _CHANNEL_PRIOR)
        own = layer[self._narrow_layer]
        narrow = _shrunk(self._narrow[1], self._narrow[0], own, _CHANNEL_PRIOR)
        self._wide_width: Whole = wide.astype(np.float64)
        self._narrow_ratio: Whole = np.maximum((narrow << _RATIO_BITS) // own, 1).astype(np.float64)
        self._layer_quarters = quarter_octaves(layer.astype(np.float64) * (1 << _RATIO_BITS))


def _add(table: NDArray[np.int64], index: NDArray[np.intp], packed: Whole) -> None:
    """Add to counts, magnitudes and sums of codes; `packed` holds a magnitude and a code, which sum up in one go."""
    size = table.shape[1]
    sums = np.bincount(index, packed, minlength=size).astype(np.int64)
    magnitudes = sums & (_PACK - 1)
    table += np.stack([np.bincount(index, minlength=size), magnitudes, (sums - magnitudes) // _PACK])


def _mean(table: NDArray[np.int64]) -> Whole:
    mean: Whole = (table[2] * MEAN_UNIT // (table[0] + _MEAN_PRIOR)).astype(np.float64)
    return mean


def _shrunk(
    sums: NDArray[np.int64], counts: NDArray[np.int64], towards: NDArray[np.int64] | int, weight: int
) -> NDArray[np.int64]:
    """Return the mean in 2**-_ENERGY_BITS as if `weight` more codes had the magnitude `towards`; at least 1."""
    mean: NDArray[np.int64] = ((sums << _ENERGY_BITS) + weight * towards) // (counts + weight)
    return np.maximum(mean, 1)
