"""Owns the pass that lets a compressed network learn from the uncompressed one; `model_build.distill` does the work."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_build.network import Network, QuantizedLayer
from ota_protocol.errors import RequestError


@dataclass(frozen=True, eq=False)
class DistillCodes:
    """Moves codes and biases by gradient descent on the KL from the teacher.

    Args:
        teacher: uncompressed.
        learn: (N, 3, side, side) preprocessed pictures, larger than the network's input where crops are wanted.
        check: (M, 3, input, input) preprocessed pictures that decide which moment was best.
        steps: of gradient descent.
        checkpoint: file that a run which was cut off goes on from.
    """

    teacher: Network
    learn: NDArray[np.float32]
    check: NDArray[np.float32]
    steps: int
    checkpoint: Path | None = None

    @property
    def name(self) -> str:
        return f"distill_codes({self.steps} steps, {len(self.learn)}+{len(self.check)} pictures)"

    def require(self, network: Network) -> None:
        require_torch()
        if not all(isinstance(layer, QuantizedLayer) for layer in network.layers.values()):
            raise RequestError("distillation needs a compressed network", remedy="compress it first")

    def rewrite(self, network: Network, progress: Callable[[float], None]) -> Network:
        from model_build.distill import Schedule, distill  # noqa: PLC0415 - torch is an extra, and takes seconds to load

        schedule = Schedule(steps=self.steps)
        return distill(
            network,
            self.teacher,
            learn=self.learn,
            check=self.check,
            schedule=schedule,
            checkpoint=self.checkpoint,
            progress=progress,
        )

    def ensure(self, before: Network, after: Network) -> None:
        assert before.activations == after.activations
        assert all(np.array_equal(_scale(before, name), _scale(after, name)) for name in before.layers)


def require_torch() -> None:
    """Check that the extra is installed.

    Raises:
        RequestError: it is not.
    """
    if importlib.util.find_spec("torch") is None:
        raise RequestError("distillation needs torch", remedy="pip install 'squeezeota-build[distill]'")


def _scale(network: Network, name: str) -> NDArray[np.float32]:
    layer = network.layers[name]
    assert isinstance(layer, QuantizedLayer)
    return layer.scale
