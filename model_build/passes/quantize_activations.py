"""Owns the pass that holds activations in 8 bits, so that runtimes pick integer kernels; it leaves weights alone.

One scale a tensor, no zero point after ReLU: the range that loses least, in squares, between clipping what is large and
rounding what is left (as in Banner et al., "Post-training 4-bit quantization of convolutional networks", 2019,
arXiv:1810.05723, here by trying ranges). Tensors that pooling or concatenation joins share a scale, so that both work
on the integers themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_build.compression.eight_bits import LEVELS, round_trip
from model_build.export import IMAGE, to_onnx
from model_build.inference import Session, batches
from model_build.network import ActivationScale, Network
from model_build.squeezenet import Architecture, Convolution, Fire
from ota_protocol.errors import RequestError

PICTURES = 64
"""Pictures that ranges are taken from; more move them by less than a step."""
VALUES_A_PICTURE = 4096
"""Values of a tensor that count for one picture."""
RANGES = np.linspace(0.4, 1.0, 25)
"""Shares of the largest value that are tried as the range."""


@dataclass(frozen=True, eq=False)
class QuantizeActivations:
    """Puts every activation, and the picture, into 8 bits.

    Args:
        images: (N, 3, side, side) preprocessed calibration pictures.
    """

    images: NDArray[np.float32]

    @property
    def name(self) -> str:
        return f"quantize_activations(uint8, {min(len(self.images), PICTURES)} pictures)"

    def require(self, network: Network) -> None:
        if not len(self.images):
            raise RequestError("8-bit activations need calibration pictures", remedy="give a folder of photographs")
        if network.activations:
            raise RequestError("the activations are in 8 bits already", remedy="start from the uncompressed network")

    def rewrite(self, network: Network, progress: Callable[[float], None]) -> Network:
        groups = shared(network.architecture)
        tensors = [name for group in groups for name in group if name in network.layers]
        chosen = self.images[:: max(1, len(self.images) // PICTURES)]
        samples = _samples(network, chosen, tensors, progress)
        activations = {IMAGE: _image_scale(self.images)}
        for group in groups:
            scale = _scale(np.concatenate([samples[name] for name in group if name in samples]))
            activations.update({name: ActivationScale(scale, 0) for name in group})
        progress(1.0)
        return replace(network, activations=activations)

    def ensure(self, before: Network, after: Network) -> None:
        assert set(before.layers) | {IMAGE} <= set(after.activations)
        assert all(one.scale > 0 for one in after.activations.values())


def shared(architecture: Architecture) -> tuple[tuple[str, ...], ...]:
    """Return the tensors that `export` names, grouped by the scale that they share."""
    groups: list[tuple[str, ...]] = []
    for stage in architecture.stages:
        if isinstance(stage, Fire):
            squeeze, *expands = stage.convolutions
            groups += [(squeeze.name,), (*(expand.name for expand in expands), stage.name)]
        elif isinstance(stage, Convolution):
            groups.append((stage.name,))
        else:
            groups[-1] = (*groups[-1], stage.name)
    return tuple(groups)


def _samples(
    network: Network, images: NDArray[np.float32], tensors: list[str], progress: Callable[[float], None]
) -> dict[str, NDArray[np.float32]]:
    """Return values of each tensor: evenly spread ones, and the largest of each batch."""
    session = Session(to_onnx(network, expose=tensors), optimized=False)
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    for done, batch in enumerate(batches(images), start=1):
        for name, values in zip(tensors, session.run(batch, tensors), strict=True):
            flat = values.reshape(-1)
            every = max(1, flat.size // (VALUES_A_PICTURE * len(batch)))
            found[name] += [flat[::every], flat.max(keepdims=True)]
        progress(min(1.0, done * len(batch) / len(images)))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _scale(values: NDArray[np.float32]) -> float:
    """Return the scale that loses least over `values`, all of them at least 0."""
    largest = float(values.max())
    if largest <= 0:
        return 1.0
    scales = [float(np.float32(largest * share / LEVELS)) for share in RANGES]
    losses = [float(((round_trip(values, ActivationScale(scale, 0)) - values) ** 2).sum()) for scale in scales]
    return scales[int(np.argmin(losses))]


def _image_scale(images: NDArray[np.float32]) -> ActivationScale:
    """Return the scale that holds the whole range of the pictures, which lie on both sides of 0."""
    low, high = min(float(images.min()), 0.0), max(float(images.max()), 0.0)
    scale = float(np.float32((high - low) / LEVELS)) or 1.0
    return ActivationScale(scale, round(-low / scale))
