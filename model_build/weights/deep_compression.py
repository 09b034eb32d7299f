"""Owns the file in which the paper's authors released their compressed SqueezeNet 1.0 (pruned, 256 shared weights).

Layout, little-endian: for each of the 26 convolutions the count of stored weights (uint32); then per convolution a
codebook (256 float32), the biases (float32), one code a stored weight (uint8), and the zeros before each stored
weight as 4-bit runs, two a byte, low nibble first: position = cumsum(run + 1) - 1 in (O, I, kh, kw) order. Source:
Han, Mao, Dally, "Deep Compression" (2016, arXiv:1510.00149), and the released decoder's layout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model_build.network import FloatLayer
from model_build.squeezenet import Convolution, squeezenet_1_0
from ota_protocol.errors import MalformedError

CODEBOOK_ENTRIES = 256


def parse(data: bytes, what: str) -> dict[str, FloatLayer]:
    """Return the layers of the file, decompressed.

    Raises:
        MalformedError: it is truncated, has trailing bytes, or a weight lies outside its kernel.
    """
    convolutions = squeezenet_1_0().convolutions
    reader = _Reader(data, what)
    counts = reader.take(np.dtype("<u4"), len(convolutions))
    layers = {
        convolution.name: _layer(reader, convolution, int(count))
        for convolution, count in zip(convolutions, counts, strict=True)
    }
    reader.require_end()
    return layers


class _Reader:
    """Takes arrays off the front of the file, never beyond its end."""

    def __init__(self, data: bytes, what: str) -> None:
        self._rest = memoryview(data)
        self.what = what

    def take(self, dtype: np.dtype[np.generic], count: int) -> NDArray[np.generic]:
        length = count * dtype.itemsize
        if length > len(self._rest):
            raise MalformedError(f"{self.what} is truncated", remedy="copy the file again")
        taken, self._rest = self._rest[:length], self._rest[length:]
        return np.frombuffer(taken, dtype)

    def require_end(self) -> None:
        if self._rest:
            raise MalformedError(f"{self.what} has {len(self._rest)} bytes too many", remedy="copy the file again")


def _layer(reader: _Reader, convolution: Convolution, count: int) -> FloatLayer:
    size = int(np.prod(convolution.kernel_shape))
    if count > size:
        raise MalformedError(
            f"{reader.what} stores {count:,} weights of {convolution.name}, which has only {size:,}",
            remedy="give the compressed SqueezeNet 1.0 that the paper's authors released",
        )
    codebook = reader.take(np.dtype("<f4"), CODEBOOK_ENTRIES)
    bias = reader.take(np.dtype("<f4"), convolution.outputs)
    codes = reader.take(np.dtype(np.uint8), count)
    packed = reader.take(np.dtype(np.uint8), (count + 1) // 2).astype(np.int64)
    runs = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count]
    positions = np.cumsum(runs + 1) - 1
    if count and positions[-1] >= size:
        raise MalformedError(f"{reader.what}: a weight of {convolution.name} lies outside its kernel")
    kernel = np.zeros(size, np.float32)
    kernel[positions] = codebook[codes]
    return FloatLayer(kernel.reshape(convolution.kernel_shape), bias.astype(np.float32))
