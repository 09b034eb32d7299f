"""A SqueezeNet of a thousand weights and photographs to match, for tests that compress many times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model_build.network import FloatLayer, Network
from model_build.squeezenet import Architecture, Convolution, Fire, MaxPool
from tests.support.networks import random_network

SIDE_PX = 31
SURENESS = 8
"""What the head is divided by: logits then differ by a few units, so that neither one class nor none is certain."""


def tiny_architecture() -> Architecture:
    """Return a network with every kind of stage, 10 classes."""
    return Architecture(
        "tiny",
        (
            Convolution("conv1", 3, 12, kernel_px=3, stride=2),
            MaxPool("pool1"),
            Fire("fire2", 12, 6, 10, 10),
            Fire("fire3", 20, 8, 12, 12),
            MaxPool("pool3"),
            Convolution("conv10", 24, 10),
        ),
        input_px=SIDE_PX,
    )


def tiny_network(seed: int = 0) -> Network:
    """Return it with weights drawn by chance, and a head that leaves several classes likely."""
    network = random_network(tiny_architecture(), seed)
    head = network.layers["conv10"]
    return network.with_layer("conv10", FloatLayer((head.kernel / SURENESS).astype(np.float32), head.bias))


def smooth_images(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return preprocessed pictures whose neighbouring pixels go together, (count, 3, SIDE_PX, SIDE_PX)."""
    chance = np.random.default_rng(seed)
    coarse = chance.normal(0, 60, (count, 3, 8, 8)).astype(np.float32)
    return np.ascontiguousarray(coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, :SIDE_PX, :SIDE_PX])
