"""Owns one loaded model: onnxruntime session, its manifest, and the golden samples that prove it.

A model that crashes onnxruntime must not take the daemon with it, so `self_test` runs in a child process of its own
(`edge_client.selftest`), with a time limit, before the daemon ever loads the file. Does not own the loop over frames
(`inference`).
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge_client.disk import storage_errors
from ota_protocol.errors import SelfTestError
from ota_protocol.manifest import GoldenSample, ModelManifest, RuntimeSpec

NEWEST_OPSET: Final = 64
"""Where the search for the newest opset begins: the highest that a model manifest may name."""

SelfTest = Callable[[Path, Path], None]
"""Proves (model file, manifest file); raises `SelfTestError`."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one frame."""

    frame: str
    release: str
    class_index: int
    label: str
    probability: float
    at_s: float = 0.0


class LoadedModel:
    """A model in memory, ready to answer.

    Args:
        model_path: verified ONNX file.
        manifest: verified model manifest.

    Raises:
        SelfTestError: onnxruntime does not take the file, or it is not what the manifest says.
    """

    def __init__(self, model_path: Path, manifest: ModelManifest) -> None:
        self.manifest = manifest
        try:
            self._session = ort.InferenceSession(str(model_path), _options(), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise SelfTestError(f"onnxruntime does not load {manifest.release}: {_first_line(error)}") from error
        self._input = manifest.inputs[0].name
        self._run_options = ort.RunOptions()
        _require_same_names([each.name for each in self._session.get_inputs()], manifest.inputs, "inputs")
        _require_same_names([each.name for each in self._session.get_outputs()], manifest.outputs, "outputs")

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of each class.

        Args:
            pixels: (crop_px, crop_px, 3) uint8, RGB.

        Raises:
            SelfTestError: onnxruntime failed, or the answer is not one finite number a label.
        """
        tensor = self.manifest.preprocessing.tensor(pixels)
        try:
            outputs = [self.manifest.outputs[0].name]
            answer = self._session.run(outputs, {self._input: tensor}, self._run_options)[0]
        except Exception as error:
            # A run that was cancelled leaves its options cancelled; the next frame begins afresh.
            self._run_options = ort.RunOptions()
            raise SelfTestError(f"{self.manifest.release} fails on a frame: {_first_line(error)}") from error
        flat = np.asarray(answer, np.float32).reshape(-1)
        if flat.size != len(self.manifest.labels) or not np.isfinite(flat).all():
            raise SelfTestError(f"{self.manifest.release} answers with {flat.size} numbers, or not with finite ones")
        return flat

    def cancel(self) -> None:
        """Let a run that goes on in another thread end with an error."""
        self._run_options.terminate = True

    def predict(self, pixels: NDArray[np.uint8], frame: str) -> Prediction:
        """Return the most probable class of a frame."""
        answer = self.probabilities(pixels)
        best = int(answer.argmax())
        return Prediction(frame, self.manifest.release, best, self.manifest.labels[best], float(answer[best]))

    def check_golden_sample(self, sample: GoldenSample) -> None:
        """Compare one golden sample.

        Raises:
            SelfTestError: a probability is off by more than the sample's tolerance.
        """
        answer = self.probabilities(sample.pixels(self.manifest.preprocessing.crop_px))
        for index, expected in sample.expected:
            found = float(answer[index]) if index < answer.size else float("nan")
            if not abs(found - expected) <= sample.tolerance:
                raise SelfTestError(
                    f"{self.manifest.release} answers a golden sample wrongly: class {index} has probability"
                    f" {found:.4f}, expected {expected:.4f} ± {sample.tolerance}",
                    remedy="build the release again for this runtime",
                )

    def check_golden_samples(self) -> None:
        """Compare all golden samples; raises like `check_golden_sample`."""
        for sample in self.manifest.golden_samples:
            self.check_golden_sample(sample)


def load(model_path: Path, manifest_path: Path) -> LoadedModel:
    """Load verified files; raises `SelfTestError`, `MalformedError` or `StorageError`."""
    with storage_errors("read the manifest"):
        manifest = ModelManifest.from_bytes(manifest_path.read_bytes())
    return LoadedModel(model_path, manifest)


def self_test_in_child(timeout_s: float) -> SelfTest:
    """Return a self-test that runs in a process of its own.

    A crash of the child, its silence beyond `timeout_s`, or a wrong answer is a `SelfTestError`.
    """

    def self_test(model_path: Path, manifest_path: Path) -> None:
        limit = str(int(timeout_s) + 1)
        command = [sys.executable, "-m", "edge_client.selftest", str(model_path), str(manifest_path), limit]
        try:
            # The command is our own interpreter and module, with paths of our own slots.
            done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise SelfTestError(f"the self-test did not end within {timeout_s:g} s") from error
        if done.returncode != 0:
            text = done.stdout.decode(errors="replace").strip()[-300:]
            raise SelfTestError(text or f"the model crashed the self-test (exit status {done.returncode})")

    return self_test


def runtime_spec() -> RuntimeSpec:
    """Return what this vehicle can run."""
    return RuntimeSpec(onnxruntime=ort.__version__, max_opset=newest_opset(), machine=platform.machine())


def newest_opset() -> int:
    """Return the newest ONNX opset that this onnxruntime takes, found by offering it tiny models.

    The library does not tell; a table of versions would be wrong for the next one.
    """
    low, high = 1, NEWEST_OPSET
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _takes_opset(middle) else (low, middle - 1)
    return low


def require_opset(manifest: ModelManifest, spec: RuntimeSpec) -> None:
    """Refuse a model that this runtime does not know.

    Raises:
        SelfTestError: its opset is newer.
    """
    if manifest.opset > spec.max_opset:
        raise SelfTestError(
            f"{manifest.release} needs opset {manifest.opset}, onnxruntime {spec.onnxruntime} knows up to"
            f" {spec.max_opset}",
            remedy="update onnxruntime on the vehicle, or export the release for an older opset",
        )


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def _takes_opset(opset: int) -> bool:
    try:
        ort.InferenceSession(_identity_model(opset), _options(), providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions have no common class below Exception
        return False
    return True


def _identity_model(opset: int) -> bytes:
    """Return an ONNX file of one Identity node, written by hand: the onnx package is not on a vehicle.

    Field numbers from onnx.proto: ModelProto ir_version 1, graph 7, opset_import 8; GraphProto node 1, name 2, input
    11, output 12; NodeProto input 1, output 2, op_type 4; ValueInfoProto name 1, type 2; TypeProto tensor_type 1.
    """
    tensor_type = _field(1, bytes([0x08, 1]) + _field(2, b""))
    node = _field(1, b"x") + _field(2, b"y") + _field(4, b"Identity")
    graph = _field(1, node) + _field(2, b"g")
    graph += _field(11, _field(1, b"x") + _field(2, tensor_type)) + _field(12, _field(1, b"y") + _field(2, tensor_type))
    return bytes([0x08, 8]) + _field(7, graph) + _field(8, bytes([0x10, opset]))


def _field(number: int, body: bytes) -> bytes:
    """Return a length-delimited protobuf field; bodies here stay below 128 bytes."""
    return bytes([number << 3 | 2, len(body)]) + body


def _require_same_names(found: list[str], specs: tuple[Any, ...], what: str) -> None:
    expected = [spec.name for spec in specs]
    if found != expected:
        raise SelfTestError(f"the model's {what} are {found}, its manifest says {expected}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
