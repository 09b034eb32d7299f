"""Owns the frozen value that passes rewrite: an architecture with its weights, float or quantised. No files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from model_build.squeezenet import Architecture


@dataclass(frozen=True, slots=True, eq=False)
class FloatLayer:
    """A convolution's weights as trained.

    Args:
        kernel: (outputs, inputs, height, width) float32.
        bias: (outputs,) float32.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedLayer:
    """A convolution's weights as 8-bit codes: kernel = codes × scale (symmetric, zero point 0).

    Args:
        codes: (outputs, inputs, height, width) int8, in -127 ... 127.
        scale: (outputs,) float32 for one step per output channel, or () for one step per layer.
        bias: (outputs,) float32.
    """

    codes: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def kernel(self) -> NDArray[np.float32]:
        """The kernel that the codes stand for: (outputs, inputs, height, width) float32."""
        scale = self.scale.reshape(-1, 1, 1, 1) if self.scale.ndim else self.scale
        return self.codes.astype(np.float32) * scale


Layer = FloatLayer | QuantizedLayer


@dataclass(frozen=True, slots=True)
class ActivationScale:
    """How an activation is held in 8 bits: value = (code - zero_point) × scale, code in 0 ... 255."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """An architecture with its weights; `weights.check` makes one from a loaded file, passes make the next from it.

    Args:
        layers: by the name of the convolution, one for each of `architecture.convolutions`.
        activations: by tensor name as `export` gives them; absent ones stay float32.
    """

    architecture: Architecture
    layers: Mapping[str, Layer]
    activations: Mapping[str, ActivationScale] = field(default_factory=dict)

    def with_layer(self, name: str, layer: Layer) -> Network:
        """Return the same network with the weights of one convolution replaced."""
        return replace(self, layers={**self.layers, name: layer})
