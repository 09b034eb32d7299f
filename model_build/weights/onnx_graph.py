"""Owns weights inside an ONNX graph: its convolutions in order, float, or 8-bit codes that the graph turns into floats.

Admits the files of `export` and those of other exporters that keep the order squeeze, expand 1×1, expand 3×3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from model_build.network import FloatLayer
from model_build.squeezenet import squeezenet_1_0
from ota_protocol.errors import MalformedError

_REMEDY = "give the ONNX file of a SqueezeNet 1.0 or 1.1"


def parse(data: bytes, what: str) -> dict[str, FloatLayer]:
    """Return the layers of an ONNX model.

    Raises:
        MalformedError: it is truncated, no ONNX model, keeps its weights elsewhere, or is no chain of 26 convolutions.
    """
    graph = read_graph(data, what)
    weights = _Weights(graph, what)
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    names = [convolution.name for convolution in squeezenet_1_0().convolutions]
    if len(nodes) != len(names):
        raise MalformedError(f"{what} has {len(nodes)} convolutions, {len(names)} are needed", remedy=_REMEDY)
    return {name: weights.layer(node) for name, node in zip(names, nodes, strict=True)}


def read_graph(data: bytes, what: str) -> onnx.GraphProto:
    """Return the graph of a checked ONNX model.

    Raises:
        MalformedError: it is truncated or no sound ONNX model.
    """
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MalformedError(f"{what} is no sound ONNX file: {first[:200]}", remedy="export it again") from error
    return model.graph


class _Weights:
    """Resolves an input of a node to the constant it is."""

    def __init__(self, graph: onnx.GraphProto, what: str) -> None:
        self._what = what
        self._constants: Mapping[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}

    def layer(self, node: onnx.NodeProto) -> FloatLayer:
        kernel = self._constant(node.input[1])
        if len(node.input) < 3 or not node.input[2]:
            return FloatLayer(kernel, np.zeros(len(kernel), np.float32))
        return FloatLayer(kernel, self._constant(node.input[2]))

    def _constant(self, name: str) -> NDArray[np.float32]:
        maker = self._makers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear":
            return self._dequantized(maker)
        if maker is not None and maker.op_type == "Mul":
            return np.ascontiguousarray(self._constant(maker.input[0]) * self._constant(maker.input[1]), np.float32)
        if maker is not None and maker.op_type in ("Identity", "Cast"):
            name = maker.input[0]
        return np.ascontiguousarray(self._array(name), np.float32)

    def _dequantized(self, node: onnx.NodeProto) -> NDArray[np.float32]:
        codes = self._array(node.input[0]).astype(np.float32)
        scale = np.asarray(self._array(node.input[1]), np.float32)
        zero = np.asarray(self._array(node.input[2]), np.float32) if len(node.input) > 2 else np.float32(0)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        if scale.ndim == 1 and codes.ndim > 1:
            shape = [-1 if index == axis % codes.ndim else 1 for index in range(codes.ndim)]
            scale, zero = scale.reshape(shape), np.broadcast_to(zero, scale.shape).reshape(shape)
        try:
            return np.ascontiguousarray((codes - zero) * scale, np.float32)
        except ValueError as error:
            raise MalformedError(f"{self._what}: the scale of {node.input[0]!r} does not fit it") from error

    def _array(self, name: str) -> NDArray[np.generic]:
        maker = self._makers.get(name)
        if maker is not None and maker.op_type == "Pad":
            name = maker.input[0]
        tensor = self._constants.get(name)
        if tensor is None:
            raise MalformedError(f"{self._what}: {name[:80]!r} is not a stored weight", remedy=_REMEDY)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise MalformedError(f"{self._what} keeps {name[:80]!r} in another file", remedy="export it as one file")
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise MalformedError(f"{self._what}: {name[:80]!r} is corrupt", remedy="export it again") from error
