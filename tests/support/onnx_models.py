"""Small ONNX files for tests: sound ones, and each kind of broken one."""

from __future__ import annotations

import base64

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ota_protocol.digest import sha256_hex
from ota_protocol.manifest import FileRef, GoldenSample, ModelManifest, Preprocessing, TensorSpec

OPSET = 17


def onnx_bytes(seed: int = 0, *, opset: int = OPSET, classes: int = 8, changed: int = 0) -> bytes:
    """Return a network of one convolution and a mean: (N, 3, 8, 8) float32 → (N, classes) float32.

    Args:
        seed: of the weights; equal seeds give equal weights.
        opset: that the file names.
        classes: outputs.
        changed: how many weights differ from those of the seed, as after a fine-tune.
    """
    weights = np.random.default_rng(seed).normal(size=(classes, 3, 8, 8)).astype(np.float32)
    weights.reshape(-1)[:changed] += np.float32(0.5)
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["maps"]),
        helper.make_node("Flatten", ["maps"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


def with_external_data(sound: bytes) -> bytes:
    """Return the file with its weights said to lie in another file."""
    model = onnx.load_from_string(sound)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model.SerializeToString()


def with_unknown_domain(sound: bytes) -> bytes:
    """Return the file with an operator that only its maker's runtime has."""
    model = onnx.load_from_string(sound)
    model.opset_import.add(domain="example.private", version=1)
    model.graph.node[0].domain = "example.private"
    return model.SerializeToString()


def with_broken_graph(sound: bytes) -> bytes:
    """Return a file that parses, and whose first node reads a tensor that nobody makes."""
    model = onnx.load_from_string(sound)
    model.graph.node[0].input[0] = "nowhere"
    return model.SerializeToString()


def manifest_of(artifact: bytes, model: str, release: str, *, opset: int = OPSET, classes: int = 8) -> ModelManifest:
    """Return the model manifest of a file that `onnx_bytes` made."""
    sample = GoldenSample(
        patch_px=1, patch_base64=base64.b64encode(b"\x10\x20\x30").decode(), expected=((0, 0.5),), tolerance=0.1
    )
    return ModelManifest(
        model=model,
        release=release,
        artifact=FileRef(digest=sha256_hex(artifact), length_bytes=len(artifact)),
        opset=opset,
        inputs=(TensorSpec(name="image", dtype="float32", shape=("N", 3, 8, 8)),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=("N", classes)),),
        preprocessing=Preprocessing(resize_px=8, crop_px=8),
        labels=tuple(f"class {index}" for index in range(classes)),
        golden_samples=(sample,),
        metrics={"top1": 0.5},
    )
