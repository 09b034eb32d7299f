"""Owns compressing all layers, one after another, each for the outputs of those that are compressed already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model_build.compression.eight_bits import round_trip
from model_build.compression.flow import Convolver, Portions, Values, Workers, flow
from model_build.compression.layer import LayerFigures, compress_layer
from model_build.compression.plan import Plan
from model_build.compression.reference import Reference
from model_build.compression.windows import Moments, Sums, Windows, moments, sums
from model_build.export import IMAGE
from model_build.network import Network, QuantizedLayer
from model_build.squeezenet import Convolution


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """A compressed network and how each layer came out."""

    network: Network
    figures: Mapping[str, LayerFigures]

    @property
    def bits(self) -> float:
        """Bits of all codes, by the tables that priced them."""
        return sum(one.bits for one in self.figures.values())


def walk(reference: Reference, plan: Plan, threads: Workers, progress: Callable[[float], None]) -> Walked:
    """Return the network compressed as `plan` says."""
    network = reference.network
    layers: dict[str, QuantizedLayer] = {}
    figures: dict[str, LayerFigures] = {}

    def convolve(one: Convolution, values: Portions) -> Portions:
        found = _moments(reference, one, values, threads)
        layer, figures[one.name] = compress_layer(one.name, network.layers[one.name], found, plan)
        layers[one.name] = layer
        progress(len(layers) / len(network.layers))
        if one is network.architecture.head:
            return values
        convolver = Convolver(one, layer.kernel, layer.bias)
        return threads.map(lambda value: _held(plan, one.name, convolver(value)), values)

    images = threads.map(lambda value: _held(plan, IMAGE, value), reference.images)
    flow(network.architecture, images, convolve, threads)
    return Walked(Network(network.architecture, layers, plan.activations), figures)


def _held(plan: Plan, name: str, values: Values) -> Values:
    """Return a tensor as the compressed network holds it."""
    held = plan.activations.get(name)
    return values if held is None else round_trip(values, held)


def _moments(reference: Reference, one: Convolution, values: Portions, threads: Workers) -> Moments:
    sampler = reference.samplers[one.name]

    def add(item: tuple[int, Values, Windows]) -> Sums:
        portion, value, window = item
        return sums(window, sampler.sample(value, portion))

    return moments(threads.map(add, list(zip(range(len(values)), values, reference.windows[one.name], strict=True))))
