"""Owns how pictures flow through an architecture one convolution at a time, in portions, the same on any thread count.

A portion is a fixed number of pictures; portions are worked on in parallel and added up in order, so that neither the
number of threads nor their pace changes a bit of any sum. Inside a portion everything runs on one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from model_build.export import IR_VERSION, OPSET
from model_build.squeezenet import Architecture, Convolution, Fire, MaxPool

PORTION = 16
"""Pictures of one portion: small enough that its widest activation (v1.0's conv1: 4.7 MB a picture) stays in memory."""

Values = NDArray[np.float32]
Portions = list[Values]
Convolve = Callable[[Convolution, Portions], Portions]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Workers:
    """Threads that share the work of each layer."""

    executor: ThreadPoolExecutor

    def map(self, action: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Return the results in the order of `items`."""
        return list(self.executor.map(action, items))


@contextmanager
def workers(count: int | None = None) -> Iterator[Workers]:
    """Yield threads, with the linear algebra below numpy held to one thread: its sums depend on how it splits them.

    Args:
        count: threads; None takes one a processor.
    """
    with threadpool_limits(limits=1), ThreadPoolExecutor(count or os.cpu_count()) as executor:
        yield Workers(executor)


def portions(images: Values) -> Portions:
    """Return `images` in pieces of at most `PORTION`."""
    return [images[start : start + PORTION] for start in range(0, len(images), PORTION)]


def flow(architecture: Architecture, images: Portions, convolve: Convolve, threads: Workers) -> Portions:
    """Send `images` through every stage and return the class maps after the head.

    Args:
        convolve: called once for each convolution, in the order of the computation, with its input.
    """
    values = images
    for stage in architecture.stages:
        if isinstance(stage, Convolution):
            values = convolve(stage, values)
        elif isinstance(stage, MaxPool):
            values = threads.map(max_pool, values)
        else:
            values = _fire(stage, values, convolve)
    return values


def _fire(fire: Fire, values: Portions, convolve: Convolve) -> Portions:
    squeeze, expand1x1, expand3x3 = fire.convolutions
    squeezed = convolve(squeeze, values)
    halves = [convolve(expand, squeezed) for expand in (expand1x1, expand3x3)]
    return [np.concatenate(pair, axis=1) for pair in zip(*halves, strict=True)]


def max_pool(values: Values) -> Values:
    """Return the 3×3 maximum at stride 2 over values that are not negative, windows reaching over the edge.

    Args:
        values: (N, channels, side, side), after ReLU.
    """
    reach = -((3 - values.shape[2]) // 2) * 2 + 3 - values.shape[2]
    padded = np.pad(values, ((0, 0), (0, 0), (0, reach), (0, reach))) if reach else values
    last = padded.shape[2] - 2
    rows = np.maximum(padded[:, :, 0:last:2], padded[:, :, 1 : last + 1 : 2])
    np.maximum(rows, padded[:, :, 2 : last + 2 : 2], out=rows)
    columns = np.maximum(rows[..., 0:last:2], rows[..., 1 : last + 1 : 2])
    return np.maximum(columns, rows[..., 2 : last + 2 : 2], out=columns)


class Convolver:
    """One convolution with ReLU, ready to run on any thread.

    Args:
        kernel: (outputs, inputs, height, width) float32.
        bias: (outputs,) float32.
    """

    def __init__(self, convolution: Convolution, kernel: Values, bias: Values) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = _model(convolution, kernel, bias)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, values: Values) -> Values:
        """Return (N, outputs, side, side) for (N, inputs, side, side)."""
        return np.asarray(self._session.run(None, {"x": values})[0], np.float32)


def _model(one: Convolution, kernel: Values, bias: Values) -> bytes:
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["linear"], strides=[one.stride] * 2, pads=[one.padding] * 4),
        helper.make_node("Relu", ["linear"], ["y"]),
    ]
    kinds = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", kinds, ["N", one.inputs, None, None])],
        [helper.make_tensor_value_info("y", kinds, ["N", one.outputs, None, None])],
        [
            helper.make_tensor("kernel", kinds, kernel.shape, np.ascontiguousarray(kernel).tobytes(), raw=True),
            helper.make_tensor("bias", kinds, bias.shape, np.ascontiguousarray(bias).tobytes(), raw=True),
        ],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION).SerializeToString())
