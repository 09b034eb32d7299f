"""Owns what calibration pictures feed into each convolution: the moments that rounding and bias correction use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_build.export import IMAGE, input_of, to_onnx
from model_build.inference import Session, batches
from model_build.network import Network
from model_build.squeezenet import Convolution

POSITIONS_PER_PICTURE = 400
"""Windows of a layer's input that count for one picture; neighbours overlap, so more add time and little knowledge."""


@dataclass(frozen=True, slots=True, eq=False)
class InputMoments:
    """Moments of the windows that one convolution multiplies its kernel with, flattened as (inputs, height, width).

    Args:
        mean: (width,) float64.
        second: (width, width) float64, the mean of the outer product of a window with itself.
    """

    mean: NDArray[np.float64]
    second: NDArray[np.float64]


def measure(
    network: Network, images: NDArray[np.float32], progress: Callable[[float], None] | None = None
) -> dict[str, InputMoments]:
    """Return by the name of each convolution the moments of its input over `images`, (N, 3, side, side) preprocessed.

    Args:
        progress: called with the share that is done, from 0 to 1.
    """
    reads = input_of(network)
    tensors = sorted(set(reads.values()) - {IMAGE})
    session = Session(to_onnx(network, expose=tensors), optimized=False)
    sums = {convolution.name: _Sums() for convolution in network.architecture.convolutions}
    done = 0
    for batch in batches(images):
        values: Mapping[str, NDArray[np.float32]] = {
            IMAGE: batch,
            **dict(zip(tensors, session.run(batch, tensors), strict=True)),
        }
        for convolution in network.architecture.convolutions:
            sums[convolution.name].add(windows(values[reads[convolution.name]], convolution))
        done += len(batch)
        if progress is not None:
            progress(done / len(images))
    return {name: total.moments() for name, total in sums.items()}


def windows(values: NDArray[np.float32], convolution: Convolution) -> NDArray[np.float32]:
    """Return evenly spread windows of a layer's input: (windows, inputs × height × width) float32.

    Args:
        values: (N, inputs, side, side), before padding.
    """
    kernel, padding = convolution.kernel_px, convolution.padding
    padded = np.pad(values, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    every = convolution.stride * max(
        1, round((view.shape[2] ** 2 / convolution.stride**2 / POSITIONS_PER_PICTURE) ** 0.5)
    )
    spread = view[:, :, ::every, ::every].transpose(0, 2, 3, 1, 4, 5)
    return np.ascontiguousarray(spread).reshape(-1, convolution.inputs * kernel * kernel)


class _Sums:
    """Adds up one layer's windows, batch after batch."""

    def __init__(self) -> None:
        self._count = 0
        self._first: NDArray[np.float64] | float = 0.0
        self._second: NDArray[np.float64] | float = 0.0

    def add(self, found: NDArray[np.float32]) -> None:
        self._count += len(found)
        self._first = self._first + found.sum(axis=0, dtype=np.float64)
        self._second = self._second + (found.T @ found).astype(np.float64)

    def moments(self) -> InputMoments:
        return InputMoments(np.asarray(self._first) / self._count, np.asarray(self._second) / self._count)
