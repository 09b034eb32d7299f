"""Golden samples: the model that made them passes, another one does not, and both can be told on any machine."""

from __future__ import annotations

import numpy as np
import pytest

from model_build.export import to_onnx
from model_build.golden import EXPECTED_CLASSES, LEAST_TOLERANCE, SAMPLES, golden_samples
from model_build.inference import Session
from model_build.network import FloatLayer
from model_build.pictures import list_pictures
from ota_protocol.manifest import GoldenSample, Preprocessing
from tests.support.networks import random_network, real_network
from tests.support.photographs import write_photographs

PLAN = Preprocessing()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[GoldenSample, ...]:
    folder = write_photographs(tmp_path_factory.mktemp("golden") / "p")
    return golden_samples(to_onnx(real_network()), list_pictures(folder), PLAN)


def passes(model: bytes, sample: GoldenSample, *, optimized: bool = True) -> bool:
    image = PLAN.tensor(sample.pixels(PLAN.crop_px))
    answer = Session(model, optimized=optimized).probabilities(image)[0]
    return all(abs(float(answer[index]) - value) <= sample.tolerance for index, value in sample.expected)


def test_samples_are_small_and_ranked(samples: tuple[GoldenSample, ...]) -> None:
    assert len(samples) == SAMPLES
    for sample in samples:
        values = [value for _, value in sample.expected]
        assert len(values) == EXPECTED_CLASSES
        assert values == sorted(values, reverse=True)
        assert LEAST_TOLERANCE <= sample.tolerance <= 0.1
        assert len(sample.model_dump_json()) < 1300


@pytest.mark.parametrize("optimized", [True, False])
def test_the_model_passes_its_own_samples(samples: tuple[GoldenSample, ...], optimized: bool) -> None:
    model = to_onnx(real_network())
    assert all(passes(model, sample, optimized=optimized) for sample in samples)


def test_a_model_with_one_broken_layer_fails_them(samples: tuple[GoldenSample, ...]) -> None:
    layer = real_network().layers["fire5/expand3x3"]
    broken = real_network().with_layer("fire5/expand3x3", FloatLayer(np.flip(layer.kernel, 1), layer.bias))
    assert not all(passes(to_onnx(broken), sample) for sample in samples)


def test_an_untrained_model_fails_them(samples: tuple[GoldenSample, ...]) -> None:
    assert not any(passes(to_onnx(random_network()), sample) for sample in samples)
