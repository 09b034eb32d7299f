"""The passes on a whole small network: goals, repeatability, bases, 8-bit activations, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from model_build.compression.eight_bits import round_trip
from model_build.compression.known import Base
from model_build.compression.pairs import ALONE, PAIR_LIMIT, partners
from model_build.compression.search import Goal
from model_build.evaluate import closeness
from model_build.export import IMAGE, to_onnx
from model_build.inference import Session
from model_build.network import ActivationScale, FloatLayer, Network, QuantizedLayer
from model_build.passes.compress_weights import CompressWeights, Outcome
from model_build.passes.quantize_activations import QuantizeActivations, shared
from model_build.recipe import Pass, Recipe
from ota_protocol.delta.encode import encode
from ota_protocol.errors import RequestError
from tests.support.tiny_network import smooth_images, tiny_architecture, tiny_network

LEARN, CHECK = smooth_images(40, 1), smooth_images(16, 2)


def apply(network: Network, *passes: Pass) -> Network:
    return Recipe(passes).apply(network, lambda _name, _share: None)


def kl(network: Network, reference: Network) -> float:
    found, wanted = (Session(to_onnx(one)).probabilities(CHECK) for one in (network, reference))
    return closeness(found, wanted)["kl"]


def test_a_kl_is_kept_and_reported() -> None:
    outcomes: list[Outcome] = []
    network = tiny_network()
    made = apply(network, CompressWeights(LEARN, CHECK, Goal(max_kl=0.05), on_outcome=outcomes.append))
    (outcome,) = outcomes
    assert all(isinstance(layer, QuantizedLayer) for layer in made.layers.values())
    assert kl(made, network) <= 0.05
    assert outcome.point.kl == pytest.approx(kl(made, network), rel=1e-3)
    assert outcome.point.wire_bytes == len(encode(None, to_onnx(made)))
    assert len(outcome.tried) >= 2
    assert set(outcome.point.walked.figures) == set(network.layers)


def test_a_larger_bound_gives_fewer_bytes() -> None:
    sizes = [
        len(encode(None, to_onnx(apply(tiny_network(), CompressWeights(LEARN, CHECK, Goal(max_kl=bound))))))
        for bound in (0.01, 0.3)
    ]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_inputs_give_the_same_file_on_any_number_of_threads(threads: int) -> None:
    goal = Goal(max_kl=0.05)
    first = apply(tiny_network(), QuantizeActivations(LEARN), CompressWeights(LEARN, CHECK, goal, threads=2))
    again = apply(tiny_network(), QuantizeActivations(LEARN), CompressWeights(LEARN, CHECK, goal, threads=threads))
    assert to_onnx(first) == to_onnx(again)


def test_a_base_makes_the_delta_small_at_the_same_kl() -> None:
    goal, network = Goal(max_kl=0.05), tiny_network()
    base = apply(network, CompressWeights(LEARN, CHECK, goal))
    chance = np.random.default_rng(5)
    tuned = Network(
        network.architecture,
        {
            name: FloatLayer(layer.kernel + chance.normal(0, 0.002, layer.kernel.shape).astype(np.float32), layer.bias)
            for name, layer in network.layers.items()
        },
    )
    file = to_onnx(base)
    told: list[Outcome] = []
    step = CompressWeights(LEARN, CHECK, Goal(max_kl=0.06), Base(base, file), on_outcome=told.append)
    aware = apply(tuned, step)
    afresh = apply(tuned, CompressWeights(LEARN, CHECK, Goal(max_kl=0.06)))
    assert kl(aware, tuned) <= 0.06
    assert told[0].point.wire_bytes == len(encode(file, to_onnx(aware))) < len(encode(file, to_onnx(afresh)))
    swept, scratch = told[0].swept, told[0].scratch
    assert told[0].point in swept and len(swept) >= 4
    prices, lengths = [one.price for one in swept], [one.wire_bytes for one in swept]
    assert prices == sorted(prices, reverse=True) and lengths[0] < lengths[-1]
    assert scratch is not None and scratch.wire_bytes > max(lengths) and 0.01 < scratch.kl < 0.2
    changed = sum(one.changed for one in told[0].point.walked.figures.values())
    assert changed < 0.03 * sum(layer.kernel.size for layer in base.layers.values())


def test_8_bit_activations_are_made_up_for_by_the_weights() -> None:
    network = tiny_network()
    held = apply(network, QuantizeActivations(LEARN))
    assert set(held.activations) == {IMAGE, *(name for group in shared(tiny_architecture()) for name in group)}
    made = apply(held, CompressWeights(LEARN, CHECK, Goal(max_kl=0.08)))
    assert made.activations == held.activations
    assert kl(made, network) <= 0.08
    for layer in made.layers.values():
        assert isinstance(layer, QuantizedLayer)
        sizes, paired = np.abs(layer.codes.reshape(len(layer.codes), -1).astype(int)), partners(*layer.codes.shape[1:3])
        assert (sizes + np.where(paired == ALONE, 0, sizes[:, paired])).max() <= PAIR_LIMIT


def test_tensors_that_are_joined_share_a_scale() -> None:
    held = apply(tiny_network(), QuantizeActivations(LEARN)).activations
    assert held["fire3/expand1x1"] == held["fire3/expand3x3"] == held["fire3"] == held["pool3"]
    assert held["conv1"] == held["pool1"]
    assert held["fire2/squeeze1x1"] != held["fire2"]


def test_a_round_trip_is_what_the_runtime_does() -> None:
    held = ActivationScale(0.5, 3)
    values = np.array([-9.0, -1.5, -0.2, 0.25, 0.75, 3.1, 500.0], np.float32)
    assert np.array_equal(round_trip(values, held), np.array([-1.5, -1.5, 0, 0, 1.0, 3.0, 126.0], np.float32))


def test_what_the_passes_refuse() -> None:
    network, none = tiny_network(), smooth_images(0)
    goal = Goal(max_kl=0.1)
    with pytest.raises(RequestError, match="needs calibration pictures"):
        CompressWeights(none, CHECK, goal).require(network)
    with pytest.raises(RequestError, match="need calibration pictures"):
        QuantizeActivations(none).require(network)
    held = apply(network, QuantizeActivations(LEARN))
    with pytest.raises(RequestError, match="8 bits already"):
        QuantizeActivations(LEARN).require(held)
    quantised = QuantizedLayer(np.zeros((12, 3, 3, 3), np.int8), np.ones((), np.float32), np.zeros(12, np.float32))
    with pytest.raises(RequestError, match="quantised already"):
        CompressWeights(LEARN, CHECK, goal).require(network.with_layer("conv1", quantised))
    with pytest.raises(RequestError, match="in float32"):
        CompressWeights(LEARN, CHECK, goal, Base(network, b"")).require(network)


def test_an_impossible_budget_is_refused_with_the_smallest() -> None:
    with pytest.raises(RequestError, match="10 bytes are out of reach; the smallest reached is"):
        apply(tiny_network(), CompressWeights(LEARN, CHECK, Goal(budget_bytes=10)))


def test_a_network_of_zeros_is_borne() -> None:
    layers = {
        name: FloatLayer(np.zeros_like(layer.kernel), np.zeros_like(layer.bias))
        for name, layer in tiny_network().layers.items()
    }
    made = apply(Network(tiny_architecture(), layers), CompressWeights(LEARN, CHECK, Goal(max_kl=0.1)))
    assert not any(layer.kernel.any() for layer in made.layers.values())
