"""How pictures flow: stage by stage gives what the whole network gives, whatever the number of threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from model_build.compression.flow import PORTION, Convolver, Portions, Workers, flow, max_pool, portions, workers
from model_build.compression.windows import LEAST_A_PICTURE, Sampler, moments, sums, windows_a_picture
from model_build.export import to_onnx
from model_build.inference import Session
from model_build.network import Network
from model_build.squeezenet import Convolution
from tests.support.tiny_network import smooth_images, tiny_network


def convolve_with(network: Network, threads: Workers) -> Callable[[Convolution, Portions], Portions]:
    def convolve(one: Convolution, values: Portions) -> Portions:
        layer = network.layers[one.name]
        return threads.map(Convolver(one, layer.kernel, layer.bias), values)

    return convolve


@pytest.mark.parametrize("count", [1, PORTION, 2 * PORTION + 3])
def test_stage_by_stage_gives_what_the_whole_network_gives(count: int) -> None:
    network, images = tiny_network(), smooth_images(count)
    with workers(2) as threads:
        maps = flow(network.architecture, portions(images), convolve_with(network, threads), threads)
    wanted = Session(to_onnx(network, expose=["conv10"])).run(images, ["conv10"])[0]
    assert np.allclose(np.concatenate(maps), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("side", [3, 4, 13, 14, 27, 56])
def test_pooling_reaches_over_the_edge(side: int) -> None:
    values = np.random.default_rng(side).random((2, 3, side, side), dtype=np.float32)
    found = max_pool(values)
    wanted_side = -(-(side - 3) // 2) + 1
    wanted = [
        [
            values[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max(axis=(2, 3))
            for column in range(wanted_side)
        ]
        for row in range(wanted_side)
    ]
    assert np.array_equal(found, np.array(wanted).transpose(2, 3, 0, 1))


def test_the_same_windows_are_taken_of_every_tensor() -> None:
    one = Convolution("c", 2, 4, kernel_px=3, stride=2, padding=1)
    sampler = Sampler(one, per_picture=5, seed=7)
    places = np.arange(3 * 2 * 9 * 9, dtype=np.float32).reshape(3, 2, 9, 9)
    first, again = sampler.sample(places, 0), sampler.sample(-places, 0)
    assert first.shape == (3 * 5, 18)
    assert np.array_equal(first, -again)
    assert not np.array_equal(first, sampler.sample(places, 1))


def test_a_layer_smaller_than_the_sample_is_taken_whole() -> None:
    sampled = Sampler(Convolution("c", 1, 1), per_picture=99, seed=0).sample(
        np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2), 0
    )
    assert sorted(sampled.ravel()) == [0, 1, 2, 3]


def test_few_pictures_give_more_windows_each() -> None:
    assert windows_a_picture(4) == 4096
    assert windows_a_picture(100_000) == LEAST_A_PICTURE


def test_moments_over_portions_are_those_of_all_windows() -> None:
    chance = np.random.default_rng(0)
    reference, compressed = chance.normal(3, 1, (2, 500, 6)).astype(np.float32)
    found = moments([sums(reference[:200], compressed[:200]), sums(reference[200:], compressed[200:])])
    assert np.allclose(found.second, np.cov(compressed.T, bias=True), atol=1e-4)
    both = np.cov(reference.T, compressed.T, bias=True)
    assert np.allclose(found.cross, both[:6, 6:], atol=1e-4)
    assert np.allclose(found.mean_reference, reference.mean(axis=0), atol=1e-5)
