"""Owns how much each layer matters: the measured KL of the whole network for a unit of error in that layer's output.

Each layer in turn is rounded at one nominal step, with all others left as trained, and the network's answers are
compared: a measured version of the sensitivities of Dong et al., "HAWQ" (2019, arXiv:1905.03696), that needs no
derivative and sees errors of the size and shape that compression makes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model_build.compression.flow import Workers
from model_build.compression.rates import rates_of
from model_build.compression.reference import Reference
from model_build.compression.rounding import LIMIT, layer_problem, round_with_rate
from model_build.evaluate import closeness
from model_build.export import to_onnx
from model_build.inference import Session
from model_build.network import FloatLayer

PICTURES = 24
"""Pictures that a layer is judged by: the figure enters under a square root, so a tenth of error is no harm."""
LEAST = 1e-15
"""Sensitivity of a layer that no picture tells from its rounded self: any step will do, but a number is needed."""
NOMINAL_STEP = 0.3
"""Step in standard deviations of the layer's weights: about where the search ends."""


def sensitivities(reference: Reference, threads: Workers, progress: Callable[[float], None]) -> dict[str, float]:
    """Return by the name of each convolution nats of KL for each unit of the cost of its `LayerProblem`."""
    network = reference.network
    images = np.concatenate(reference.images)
    images = images[:: max(1, len(images) // PICTURES)]
    wanted = Session(to_onnx(network)).probabilities(images)
    done: list[str] = []

    def measure(name: str) -> float:
        layer, cost = _rounded(reference, name)
        found = Session(to_onnx(network.with_layer(name, layer))).probabilities(images)
        done.append(name)
        progress(len(done) / len(network.layers))
        return max(LEAST, closeness(found, wanted)["kl"] / max(cost, 1e-30))

    return dict(zip(network.layers, threads.map(measure, list(network.layers)), strict=True))


def _rounded(reference: Reference, name: str) -> tuple[FloatLayer, float]:
    """Return one layer rounded at the nominal step, and the cost of that."""
    layer, found = reference.network.layers[name], reference.moments(name)
    problem = layer_problem(layer.kernel, found)
    size = max(NOMINAL_STEP * float(layer.kernel.std()), float(np.abs(problem.target).max()) / LIMIT, 1e-12)
    steps = np.full(len(layer.bias), size)
    none = rates_of(np.zeros(problem.target.shape, np.int32), LIMIT)
    weights = round_with_rate(problem, steps, 0.0, none).astype(np.float64) * size
    flat = layer.kernel.reshape(len(layer.bias), -1)
    drift = ((flat - weights) @ found.mean_reference).astype(np.float32)
    return FloatLayer(weights.reshape(layer.kernel.shape).astype(np.float32), layer.bias + drift), problem.cost(weights)
