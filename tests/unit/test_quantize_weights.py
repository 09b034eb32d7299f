"""Rounding to 8 bits: feeding the error back beats rounding to nearest, on the layer's own inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model_build.export import to_onnx
from model_build.inference import Session
from model_build.layer_inputs import InputMoments, measure, windows
from model_build.network import FloatLayer, QuantizedLayer
from model_build.passes.quantize_weights import LIMIT, QuantizeWeights, quantize, round_with_feedback
from model_build.pictures import list_pictures, read_tensors
from model_build.recipe import Recipe
from model_build.squeezenet import Architecture, Convolution, squeezenet_1_0
from ota_protocol.errors import RequestError
from ota_protocol.manifest import Preprocessing
from tests.support.networks import random_images, random_network, real_network
from tests.support.photographs import write_photographs


def correlated(count: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """Return inputs whose columns share a few causes, as neighbouring channels do."""
    chance = np.random.default_rng(seed)
    return np.maximum(chance.normal(size=(count, 5)) @ chance.normal(size=(5, width)), 0)


def moments(inputs: NDArray[np.float64]) -> InputMoments:
    return InputMoments(inputs.mean(axis=0), inputs.T @ inputs / len(inputs))


@pytest.mark.parametrize("seed", range(5))
def test_feedback_keeps_outputs_nearer_than_nearest(seed: int) -> None:
    inputs = correlated(2000, 40, seed)
    values = np.random.default_rng(seed).normal(0, 3, (10, 40))
    codes = round_with_feedback(values, moments(inputs).second)
    assert np.array_equal(codes, np.rint(codes))
    nearest = ((inputs @ (values - np.rint(values)).T) ** 2).mean()
    assert ((inputs @ (values - codes).T) ** 2).mean() < 0.5 * nearest


def test_independent_inputs_leave_nothing_to_feed_back() -> None:
    values = np.random.default_rng(0).normal(0, 30, (10, 40))
    assert np.array_equal(round_with_feedback(values, np.eye(40)), np.rint(values).clip(-LIMIT, LIMIT))


def test_inputs_that_never_fire_are_borne() -> None:
    inputs = correlated(500, 12)
    inputs[:, 3] = 0
    codes = round_with_feedback(np.random.default_rng(0).normal(0, 30, (4, 12)), moments(inputs).second)
    assert np.isfinite(codes).all()
    assert np.isfinite(round_with_feedback(np.ones((2, 3)), np.zeros((3, 3)))).all()


def test_codes_scales_and_bias_keep_the_mean_output() -> None:
    inputs, chance = correlated(3000, 18), np.random.default_rng(1)
    kernel = chance.normal(size=(6, 2, 3, 3)).astype(np.float32)
    kernel[4] = 0
    layer = FloatLayer(kernel, chance.normal(size=6).astype(np.float32))
    made = quantize(layer, moments(inputs))
    assert made.codes.dtype == np.int8
    assert np.abs(made.codes.astype(int)).max() <= LIMIT
    assert made.scale.shape == (6,)
    assert (made.scale > 0).all()
    assert not made.codes[4].any()
    before = inputs @ kernel.reshape(6, -1).T + layer.bias
    after = inputs @ made.kernel.reshape(6, -1).T + made.bias
    assert np.allclose(before.mean(axis=0), after.mean(axis=0), atol=1e-5)


def test_windows_are_what_a_convolution_multiplies() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    found = windows(values, Convolution("c", 3, 4, kernel_px=3, padding=1))
    assert found.shape == (2 * 36, 27)
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    assert np.array_equal(found[7], padded[0, :, 1:4, 1:4].reshape(-1))


@pytest.mark.parametrize("architecture", [None, squeezenet_1_0()])
def test_moments_are_those_of_the_inputs(architecture: Architecture | None) -> None:
    network, images = random_network(architecture), random_images(2)
    found = measure(network, images)
    assert found.keys() == network.layers.keys()
    name = "fire9/expand1x1"
    inputs = Session(to_onnx(network, expose=["fire9/squeeze1x1"])).run(images, ["fire9/squeeze1x1"])[0]
    flat = inputs.transpose(0, 2, 3, 1).reshape(-1, 64).astype(np.float64)
    assert np.allclose(found[name].mean, flat.mean(axis=0), rtol=1e-3)
    assert np.allclose(found[name].second, flat.T @ flat / len(flat), rtol=1e-3, atol=1e-3 * np.abs(flat).max() ** 2)


def test_the_real_network_in_8_bits_answers_as_before(tmp_path: Path) -> None:
    plan, folder = Preprocessing(), write_photographs(tmp_path / "p")
    images = read_tensors(list_pictures(folder), plan)
    shares: list[float] = []
    quantised = Recipe([QuantizeWeights(images)]).apply(real_network(), lambda _, share: shares.append(share))
    assert all(isinstance(layer, QuantizedLayer) for layer in quantised.layers.values())
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    exact, coarse = Session(to_onnx(real_network())), Session(to_onnx(quantised))
    difference = np.abs(exact.probabilities(images) - coarse.probabilities(images))
    assert difference.max() < 0.05


def test_quantising_twice_or_without_pictures_is_refused() -> None:
    network = random_network()
    with pytest.raises(RequestError, match="needs calibration pictures"):
        QuantizeWeights(random_images(0)).require(network)
    layer = quantize(FloatLayer(np.ones((2, 1, 1, 1), np.float32), np.zeros(2, np.float32)), moments(np.ones((5, 1))))
    with pytest.raises(RequestError, match="quantised already"):
        QuantizeWeights(random_images(1)).require(network.with_layer("conv1", layer))
