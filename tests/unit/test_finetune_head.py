"""Teaching the head: it learns the photographs, keeps what it knew, and nothing below it moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model_build.export import to_onnx
from model_build.finetune_head import Schedule, Taught, finetune_head
from model_build.inference import Session
from model_build.pictures import list_labelled, read_pixels, read_tensors
from model_build.squeezenet import squeezenet_1_0
from ota_protocol.errors import RequestError
from ota_protocol.manifest import Preprocessing
from tests.support.networks import random_images, random_network, real_network
from tests.support.photographs import photograph, write_photographs

PLAN = Preprocessing()
TABBY = 281


def silent(_: float) -> None:
    return


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.float32], list[int], Taught]:
    """Return four photographs, of which the cat is to be a tabby from now on, and the network that learnt it."""
    labelled = list_labelled(write_photographs(tmp_path_factory.mktemp("head") / "p", labels=True), 1000)
    images = read_tensors([one.path for one in labelled], PLAN)
    classes = [TABBY, *(one.class_index for one in labelled[1:])]
    return images, classes, finetune_head(real_network(), images, classes, silent)


def test_the_right_classes_rise_visibly(lesson: tuple[NDArray[np.float32], list[int], Taught]) -> None:
    images, classes, taught = lesson
    answers = Session(to_onnx(taught.network)).probabilities(images)
    right = answers[np.arange(4), classes]
    assert np.allclose(right, taught.after, atol=1e-3)
    assert taught.before[0] < 0.3
    assert taught.after[0] > 0.7
    assert (taught.after > taught.before - 0.01).all()
    assert list(answers.argmax(axis=1)) == classes


def test_it_stops_once_every_picture_is_known(lesson: tuple[NDArray[np.float32], list[int], Taught]) -> None:
    _, _, taught = lesson
    assert taught.after.min() >= Schedule().enough
    assert taught.steps < Schedule().steps


def test_other_pictures_are_answered_as_before(
    lesson: tuple[NDArray[np.float32], list[int], Taught], tmp_path: Path
) -> None:
    taught, others = lesson[2], []
    for name in ("astronaut.png", "camera.png", "coins.png", "hubble_deep_field.jpg", "retina.jpg"):
        with Image.open(photograph(name)) as picture:
            small = picture.convert("RGB")
        small.thumbnail((600, 300))
        small.save(tmp_path / f"{Path(name).stem}.png")
        others.append(PLAN.tensor(read_pixels(tmp_path / f"{Path(name).stem}.png", PLAN)))
    images = np.concatenate(others)
    before = Session(to_onnx(real_network())).probabilities(images)
    after = Session(to_onnx(taught.network)).probabilities(images)
    assert np.array_equal(before.argmax(axis=1), after.argmax(axis=1))
    assert np.abs(before - after).max() < 0.1


def test_only_rows_of_the_head_move(lesson: tuple[NDArray[np.float32], list[int], Taught]) -> None:
    taught, old = lesson[2].network, real_network()
    assert all(taught.layers[name] is old.layers[name] for name in old.layers if name != "conv10")
    moved = (taught.layers["conv10"].kernel != old.layers["conv10"].kernel).any(axis=(1, 2, 3))
    assert 4 <= moved.sum() <= lesson[2].rows < 500
    assert np.array_equal(taught.layers["conv10"].bias, old.layers["conv10"].bias)


def test_the_same_pictures_teach_the_same(lesson: tuple[NDArray[np.float32], list[int], Taught]) -> None:
    images, classes, taught = lesson
    again = finetune_head(real_network(), images, classes, silent)
    assert np.array_equal(again.network.layers["conv10"].kernel, taught.network.layers["conv10"].kernel)


def test_a_stronger_pull_moves_less(lesson: tuple[NDArray[np.float32], list[int], Taught]) -> None:
    images, classes, taught = lesson
    held = finetune_head(real_network(), images, classes, silent, Schedule(steps=10, pull=0.1))
    assert 0 < held.after[0] - held.before[0] < taught.after[0] - taught.before[0]


def test_the_padded_head_of_1_0_is_taught_as_it_runs() -> None:
    network, images = random_network(squeezenet_1_0()), random_images(3)
    shares: list[float] = []
    taught = finetune_head(network, images, [1, 2, 3], shares.append, Schedule(steps=5))
    answers = Session(to_onnx(taught.network)).probabilities(images)
    assert np.allclose(answers[[0, 1, 2], [1, 2, 3]], taught.after, atol=2e-3)
    assert shares[-1] == 1.0


def test_pictures_without_labels_are_refused() -> None:
    with pytest.raises(RequestError, match="each with a label"):
        finetune_head(random_network(), random_images(2), [1], silent)
    with pytest.raises(RequestError, match="0 pictures are given"):
        finetune_head(random_network(), random_images(0), [], silent)
