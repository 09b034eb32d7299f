"""Owns running an ONNX file in onnxruntime on one thread: the runtime that the vehicles use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model_build.export import IMAGE, PROBABILITIES
from ota_protocol.errors import MalformedError

RUNS = 15
"""Runs whose median is a latency."""
_WARM_UP = 3
BATCH = 8
"""Pictures in one run: v1.0's widest activation (96×111×111 float32) takes 38 MB at this size."""

T = TypeVar("T")

_LOG_FATAL_ONLY = 4


class Session:
    """One loaded ONNX file.

    Args:
        model: the bytes of the file.
        optimized: let onnxruntime rewrite the graph as it does on vehicles; False runs it node by node.

    Raises:
        MalformedError: onnxruntime cannot load it.
    """

    def __init__(self, model: bytes, *, optimized: bool = True) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _LOG_FATAL_ONLY
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
        self._session = _mapped(
            lambda: onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]), "does not load"
        )

    @property
    def classes(self) -> int:
        """Classes that the model tells apart.

        Raises:
            MalformedError: its first output is no list of probabilities.
        """
        shape = self._session.get_outputs()[0].shape
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise MalformedError(
                f"the ONNX file gives {shape}, not (N, classes)", remedy="give a classifier of pictures"
            )
        return shape[1]

    def run(self, images: NDArray[np.float32], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the tensors `names` for a batch of preprocessed pictures.

        Raises:
            MalformedError: the model has no such output, takes another input, or fails.
        """
        return list(_mapped(lambda: self._session.run(list(names), {IMAGE: images}), "does not run"))

    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, classes) for (N, 3, side, side), in batches of `BATCH`.

        Raises:
            MalformedError: the model does not answer as a classifier does.
        """
        parts = [self.run(batch, [PROBABILITIES])[0] for batch in batches(images)]
        return np.concatenate(parts)

    def timed_ms(self, image: NDArray[np.float32]) -> float:
        """Return the time of one run in ms."""
        start = time.perf_counter()
        self.run(image, [PROBABILITIES])
        return (time.perf_counter() - start) * 1000


def latencies_ms(sessions: Sequence[Session], image: NDArray[np.float32], runs: int = RUNS) -> list[float]:
    """Return the median time of each session for one picture; they take turns, so that all meet the same noise."""
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(_WARM_UP + runs):
        for session, own in zip(sessions, times, strict=True):
            own.append(session.timed_ms(image))
    return [median(own[_WARM_UP:]) for own in times]


def batches(images: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield `images` in pieces of at most `BATCH`."""
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


def _mapped(action: Callable[[], T], what: str) -> T:
    """Run `action`; onnxruntime raises a dozen classes that share no base of its own."""
    try:
        return action()
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MalformedError(f"the ONNX file {what}: {first[:200]}", remedy="export it again") from error
