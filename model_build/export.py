"""Owns the ONNX file: the same network gives the same bytes, on every machine. No files are written here.

Input `image` (N, 3, side, side) float32, preprocessed; output `probabilities` (N, classes) float32. Tensors are named
after their layer: `conv1`, `pool1`, `fire2/squeeze1x1`, `fire2`, ... mean the value after ReLU, pooling or
concatenation; initialisers too: `conv1.kernel` or `conv1.codes` and `conv1.scale`, `conv1.bias`.

Quantised weights are int8 initialisers. Where the layer's input is held in 8 bits as well, they pass through
DequantizeLinear and the input through QuantizeLinear and DequantizeLinear, so that a runtime can pick integer kernels.
Elsewhere they are cast and multiplied: onnxruntime folds that when it loads the file and runs at the speed of floats,
but keeps a DequantizeLinear to the end and then runs it for every picture (measured with 1.32: 12.6 ms against 9.6).

A picture in 8 bits gets a fourth channel of zeros where the first kernel is small, and the kernel too: onnxruntime's
integer kernels take products by fours, and copying pixels of four bytes is quicker than of three (on one AVX2 machine
616 microseconds against 725 for conv1 of 1.1; a 7×7 kernel would lose more by the products than it wins).

The head of 1.0 has one pixel and is padded all the same: on the rim it sees zeros, and gives what its bias gives. In
integers the rim is left out, and its share is added to the averages. Networks in floats stay as their authors drew
them.
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
PRODUCER_VERSION = "2"
"""Part of the digest of every artifact: it changes only when the graph that is written changes."""
IMAGE = "image"
AVERAGE = "average"
"""The class scores: the mean of each class map."""
PROBABILITIES = "probabilities"
WIDE_CHANNELS = 4
_FEW_PRODUCTS = 64
"""Largest window of the first kernel, widened to `WIDE_CHANNELS`, that is widened."""

_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
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


def memory_channels(inputs: int, kernel_px: int) -> int:
    """Return how many input channels a kernel has where it meets integers."""
    return WIDE_CHANNELS if inputs == INPUT_CHANNELS and WIDE_CHANNELS * kernel_px**2 <= _FEW_PRODUCTS else inputs


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
        source = self._round_trip(IMAGE, widened=self._widened)
        for stage in self._network.architecture.stages:
            if isinstance(stage, Convolution):
                source = self._convolution(stage, source)
            elif isinstance(stage, MaxPool):
                source = self._pool(stage, source)
            else:
                source = self._fire(stage, source)
        self._add("GlobalAveragePool", [source], AVERAGE)
        self._add("Flatten", [AVERAGE], "scores", axis=1)
        self._add("Softmax", [self._with_rim("scores") if self._rim_share else "scores"], PROBABILITIES, axis=1)
        return self._nodes

    @property
    def _widened(self) -> bool:
        """Tell whether picture and first kernel get a channel of zeros."""
        first = self._network.architecture.convolutions[0]
        return self._in_integers(first.name) and memory_channels(first.inputs, first.kernel_px) > first.inputs

    @property
    def _rim_share(self) -> float:
        """Share of the head's positions that are left out of its convolution."""
        architecture = self._network.architecture
        return architecture.rim_share if self._in_integers(architecture.head.name) else 0.0

    def _with_rim(self, scores: str) -> str:
        """Add to the class scores what the head's bias alone gives on the rim; return their name."""
        head, share = self._network.architecture.head.name, np.float32(self._rim_share)
        self._add("Relu", [f"{head}.bias"], "rim")
        for source, part in (("rim", share), (scores, 1 - share)):
            self._add("Mul", [source, self._initializer(f"{source}.share", part)], f"{source}/weighed")
        self._add("Add", [f"{scores}/weighed", "rim/weighed"], "logits")
        return "logits"

    def _convolution(self, convolution: Convolution, source: str) -> str:
        name = convolution.name
        bare = convolution is self._network.architecture.head and self._rim_share
        padding = 0 if bare else convolution.padding
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
        if self._in_integers(name):
            if self._widened and self._reads[name] == IMAGE:
                zero = self._initializer(f"{name}.zero", np.int8(0))
                codes = self._widen(codes, zero, f"{name}.widened")
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

    def _in_integers(self, name: str) -> bool:
        """Tell whether a convolution's input and kernel are both held in 8 bits."""
        return self._reads_codes(name) and isinstance(self._network.layers[name], QuantizedLayer)

    def _bias(self, name: str) -> str:
        """Name the bias; beside integer operands it is integer too, at the product of their steps."""
        layer = self._network.layers[name]
        if not self._in_integers(name) or isinstance(layer, FloatLayer):
            return self._initializer(f"{name}.bias", layer.bias)
        activation = self._network.activations[self._reads[name]]
        step = (np.float32(activation.scale) * layer.scale).astype(np.float32)
        limit = np.iinfo(np.int32).max
        codes = np.rint(layer.bias.astype(np.float64) / step).clip(-limit, limit).astype(np.int32)
        operands = [self._initializer(f"{name}.bias_codes", codes), self._initializer(f"{name}.bias_scale", step)]
        self._add("DequantizeLinear", operands, f"{name}.bias", **({"axis": 0} if step.ndim else {}))
        return f"{name}.bias"

    def _round_trip(self, name: str, *, widened: bool = False) -> str:
        """Pass a tensor through 8 bits if the network holds it so; return the name of what the next layer reads."""
        activation = self._network.activations.get(name)
        if activation is None:
            return name
        operands = self._activation(name, activation)
        self._add("QuantizeLinear", [name, *operands], f"{name}/codes")
        codes = self._widen(f"{name}/codes", operands[1], f"{name}/widened") if widened else f"{name}/codes"
        self._add("DequantizeLinear", [codes, *operands], f"{name}/restored")
        return f"{name}/restored"

    def _widen(self, codes: str, zero: str, output: str) -> str:
        """Add channels up to `WIDE_CHANNELS`, filled with `zero`."""
        pads = np.array([0, 0, 0, 0, 0, WIDE_CHANNELS - INPUT_CHANNELS, 0, 0], np.int64)
        self._add("Pad", [codes, self._initializer(f"{output}.pads", pads), zero], output)
        return output

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
