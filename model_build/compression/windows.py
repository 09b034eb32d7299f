"""Owns the sample of windows that a convolution's kernel is multiplied with, and the moments taken over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_build.squeezenet import Convolution

LEAST_A_PICTURE = 64
"""Windows of a layer's input that count for one picture at least; neighbours overlap and add little."""
WANTED = 16_384
"""Windows of all pictures together: thirty times the widest kernel's 576 weights, so that moments are not noise."""

Windows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Picks the same windows of a layer's input whenever it is asked.

    Args:
        convolution: the layer.
        per_picture: windows taken from each picture, or all if there are fewer.
        seed: of the choice.
    """

    convolution: Convolution
    per_picture: int
    seed: int

    def sample(self, values: NDArray[np.float32], portion: int) -> Windows:
        """Return (windows, inputs × height × width), each flattened as the kernel is.

        Args:
            values: (N, inputs, side, side) of one portion, before padding.
            portion: its number.
        """
        one = self.convolution
        pad = ((0, 0), (0, 0), (one.padding, one.padding), (one.padding, one.padding))
        view = np.lib.stride_tricks.sliding_window_view(np.pad(values, pad), (one.kernel_px,) * 2, axis=(2, 3))
        view = view[:, :, :: one.stride, :: one.stride]
        places = self._places(len(values), view.shape[2] * view.shape[3], portion)
        picture, row, column = np.unravel_index(places, (len(values), view.shape[2], view.shape[3]))
        return np.ascontiguousarray(view[picture, :, row, column]).reshape(len(places), -1)

    def _places(self, pictures: int, positions: int, portion: int) -> NDArray[np.int64]:
        chance = np.random.default_rng([self.seed, portion])
        count = min(self.per_picture, positions)
        chosen = [chance.choice(positions, count, replace=False) + index * positions for index in range(pictures)]
        return np.concatenate(chosen).astype(np.int64)


def windows_a_picture(pictures: int) -> int:
    """Return how many windows each of `pictures` gives."""
    return max(LEAST_A_PICTURE, -(-WANTED // pictures))


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """First and second moments of a layer's input in the reference (r) and in the compressed network (c).

    Args:
        mean_reference, mean_compressed: (width,) float64.
        second: (width, width) float64, covariance of c with itself.
        cross: (width, width) float64, covariance of r (rows) with c (columns).
    """

    mean_reference: NDArray[np.float64]
    mean_compressed: NDArray[np.float64]
    second: NDArray[np.float64]
    cross: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What one portion adds to the moments."""

    count: int
    reference: NDArray[np.float64]
    compressed: NDArray[np.float64]
    second: NDArray[np.float64]
    cross: NDArray[np.float64]


def sums(reference: Windows, compressed: Windows) -> Sums:
    """Return the sums over the windows of one portion, (windows, width) each."""
    return Sums(
        len(compressed),
        reference.sum(axis=0, dtype=np.float64),
        compressed.sum(axis=0, dtype=np.float64),
        (compressed.T @ compressed).astype(np.float64),
        (reference.T @ compressed).astype(np.float64),
    )


def moments(parts: Sequence[Sums]) -> Moments:
    """Return the moments over all portions, added up in their order."""
    count = sum(part.count for part in parts)
    reference = sum(part.reference for part in parts) / count
    compressed = sum(part.compressed for part in parts) / count
    second = sum(part.second for part in parts) / count - np.outer(compressed, compressed)
    cross = sum(part.cross for part in parts) / count - np.outer(reference, compressed)
    return Moments(np.asarray(reference), np.asarray(compressed), second, cross)
