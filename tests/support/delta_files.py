"""Small pairs of files, one for each thing that deltas must cope with: seeds of round trips, attacks and fuzzing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Arrays = Mapping[str, NDArray[Any]]
Pair = tuple[bytes | None, bytes]


def weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return kernels and biases of three layers, some 1,400 numbers, each channel of its own spread."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.float32]] = {}
    for number, shape in enumerate(((8, 3, 3, 3), (12, 8, 3, 3), (20, 12, 1, 1))):
        spread = generator.lognormal(-2, 0.5, (shape[0], 1, 1, 1))
        arrays[f"conv{number}.kernel"] = (generator.normal(0, 1, shape) * spread).astype(np.float32)
        arrays[f"conv{number}.bias"] = generator.normal(0, 0.1, shape[0]).astype(np.float32)
    return arrays


def moved(arrays: Arrays, seed: int = 1, share: float = 1e-3) -> dict[str, NDArray[Any]]:
    """Return the arrays after a small step of every number."""
    generator = np.random.default_rng(seed)
    return {
        name: (array + generator.normal(0, share, array.shape) * np.abs(array.astype(np.float64)).mean()).astype(
            array.dtype
        )
        for name, array in arrays.items()
    }


def codes(arrays: Arrays, dtype: Any = np.int8, steps: int = 100) -> dict[str, NDArray[Any]]:
    """Return the arrays as integers, the largest at ±`steps`."""
    return {name: np.rint(array / np.abs(array).max() * steps).astype(dtype) for name, array in arrays.items()}


def model(arrays: Arrays, *, names: Callable[[str], str] = str, producer: str = "test", lists: bool = False) -> bytes:
    """Return an ONNX file that holds the arrays as initialisers, each read by a node.

    Args:
        names: how initialisers are named.
        lists: numbers go to float_data and int32_data instead of raw_data.
    """
    tensors = [_tensor(names(name), array, lists) for name, array in arrays.items()]
    nodes = [helper.make_node("Identity", [tensor.name], [f"{tensor.name}/out"]) for tensor in tensors]
    graph = helper.make_graph(nodes, "graph", [], [], tensors)
    made = helper.make_model(graph, producer_name=producer, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(made.SerializeToString())


def _tensor(name: str, array: NDArray[Any], lists: bool) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
    if lists:
        tensor.ClearField("raw_data")
        field = tensor.float_data if tensor.data_type == TensorProto.FLOAT else tensor.int32_data
        field.extend(array.ravel().tolist())
    return tensor


def blob(arrays: Arrays) -> bytes:
    """Return the numbers alone, as an external data file has them."""
    return b"".join(array.tobytes() for array in arrays.values())


def pairs() -> dict[str, Pair]:
    """Return base and result by the name of what happened between them."""
    old = weights()
    new = moved(old)
    generator = np.random.default_rng(5)
    nibbles = codes(old, ml_dtypes.int4, 7)
    wide = np.repeat(weights(3)["conv1.kernel"].ravel(), 8).reshape(4, -1)
    return {
        "full float": (None, model(old)),
        "full int8": (None, model(codes(old))),
        "full palette": (None, model({"shared": generator.choice(old["conv0.kernel"].ravel()[:20], (64, 64))})),
        "identical": (model(old), model(old)),
        "empty result": (model(old), b""),
        "empty base": (b"", model(old)),
        "text": (b"the quick brown fox " * 50, b"the quick brown dog " * 50),
        "moved text": (_graph("module", 0), _graph("stem.block", 3)),
        "producer": (model(old), model(old, producer="someone else entirely")),
        "renamed": (model(old), model(new, names=lambda name: f"onnx::{name[::-1]}")),
        "reordered": (model(old), model(dict(sorted(new.items(), reverse=True)))),
        "float": (model(old), model(new)),
        "float lists": (model(old), model(new, lists=True)),
        "half": (model(_cast(old, np.float16)), model(_cast(new, np.float16))),
        "brain": (model(_cast(old, ml_dtypes.bfloat16)), model(_cast(new, ml_dtypes.bfloat16))),
        "float to half": (model(old), model(_cast(old, np.float16))),
        "half to float": (model(_cast(old, np.float16)), model(old)),
        "int8": (model(codes(old)), model(codes(new))),
        "int8 lists": (model(codes(old)), model(codes(new), lists=True)),
        "uint8": (model(_shifted(codes(old))), model(_shifted(codes(new)))),
        "int4": (model(nibbles), model(codes(moved(old, share=0.05), ml_dtypes.int4, 7))),
        "int32": (model(codes(old, np.int32, 10**6)), model(codes(new, np.int32, 10**6))),
        "float to int8": (model(old), model(codes(old))),
        "one more class": (model(old), model({**new, "conv2.kernel": _one_more(new["conv2.kernel"])})),
        "external data": (blob({"w": wide}), blob(moved({"w": wide}))),
        "unrelated": (model(old), model(weights(99))),
    }


def _graph(prefix: str, first: int) -> bytes:
    return "\n".join(f"{prefix}/layer_{n}/conv.{n * 5 % 4}/out {n * 7919 % 9973}" for n in range(first, 60)).encode()


def _cast(arrays: Arrays, dtype: Any) -> dict[str, NDArray[Any]]:
    return {name: array.astype(dtype) for name, array in arrays.items()}


def _shifted(arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {name: (array.astype(np.int32) + 128).astype(np.uint8) for name, array in arrays.items()}


def _one_more(kernel: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([kernel, kernel[:1] * np.float32(0.5)])
