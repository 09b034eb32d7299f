"""The loop over frames: models change between two frames, and none is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_client.frames import FrameFolder
from edge_client.inference import FrameCount, Inference
from edge_client.runtime import LoadedModel, Prediction, load
from ota_protocol.errors import SelfTestError
from tests.support.model_fake import TinyRelease, fine_tuned, make_frames, tiny_release

FIRST = tiny_release("1.0.0", 1)
SECOND = fine_tuned(FIRST, "1.1.0", 2)


def loaded(folder: Path, release: TinyRelease) -> LoadedModel:
    model, manifest = folder / f"{release.release}.onnx", folder / f"{release.release}.json"
    model.write_bytes(release.artifact)
    manifest.write_bytes(release.manifest)
    return load(model, manifest)


class FailingModel(LoadedModel):
    """Loads, and fails on every frame."""

    def predict(self, pixels: NDArray[np.uint8], frame: str) -> Prediction:
        raise SelfTestError("it fails on a frame")


class BreakingModel(LoadedModel):
    """Loads, and breaks on every frame in a way that no model declares."""

    def predict(self, pixels: NDArray[np.uint8], frame: str) -> Prediction:
        raise MemoryError


class Camera:
    """Inference over a folder of frames, as fast as it goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop = threading.Event()
        self.inference = Inference(FrameFolder(folder / "frames"), 0.0005, self.stop, FrameCount(served=100))
        self.inference.start()

    def wait_for(self, done: Callable[[Inference], bool]) -> None:
        deadline = time.monotonic() + 20
        while not done(self.inference):
            assert time.monotonic() < deadline, self.inference.count
            time.sleep(0.002)


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Camera]:
    make_frames(tmp_path / "frames")
    made = Camera(tmp_path)
    yield made
    made.stop.set()
    made.inference.join(timeout=5)


def test_frames_without_a_model_are_not_lost(camera: Camera) -> None:
    time.sleep(0.05)
    assert camera.inference.count == FrameCount(served=100)


def test_count_goes_on_where_the_last_run_ended(camera: Camera) -> None:
    camera.inference.swap(loaded(camera.folder, FIRST))
    camera.wait_for(lambda each: each.count.served > 110)


def test_swapping_a_hundred_times_loses_no_frame(camera: Camera) -> None:
    models = [loaded(camera.folder, FIRST), loaded(camera.folder, SECOND)]
    for turn in range(100):
        camera.inference.swap(models[turn % 2], fallback=models[1 - turn % 2])
        time.sleep(0.001)
    camera.wait_for(lambda each: each.count.served > 120)
    assert camera.inference.count.lost == 0


def test_last_predictions_name_their_release(camera: Camera) -> None:
    camera.inference.swap(loaded(camera.folder, FIRST))
    camera.wait_for(lambda each: len(each.predictions) == 8)
    camera.inference.swap(loaded(camera.folder, SECOND))
    camera.wait_for(lambda each: {seen.release for seen in each.predictions} == {"1.1.0"})
    assert all(seen.at_s > 0 and seen.label for seen in camera.inference.predictions)


def test_frame_that_the_new_model_fails_on_is_answered_by_the_old_one(camera: Camera) -> None:
    old = loaded(camera.folder, FIRST)
    new = FailingModel(camera.folder / "1.0.0.onnx", old.manifest)
    camera.inference.swap(new, fallback=old, on_trial=True)
    camera.wait_for(lambda each: each.trial.failed >= 3)
    camera.wait_for(lambda each: each.count.served >= 103)
    assert camera.inference.count.lost == 0
    assert camera.inference.trial.served == 0
    assert "fails on a frame" in camera.inference.trial.reason


def test_frame_that_no_model_answers_is_lost_and_counted(camera: Camera) -> None:
    old = loaded(camera.folder, FIRST)
    camera.inference.swap(FailingModel(camera.folder / "1.0.0.onnx", old.manifest))
    camera.wait_for(lambda each: each.count.lost >= 3)
    assert camera.inference.count.served == 100


def test_fault_at_a_frame_is_the_models_and_the_frames_go_on(camera: Camera) -> None:
    good = loaded(camera.folder, FIRST)
    broken = BreakingModel(camera.folder / "1.0.0.onnx", good.manifest)
    camera.inference.swap(broken, fallback=good, on_trial=True)
    camera.wait_for(lambda each: each.trial.failed >= 2 and each.count.served >= 102)
    assert (camera.inference.count.lost, camera.inference.trial.reason) == (0, "MemoryError")
    camera.inference.swap(broken)
    camera.wait_for(lambda each: each.count.lost >= 2)
    camera.inference.swap(good)
    served = camera.inference.count.served
    camera.wait_for(lambda each: each.count.served > served + 2)


def test_trial_counts_from_the_swap(camera: Camera) -> None:
    model = loaded(camera.folder, FIRST)
    camera.inference.swap(model, on_trial=True)
    camera.wait_for(lambda each: each.trial.served >= 5)
    camera.inference.swap(model)
    assert camera.inference.trial.served == 0


def test_file_that_is_no_picture_is_skipped_and_counted(camera: Camera) -> None:
    (camera.folder / "frames" / "broken.png").write_bytes(b"no picture")
    camera.inference.swap(loaded(camera.folder, FIRST))
    camera.wait_for(lambda each: each.count.unreadable >= 2)
    assert camera.inference.count.lost == 0
    assert camera.inference.count.served > 100


def test_folder_may_be_emptied_and_filled_again(camera: Camera) -> None:
    frames = camera.folder / "frames"
    camera.inference.swap(loaded(camera.folder, FIRST))
    camera.wait_for(lambda each: each.count.served > 105)
    for path in frames.iterdir():
        path.unlink()
    camera.wait_for(lambda each: each.is_alive())
    make_frames(frames)
    served = camera.inference.count.served
    camera.wait_for(lambda each: each.count.served > served + 5)
