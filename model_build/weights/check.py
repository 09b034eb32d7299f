"""Owns the check that every loaded file passes before it becomes a network. No files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from model_build.network import FloatLayer, Network
from model_build.squeezenet import Architecture, Convolution, released
from ota_protocol.errors import MalformedError

MAX_CLASSES = 20_000
"""The manifest's bound on labels; a head beyond it is no classifier of pictures."""

_REMEDY = "give weights of SqueezeNet 1.0 or 1.1"


def network_of(layers: Mapping[str, FloatLayer], what: str, architecture: Architecture | None = None) -> Network:
    """Return the float network that `layers` make.

    Args:
        layers: by the name of the convolution.
        what: the file, for the error's text.
        architecture: the one they must be of; None detects it.

    Raises:
        MalformedError: a layer is missing, unknown, wrongly shaped or not finite, or no architecture fits.
    """
    chosen = _detect(layers, what) if architecture is None else _with_head_of(architecture, layers, what)
    wanted = {convolution.name for convolution in chosen.convolutions}
    if strange := sorted(layers.keys() ^ wanted):
        state = "lacks" if strange[0] in wanted else "has a layer that the network has not:"
        raise MalformedError(f"{what} {state} {strange[0]!r} of {chosen.name}", remedy=_REMEDY)
    for convolution in chosen.convolutions:
        _check_layer(convolution, layers[convolution.name], what)
    return Network(chosen, dict(layers))


def _detect(layers: Mapping[str, FloatLayer], what: str) -> Architecture:
    first = layers.get("conv1")
    for architecture in released():
        if first is not None and first.kernel.shape == architecture.convolutions[0].kernel_shape:
            return _with_head_of(architecture, layers, what)
    seen = "no conv1" if first is None else f"conv1 of shape {first.kernel.shape}"
    raise MalformedError(f"{what} is of another architecture ({seen})", remedy=_REMEDY)


def _with_head_of(architecture: Architecture, layers: Mapping[str, FloatLayer], what: str) -> Architecture:
    """Return `architecture` with as many classes as the weights have: a head may have been replaced."""
    head = layers.get(architecture.head.name)
    if head is None or head.bias.ndim != 1:
        return architecture
    if not 1 <= len(head.bias) <= MAX_CLASSES:
        raise MalformedError(f"{what} has {len(head.bias)} classes, 1 to {MAX_CLASSES:,} are possible", remedy=_REMEDY)
    return architecture.with_classes(len(head.bias))


def _check_layer(convolution: Convolution, layer: FloatLayer, what: str) -> None:
    for name, array, shape in (
        ("kernel", layer.kernel, convolution.kernel_shape),
        ("bias", layer.bias, (convolution.outputs,)),
    ):
        where = f"{what}: {name} of {convolution.name}"
        if array.dtype != np.float32:
            raise MalformedError(
                f"{where} is {array.dtype}, float32 is needed", remedy="convert the weights to float32"
            )
        if array.shape != shape:
            raise MalformedError(f"{where} has shape {array.shape}, {shape} is needed", remedy=_REMEDY)
        if not np.isfinite(array).all():
            raise MalformedError(f"{where} holds NaN or infinity", remedy="train or download the weights again")
