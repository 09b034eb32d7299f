"""Owns what the uncompressed network does on the calibration pictures: windows of every layer's input, kept once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model_build.compression.flow import Convolver, Portions, Workers, flow
from model_build.compression.windows import Moments, Sampler, Windows, moments, sums, windows_a_picture
from model_build.network import Network
from model_build.squeezenet import Convolution


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The uncompressed network on the calibration pictures.

    Args:
        network: uncompressed.
        images: the pictures, in portions.
        samplers: by convolution.
        windows: by convolution, the windows of each portion.
    """

    network: Network
    images: Portions
    samplers: Mapping[str, Sampler]
    windows: Mapping[str, list[Windows]]

    def moments(self, name: str) -> Moments:
        """Return the moments of a layer's input where nothing is compressed yet."""
        return moments([sums(part, part) for part in self.windows[name]])


def observe(network: Network, images: Portions, threads: Workers, progress: Callable[[float], None]) -> Reference:
    """Return what `network` does on `images`.

    Args:
        images: portions of (N, 3, side, side) float32, preprocessed.
    """
    convolutions = network.architecture.convolutions
    each = windows_a_picture(sum(len(part) for part in images))
    samplers = {one.name: Sampler(one, each, index) for index, one in enumerate(convolutions)}
    windows: dict[str, list[Windows]] = {}

    def convolve(one: Convolution, values: Portions) -> Portions:
        sampler, layer = samplers[one.name], network.layers[one.name]
        windows[one.name] = threads.map(lambda item: sampler.sample(item[1], item[0]), list(enumerate(values)))
        progress(len(windows) / len(convolutions))
        if one is convolutions[-1]:
            return values
        return threads.map(Convolver(one, layer.kernel, layer.bias), values)

    flow(network.architecture, images, convolve, threads)
    return Reference(network, images, samplers, windows)
