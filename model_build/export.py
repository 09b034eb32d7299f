"""Owns the ONNX file: the same network gives the same bytes, on every machine. No files are written here.

Input `image` (N, 3, side, side) float32, preprocessed; output `probabilities` (N, classes) float32. Tensors are named
after their layer: `conv1`, `pool1`, `fire2/squeeze1x1`, `fire2`, ... mean the value after ReLU, pooling or
concatenation; initialisers too: `conv1.kernel` or `conv1.codes` and `conv1.scale`, `conv1.bias`.

Quantised weights are int8 initialisers. Where the layer's input is held in 8 bits as well, they pass through
DequantizeLinear and the input through QuantizeLinear and DequantizeLinear, so that a runtime can pick integer kernels.
Elsewhere they are cast and multiplied: onnxruntime folds that when it loads the file and runs at the speed of floats,
but keeps a DequantizeLinear to the end and then runs it for every picture (measured with 1.32: 12.6 ms against 9.6).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from model_build.network import ActivationScale, FloatLayer, Network, QuantizedLayer
from model_build.squeezenet import INPUT_CHANNELS, Convolution, Fire, MaxPool
from ota_protocol.manifest import TensorSpec

OPSET = 17
IR_VERSION = 8
"""The IR version that came with opset 17: older runtimes refuse a newer one."""
PRODUCER = "squeezeota"
PRODUCER_VERSION = "1"
"""Part of the digest of every artifact: it changes only when the graph that is written changes."""
IMAGE = "image"
PROBABILITIES = "probabilities"

_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int32): TensorProto.INT32,
}


def to_onnx(network: Network, *, expose: Sequence[str] = ()) -> bytes:
    """Return the ONNX file of `network`.

    Args:
        network: float or quantised, layer by layer.
        expose: names of inner tensors to be outputs too, for calibration; a released file has none.
    """
    builder = _Builder(network)
    graph = helper.make_graph(
        builder.nodes(),
        network.architecture.name,
        [_value_info(spec) for spec in inputs(network)],
        [*(_value_info(spec) for spec in outputs(network)), *(_unshaped(name) for name in expose)],
        builder.initializers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
        producer_version=PRODUCER_VERSION,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def inputs(network: Network) -> tuple[TensorSpec, ...]:
    """Return what the graph takes."""
    side = network.architecture.input_px
    return (TensorSpec(name=IMAGE, dtype="float32", shape=("N", INPUT_CHANNELS, side, side)),)


def outputs(network: Network) -> tuple[TensorSpec, ...]:
    """Return what the graph gives."""
    return (TensorSpec(name=PROBABILITIES, dtype="float32", shape=("N", network.architecture.classes)),)


def input_of(network: Network) -> dict[str, str]:
    """Return by the name of each convolution the name of the tensor that it reads (without any 8-bit round trip)."""
    source, read = IMAGE, {}
    for stage in network.architecture.stages:
        if isinstance(stage, Fire):
            squeeze, *expands = stage.convolutions
            read[squeeze.name] = source
            read.update({expand.name: squeeze.name for expand in expands})
        elif isinstance(stage, Convolution):
            read[stage.name] = source
        source = stage.name
    return read


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape))


def _unshaped(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None, None, None])


class _Builder:
    """Collects the nodes and initialisers of one graph."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._reads = input_of(network)
        self._nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def nodes(self) -> list[onnx.NodeProto]:
        source = self._round_trip(IMAGE)
        for stage in self._network.architecture.stages:
            if isinstance(stage, Convolution):
                source = self._convolution(stage, source)
            elif isinstance(stage, MaxPool):
                source = self._pool(stage, source)
            else:
                source = self._fire(stage, source)
        self._add("GlobalAveragePool", [source], "average")
        self._add("Flatten", ["average"], "logits", axis=1)
        self._add("Softmax", ["logits"], PROBABILITIES, axis=1)
        return self._nodes

    def _convolution(self, convolution: Convolution, source: str) -> str:
        name = convolution.name
        padding = convolution.padding
        self._add(
            "Conv",
            [source, self._kernel(name), self._bias(name)],
            f"{name}/linear",
            kernel_shape=[convolution.kernel_px] * 2,
            strides=[convolution.stride] * 2,
            pads=[padding] * 4,
        )
        self._add("Relu", [f"{name}/linear"], name)
        return self._round_trip(name)

    def _pool(self, pool: MaxPool, source: str) -> str:
        shape = {"kernel_shape": [pool.kernel_px] * 2, "strides": [pool.stride] * 2}
        self._add("MaxPool", [source], pool.name, ceil_mode=1, **shape)
        return self._round_trip(pool.name)

    def _fire(self, fire: Fire, source: str) -> str:
        squeeze, expand1x1, expand3x3 = fire.convolutions
        squeezed = self._convolution(squeeze, source)
        expanded = [self._convolution(expand, squeezed) for expand in (expand1x1, expand3x3)]
        self._add("Concat", expanded, fire.name, axis=1)
        return self._round_trip(fire.name)

    def _kernel(self, name: str) -> str:
        layer = self._network.layers[name]
        if isinstance(layer, FloatLayer):
            return self._initializer(f"{name}.kernel", layer.kernel)
        codes = self._initializer(f"{name}.codes", layer.codes)
        if self._reads_codes(name):
            operands = [codes, self._initializer(f"{name}.scale", layer.scale)]
            self._add("DequantizeLinear", operands, f"{name}.kernel", **({"axis": 0} if layer.scale.ndim else {}))
            return f"{name}.kernel"
        scale = layer.scale.reshape(-1, 1, 1, 1) if layer.scale.ndim else layer.scale
        self._add("Cast", [codes], f"{name}.floats", to=int(TensorProto.FLOAT))
        self._add("Mul", [f"{name}.floats", self._initializer(f"{name}.scale", scale)], f"{name}.kernel")
        return f"{name}.kernel"

    def _reads_codes(self, name: str) -> bool:
        """Tell whether a convolution's input is held in 8 bits."""
        return self._reads[name] in self._network.activations

    def _bias(self, name: str) -> str:
        """Name the bias; beside integer operands it is integer too, at the product of their steps."""
        layer = self._network.layers[name]
        if not self._reads_codes(name) or not isinstance(layer, QuantizedLayer):
            return self._initializer(f"{name}.bias", layer.bias)
        activation = self._network.activations[self._reads[name]]
        step = (np.float32(activation.scale) * layer.scale).astype(np.float32)
        limit = np.iinfo(np.int32).max
        codes = np.rint(layer.bias.astype(np.float64) / step).clip(-limit, limit).astype(np.int32)
        operands = [self._initializer(f"{name}.bias_codes", codes), self._initializer(f"{name}.bias_scale", step)]
        self._add("DequantizeLinear", operands, f"{name}.bias", **({"axis": 0} if step.ndim else {}))
        return f"{name}.bias"

    def _round_trip(self, name: str) -> str:
        """Pass a tensor through 8 bits if the network holds it so; return the name of what the next layer reads."""
        activation = self._network.activations.get(name)
        if activation is None:
            return name
        operands = self._activation(name, activation)
        self._add("QuantizeLinear", [name, *operands], f"{name}/codes")
        self._add("DequantizeLinear", [f"{name}/codes", *operands], f"{name}/restored")
        return f"{name}/restored"

    def _activation(self, name: str, activation: ActivationScale) -> list[str]:
        return [
            self._initializer(f"{name}/scale", np.float32(activation.scale)),
            self._initializer(f"{name}/zero_point", np.uint8(activation.zero_point)),
        ]

    def _initializer(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        array = np.asarray(value)
        raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        self.initializers.append(helper.make_tensor(name, _TYPES[array.dtype], array.shape, raw, raw=True))
        return name

    def _add(self, operator: str, sources: list[str], output: str, **attributes: int | list[int]) -> None:
        node = helper.make_node(operator, sources, [output], name=f"{output}/{operator}")
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self._nodes.append(node)
