"""Owns which codes of a kernel integer kernels add up in 16 bits, and how large both may be.

On processors without VNNI, products of 8-bit activations and codes are added two by two in 16 bits, which saturate
(vpmaddubsw of AVX2 and AVX-512): 255 × (|a| + |b|) fits for |a| + |b| ≤ 128. Two codes are added that follow each other
in memory, where channels lie innermost, and the first of which has an even place.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_build.export import memory_channels

PAIR_LIMIT: Final = 128
ALONE: Final = -1
"""Partner of a code that is added to a zero."""

Index = NDArray[np.intp]


def partners(inputs: int, kernel_px: int) -> Index:
    """Return for each column of a kernel, (inputs × kernel_px², ), the column that it is added to, or `ALONE`."""
    channels, positions = memory_channels(inputs, kernel_px), kernel_px**2
    place = np.arange(positions * channels)
    position, channel = np.divmod(place, channels)
    column = np.where(channel < inputs, channel * positions + position, ALONE)
    other = place ^ 1
    partner = np.where(other < place.size, column[np.minimum(other, place.size - 1)], ALONE)
    found = np.empty(inputs * positions, np.intp)
    found[column[column != ALONE]] = partner[column != ALONE]
    return found


def rooms(codes: NDArray[np.integer], partner: Index) -> NDArray[np.int32]:
    """Return how large each code may become, (outputs, width), if the larger of a pair keeps its size.

    Args:
        codes: (outputs, width), none of whose pairs is above the limit.
        partner: of each column.
    """
    half = PAIR_LIMIT // 2
    own = np.maximum(np.abs(codes.astype(np.int32)), half)
    other = np.where(partner == ALONE, half, own[:, partner])
    return np.where(own > half, own, PAIR_LIMIT - other).astype(np.int32)
