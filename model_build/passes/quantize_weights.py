"""Owns rounding weights to 8 bits, one step per output channel, each column's error fed into the columns after it.

Source: the column-wise second-order rounding of Frantar et al., "GPTQ" (2023, arXiv:2210.17323), which rests on
Optimal Brain Compression (Frantar, Singh, Alistarh, 2022, arXiv:2208.11580): with H the second moment of the layer's
input, rounding column j by error e is best made up for by adding -e · [H⁻¹]ⱼₖ/[H⁻¹]ⱼⱼ to every later column k. The
bias then takes up what is left of the mean output (Nagel et al., "Data-Free Quantization", 2019, arXiv:1906.04721).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_build.layer_inputs import InputMoments, measure
from model_build.network import FloatLayer, Network, QuantizedLayer
from ota_protocol.errors import RequestError

LIMIT = 127
"""Largest code: -128 is left out, so that a kernel and its negative have the same steps."""
DAMPING = 0.01
"""Share of H's mean diagonal that is added to its diagonal, as in GPTQ: inputs that never fire stay invertible."""
_MEASURING = 0.7
"""Share of the pass's time that goes into the moments, for the progress bar."""


@dataclass(frozen=True, eq=False)
class QuantizeWeights:
    """Rounds every layer to int8.

    Args:
        images: (N, 3, side, side) preprocessed calibration pictures.
    """

    images: NDArray[np.float32]

    @property
    def name(self) -> str:
        return f"quantize_weights(int8 per channel, error feedback, {len(self.images)} pictures)"

    def require(self, network: Network) -> None:
        if not len(self.images):
            raise RequestError("quantisation needs calibration pictures", remedy="give a folder of photographs")
        if not all(isinstance(layer, FloatLayer) for layer in network.layers.values()):
            raise RequestError("the network is quantised already", remedy="start from float weights")

    def rewrite(self, network: Network, progress: Callable[[float], None]) -> Network:
        moments = measure(network, self.images, lambda share: progress(_MEASURING * share))
        layers = {}
        for done, (name, layer) in enumerate(network.layers.items(), start=1):
            assert isinstance(layer, FloatLayer)
            layers[name] = quantize(layer, moments[name])
            progress(_MEASURING + (1 - _MEASURING) * done / len(network.layers))
        return Network(network.architecture, layers, network.activations)

    def ensure(self, before: Network, after: Network) -> None:
        assert before.layers.keys() == after.layers.keys()
        assert all(isinstance(layer, QuantizedLayer) for layer in after.layers.values())


def quantize(layer: FloatLayer, moments: InputMoments) -> QuantizedLayer:
    """Return `layer` in 8 bits, rounded for inputs with the given moments."""
    outputs = len(layer.bias)
    flat = layer.kernel.reshape(outputs, -1).astype(np.float64)
    scale = (np.abs(flat).max(axis=1) / LIMIT).astype(np.float32)
    scale[scale == 0] = np.float32(1)
    steps = scale.astype(np.float64)[:, np.newaxis]
    codes = round_with_feedback(flat / steps, moments.second)
    drift = ((flat - codes * steps) @ moments.mean).astype(np.float32)
    return QuantizedLayer(codes.astype(np.int8).reshape(layer.kernel.shape), scale, layer.bias + drift)


def round_with_feedback(values: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return whole numbers in -LIMIT ... LIMIT that keep the layer's output near that of `values`.

    Args:
        values: (outputs, width), in steps.
        second: (width, width), the second moment of the layer's input.
    """
    rest, codes = values.copy(), np.empty_like(values)
    factor = _inverse_factor(second)
    for column in range(values.shape[1]):
        codes[:, column] = np.rint(rest[:, column]).clip(-LIMIT, LIMIT)
        error = (rest[:, column] - codes[:, column]) / factor[column, column]
        rest[:, column + 1 :] -= np.outer(error, factor[column, column + 1 :])
    return codes


def _inverse_factor(second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper Cholesky factor of the damped H⁻¹: row j holds what column j's error does to those after it."""
    width = len(second)
    damping = DAMPING * np.trace(second) / width or 1.0
    inverse = np.linalg.inv(second + damping * np.eye(width))
    return np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T, np.float64)
