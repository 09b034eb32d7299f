"""A loaded model: it is what its manifest says, it proves itself, and a bad one harms only its own process."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from edge_client.runtime import (
    LoadedModel,
    SelfTest,
    load,
    newest_opset,
    require_opset,
    runtime_spec,
    self_test_in_child,
)
from ota_protocol.errors import SelfTestError
from ota_protocol.manifest import ModelManifest, TensorSpec
from tests.support.model_fake import (
    CROP_PX,
    LABELS,
    TinyRelease,
    endless_artifact,
    golden_sample,
    manifest_for,
    tiny_artifact,
    tiny_release,
    wrong_release,
)

GOOD = tiny_release("1.0.0", 1)
GOLDEN = golden_sample(GOOD.artifact)


def files(folder: Path, release: TinyRelease) -> tuple[Path, Path]:
    (folder / "model.onnx").write_bytes(release.artifact)
    (folder / "manifest.json").write_bytes(release.manifest)
    return folder / "model.onnx", folder / "manifest.json"


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModel:
    return load(*files(tmp_path, GOOD))


def test_prediction_is_the_most_probable_class(loaded: LoadedModel) -> None:
    pixels = np.full((CROP_PX, CROP_PX, 3), 90, np.uint8)
    answer = loaded.probabilities(pixels)
    prediction = loaded.predict(pixels, "frame.png")
    assert answer.sum() == pytest.approx(1.0, abs=1e-5)
    assert prediction.class_index == int(answer.argmax())
    assert prediction.label == LABELS[prediction.class_index]
    assert prediction.probability == pytest.approx(float(answer.max()))


def test_golden_samples_hold(loaded: LoadedModel) -> None:
    loaded.check_golden_samples()


def test_golden_sample_of_another_model(tmp_path: Path) -> None:
    with pytest.raises(SelfTestError, match="golden sample wrongly"):
        load(*files(tmp_path, wrong_release("1.0.0", 1))).check_golden_samples()


@pytest.mark.parametrize("artifact", [b"", b"junk", GOOD.artifact[: len(GOOD.artifact) // 2]])
def test_file_that_is_no_model(tmp_path: Path, artifact: bytes) -> None:
    with pytest.raises(SelfTestError, match="does not load"):
        load(*files(tmp_path, dataclasses.replace(GOOD, artifact=artifact)))


def test_manifest_that_names_other_inputs(tmp_path: Path) -> None:
    manifest = ModelManifest.from_bytes(GOOD.manifest)
    other = (TensorSpec(name="picture", dtype="float32", shape=("N", 3, CROP_PX, CROP_PX)),)
    renamed = manifest.model_copy(update={"inputs": other}).to_bytes()
    with pytest.raises(SelfTestError, match="inputs"):
        load(*files(tmp_path, dataclasses.replace(GOOD, manifest=renamed)))


def test_model_with_fewer_classes_than_labels(tmp_path: Path) -> None:
    manifest = ModelManifest.from_bytes(GOOD.manifest).model_copy(update={"labels": (*LABELS, "more")})
    model = load(*files(tmp_path, dataclasses.replace(GOOD, manifest=manifest.to_bytes())))
    with pytest.raises(SelfTestError, match="3 numbers"):
        model.check_golden_samples()


def test_run_that_hangs_can_be_cancelled_and_the_model_goes_on(tmp_path: Path) -> None:
    artifact = endless_artifact()
    manifest = manifest_for(artifact, "tiny", "1.0.0", golden=GOLDEN)
    model = load(*files(tmp_path, TinyRelease("tiny", "1.0.0", 1, artifact, manifest.to_bytes())))
    for _ in range(2):
        threading.Timer(0.2, model.cancel).start()
        began = time.monotonic()
        with pytest.raises(SelfTestError, match="fails on a frame"):
            model.check_golden_samples()
        assert 0.1 < time.monotonic() - began < 10


def test_newest_opset_is_what_the_runtime_really_takes(tmp_path: Path) -> None:
    newest = newest_opset()
    assert newest >= 17
    assert ort.InferenceSession(tiny_artifact(0, opset=17)).get_inputs()
    assert newest == newest_opset()


def test_model_of_a_newer_opset_is_refused() -> None:
    manifest = manifest_for(GOOD.artifact, "tiny", "2.0.0", golden=GOLDEN, opset=64)
    with pytest.raises(SelfTestError, match="update onnxruntime"):
        require_opset(manifest, runtime_spec())
    require_opset(ModelManifest.from_bytes(GOOD.manifest), runtime_spec())


@pytest.fixture(scope="module")
def self_test() -> SelfTest:
    return self_test_in_child(60.0)


def test_good_model_passes_in_a_child(tmp_path: Path, self_test: SelfTest) -> None:
    self_test(*files(tmp_path, GOOD))


def test_wrong_model_fails_in_a_child_and_says_why(tmp_path: Path, self_test: SelfTest) -> None:
    with pytest.raises(SelfTestError, match="golden sample wrongly"):
        self_test(*files(tmp_path, wrong_release("1.0.0", 1)))


def test_model_that_never_answers_is_stopped(tmp_path: Path) -> None:
    artifact = endless_artifact()
    manifest = manifest_for(artifact, "tiny", "1.0.0", golden=GOLDEN)
    endless = TinyRelease("tiny", "1.0.0", 1, artifact, manifest.to_bytes())
    with pytest.raises(SelfTestError, match="did not end within 3 s"):
        self_test_in_child(3.0)(*files(tmp_path, endless))


def test_model_whose_file_is_gone(tmp_path: Path, self_test: SelfTest) -> None:
    with pytest.raises(SelfTestError, match="cannot read the manifest"):
        self_test(tmp_path / "none", tmp_path / "none")


def test_model_that_crashes_its_process_is_a_failed_self_test(tmp_path: Path, self_test: SelfTest) -> None:
    artifact = endless_artifact()
    manifest = manifest_for(artifact, "tiny", "1.0.0", golden=GOLDEN)
    paths = files(tmp_path, TinyRelease("tiny", "1.0.0", 1, artifact, manifest.to_bytes()))
    killer = threading.Thread(target=kill_child, args=(str(tmp_path),))
    killer.start()
    with pytest.raises(SelfTestError, match=r"crashed the self-test \(exit status -11\)"):
        self_test(*paths)
    killer.join()


def kill_child(argument: str) -> None:
    """Send SIGSEGV to the process of ours whose command line has `argument`."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
            for child in path.read_text().split():
                if argument in Path(f"/proc/{child}/cmdline").read_text():
                    os.kill(int(child), signal.SIGSEGV)
                    return
        time.sleep(0.05)
