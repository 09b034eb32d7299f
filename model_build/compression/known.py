"""Owns what a base release holds: the codes and steps that a delta-aware compression starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_build.network import Network, QuantizedLayer
from ota_protocol.errors import RequestError


@dataclass(frozen=True, slots=True, eq=False)
class KnownLayer:
    """One layer of the base release.

    Args:
        codes: (outputs, width) int32.
        steps: (outputs,) float64, size of a step in each output channel.
        bias: (outputs,) float32.
        layer: as the file holds it.
    """

    codes: NDArray[np.int32]
    steps: NDArray[np.float64]
    bias: NDArray[np.float32]
    layer: QuantizedLayer


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """A release that vehicles hold.

    Args:
        network: read back from its file.
        artifact: the file.
    """

    network: Network
    artifact: bytes


def known_layers(base: Network, network: Network) -> dict[str, KnownLayer]:
    """Return by the name of each convolution what `base` holds of it.

    Raises:
        RequestError: `base` is of another architecture, or was not compressed.
    """
    remedy = "give a release of the same architecture that compress or export wrote"
    if base.architecture != network.architecture:
        raise RequestError(f"the base is a {base.architecture.name} of another shape", remedy=remedy)
    return {name: _known(name, layer, remedy) for name, layer in base.layers.items()}


def _known(name: str, layer: object, remedy: str) -> KnownLayer:
    if not isinstance(layer, QuantizedLayer):
        raise RequestError(f"the base holds {name} in float32", remedy=remedy)
    outputs = len(layer.bias)
    steps = np.broadcast_to(layer.scale, outputs).astype(np.float64)
    return KnownLayer(layer.codes.reshape(outputs, -1).astype(np.int32), steps, layer.bias, layer)
