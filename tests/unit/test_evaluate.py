"""Figures of an ONNX file: on answers made by hand, and on the real network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_build.evaluate import Evaluation, accuracy, closeness, evaluate
from model_build.export import to_onnx
from model_build.pictures import list_labelled
from model_build.recipe import Gate
from ota_protocol.errors import MalformedError, RequestError
from ota_protocol.manifest import Preprocessing
from tests.support.networks import random_network, real_network
from tests.support.photographs import write_photographs

ANSWERS = np.array([[0.5, 0.2, 0.1, 0.1, 0.05, 0.05], [0.05, 0.06, 0.07, 0.1, 0.12, 0.6]], np.float32)


def test_accuracy_counts_the_first_and_the_first_five() -> None:
    assert accuracy(ANSWERS, [0, 0]) == {"top1": 0.5, "top5": 0.5}
    assert accuracy(ANSWERS, [1, 5]) == {"top1": 0.5, "top5": 1.0}
    assert accuracy(ANSWERS, []) == {}


def test_equal_answers_are_no_distance_apart() -> None:
    assert closeness(ANSWERS, ANSWERS) == {"agreement": 1.0, "kl": 0.0}


def test_divergence_is_that_of_the_reference_from_the_model() -> None:
    wanted = np.array([[0.5, 0.5]], np.float32)
    found = np.array([[0.9, 0.1]], np.float32)
    assert closeness(found, wanted)["kl"] == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1), rel=1e-5)
    assert closeness(np.array([[1.0, 0.0]], np.float32), wanted)["kl"] == pytest.approx(13.1, abs=0.1)


def test_the_real_network_knows_the_photographs(tmp_path: Path) -> None:
    labelled = list_labelled(write_photographs(tmp_path / "p", labels=True), 1000)
    model, shares = to_onnx(real_network()), list[float]()
    found = evaluate(
        model,
        [one.path for one in labelled],
        Preprocessing(),
        classes=[one.class_index for one in labelled],
        reference=model,
        progress=shares.append,
    )
    assert found.top1 is not None
    assert found.top1 >= 0.5
    assert found.top5 == 1.0
    assert (found.agreement, found.kl, found.pictures, found.artifact_bytes) == (1.0, 0.0, 4, len(model))
    assert found.latency_ms > 0
    assert shares[-1] == 1.0
    assert set(found.repeatable()) == {"pictures", "artifact_bytes", "top1", "top5", "agreement", "kl"}


def test_without_labels_or_reference_no_figure_is_made_up(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "p")
    found = evaluate(to_onnx(random_network()), [folder / "coffee.jpg"], Preprocessing())
    assert set(found.figures()) == {"pictures", "artifact_bytes", "latency_ms"}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_model_is_refused(share: float, tmp_path: Path) -> None:
    folder, model = write_photographs(tmp_path / "p"), to_onnx(random_network())
    with pytest.raises(MalformedError, match=r"the ONNX file does not load|has no"):
        evaluate(model[: int(len(model) * share)], [folder / "coffee.jpg"], Preprocessing())


FOUND = Evaluation(pictures=10, artifact_bytes=2000, latency_ms=1.0, top1=0.6, top5=0.8, agreement=0.95, kl=0.01)


@pytest.mark.parametrize(
    "gate",
    [Gate(), Gate(min_top1=0.6, min_top5=0.8, min_agreement=0.95, max_kl=0.01, max_bytes=2000), Gate(min_top1=0.1)],
)
def test_a_gate_lets_through_what_meets_it(gate: Gate) -> None:
    gate.check(FOUND)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (Gate(min_top1=0.61), "top-1 0.6000 < 0.61"),
        (Gate(min_top5=0.9), "top-5 0.8000 < 0.9"),
        (Gate(min_agreement=0.99), "agreement 0.9500 < 0.99"),
        (Gate(max_kl=0.001), "KL 0.01 > 0.001"),
        (Gate(max_bytes=1999), "bytes 2,000 > 1,999"),
        (Gate(min_top1=0.9, max_bytes=10), "top-1 0.6000 < 0.9, bytes 2,000 > 10"),
    ],
)
def test_a_gate_names_every_figure_that_misses(gate: Gate, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        gate.check(FOUND)
    assert said in caught.value.message


def test_a_gate_on_accuracy_needs_labels() -> None:
    with pytest.raises(RequestError, match=r"top-1 unknown \(no labels\) < 0.5"):
        Gate(min_top1=0.5).check(Evaluation(pictures=1, artifact_bytes=1, latency_ms=1))
