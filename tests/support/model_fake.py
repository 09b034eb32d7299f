"""Small real ONNX models with their manifests, and pictures to run them on."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from ota_protocol.digest import sha256_hex
from ota_protocol.manifest import FileRef, GoldenSample, ModelManifest, Preprocessing, TensorSpec

CROP_PX = 8
LABELS = ("cat", "coffee", "rocket")
PREPROCESSING = Preprocessing(resize_px=10, crop_px=CROP_PX, scale=0.02)


@dataclass(frozen=True)
class TinyRelease:
    """Bytes of the two files of a release."""

    model: str
    release: str
    counter: int
    artifact: bytes
    manifest: bytes


def tiny_artifact(seed: int, hidden: int = 16, *, opset: int = 17) -> bytes:
    """Return an ONNX file: convolution, average, convolution, softmax; about 120 × `hidden` bytes."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.3, (hidden, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 1.0, (len(LABELS), hidden, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("GlobalAveragePool", ["r1"], ["p1"]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], kernel_shape=[1, 1]),
        helper.make_node("Flatten", ["c2"], ["flat"], axis=1),
        helper.make_node("Softmax", ["flat"], ["probabilities"], axis=1),
    ]
    return _file(nodes, weights, opset)


def endless_artifact() -> bytes:
    """Return an ONNX file that loads and then counts for hours: a loop of 2**40 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["sum", "sum"], ["sum_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", len(LABELS)]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, ["N", len(LABELS)]),
        ],
    )
    constants = {
        "rounds": np.asarray(2**40, np.int64),
        "yes": np.asarray(True),
        "w2": np.ones((len(LABELS), 3, 1, 1), np.float32),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["p1"]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], kernel_shape=[1, 1]),
        helper.make_node("Flatten", ["c2"], ["flat"], axis=1),
        helper.make_node("Loop", ["rounds", "yes", "flat"], ["probabilities"], body=body),
    ]
    return _file(nodes, constants, 17)


def _file(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], opset: int) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, CROP_PX, CROP_PX])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(LABELS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def golden_sample(artifact: bytes) -> GoldenSample:
    """Return what the artifact answers to a chequered patch."""
    patch = np.arange(4 * 4 * 3, dtype=np.uint8) * 5
    sample = GoldenSample(
        patch_px=4, patch_base64=base64.b64encode(patch.tobytes()).decode(), expected=((0, 0.0),), tolerance=0.001
    )
    session = ort.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    answer = session.run(None, {"image": PREPROCESSING.tensor(sample.pixels(CROP_PX))})[0][0]
    best = np.argsort(-answer)[:2]
    return sample.model_copy(update={"expected": tuple((int(index), float(answer[index])) for index in best)})


def manifest_for(artifact: bytes, model: str, release: str, *, golden: GoldenSample, opset: int = 17) -> ModelManifest:
    """Return the manifest of an artifact."""
    return ModelManifest(
        model=model,
        release=release,
        artifact=FileRef(digest=sha256_hex(artifact), length_bytes=len(artifact)),
        opset=opset,
        inputs=(TensorSpec(name="image", dtype="float32", shape=("N", 3, CROP_PX, CROP_PX)),),
        outputs=(TensorSpec(name="probabilities", dtype="float32", shape=("N", len(LABELS))),),
        preprocessing=PREPROCESSING,
        labels=LABELS,
        golden_samples=(golden,),
    )


def tiny_release(release: str, counter: int, *, seed: int = 0, hidden: int = 16, model: str = "tiny") -> TinyRelease:
    """Return a good release."""
    artifact = tiny_artifact(seed, hidden)
    manifest = manifest_for(artifact, model, release, golden=golden_sample(artifact))
    return TinyRelease(model, release, counter, artifact, manifest.to_bytes())


def fine_tuned(base: TinyRelease, release: str, counter: int) -> TinyRelease:
    """Return a release whose last layer differs from the base's: a good case for a delta."""
    model = onnx.load_from_string(base.artifact)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "w2")
    changed = numpy_helper.to_array(head) * np.float32(1.01)
    head.CopyFrom(numpy_helper.from_array(changed, "w2"))
    artifact = bytes(model.SerializeToString(deterministic=True))
    manifest = manifest_for(artifact, base.model, release, golden=golden_sample(artifact))
    return TinyRelease(base.model, release, counter, artifact, manifest.to_bytes())


def wrong_release(release: str, counter: int, *, seed: int = 9) -> TinyRelease:
    """Return a release that is signed and whole, and answers its golden sample wrongly."""
    artifact = tiny_artifact(seed)
    golden = golden_sample(artifact).model_copy(update={"expected": ((0, 0.123), (1, 0.456))})
    return TinyRelease(
        "tiny", release, counter, artifact, manifest_for(artifact, "tiny", release, golden=golden).to_bytes()
    )


def make_frames(folder: Path, count: int = 3) -> Path:
    """Write pictures of noise and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for index in range(count):
        pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"frame{index}.png")
    return folder
