"""Owns how good an ONNX file is: accuracy, agreement with a reference, size and one-thread latency. No files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_build.inference import BATCH, Session, latencies_ms
from model_build.pictures import read_tensors
from ota_protocol.manifest import Preprocessing

_LEAST_PROBABILITY = 1e-12
"""Keeps the logarithm finite where a model rules a class out."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of one ONNX file over some pictures; None where no labels or no reference were given.

    Args:
        top1, top5: share of pictures whose class is the first, or among the first five.
        agreement: share of pictures with the reference's first class.
        kl: mean KL(reference ‖ model) in nats.
    """

    pictures: int
    artifact_bytes: int
    latency_ms: float
    top1: float | None = None
    top5: float | None = None
    agreement: float | None = None
    kl: float | None = None
    reference_latency_ms: float | None = None

    def figures(self) -> dict[str, float]:
        """Return the figures that exist, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def repeatable(self) -> dict[str, float]:
        """Return those that do not depend on the machine's speed: what a manifest may hold."""
        return {name: round(value, 6) for name, value in self.figures().items() if not name.endswith("_ms")}


def evaluate(
    model: bytes,
    pictures: Sequence[Path],
    preprocessing: Preprocessing,
    *,
    classes: Sequence[int] = (),
    reference: bytes | None = None,
    progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """Return the figures of an ONNX file over `pictures`.

    Args:
        classes: what each picture shows; empty if that is not known.
        reference: the ONNX file to compare with, usually the uncompressed one.
        progress: called with the share that is done, from 0 to 1.

    Raises:
        MalformedError: a picture cannot be read, or a model does not run.
    """
    (figures,) = compare(
        [model], pictures, preprocessing, classes=classes, reference=reference, progress=progress or _ignore
    )
    sessions = [Session(file) for file in (model, reference) if file is not None]
    times = latencies_ms(sessions, read_tensors(pictures[:1], preprocessing))
    return Evaluation(
        pictures=len(pictures),
        artifact_bytes=len(model),
        latency_ms=round(times[0], 3),
        reference_latency_ms=round(times[1], 3) if reference is not None else None,
        **figures,
    )


def compare(
    models: Sequence[bytes],
    pictures: Sequence[Path],
    preprocessing: Preprocessing,
    *,
    classes: Sequence[int],
    reference: bytes | None,
    progress: Callable[[float], None],
) -> list[dict[str, float]]:
    """Return accuracy and closeness of several ONNX files over the same pictures, each read once.

    The arguments are those of `evaluate`.
    """
    sessions = [Session(model) for model in [*models, *([reference] if reference is not None else [])]]
    found: list[list[NDArray[np.float32]]] = [[] for _ in sessions]
    for start in range(0, len(pictures), BATCH):
        images = read_tensors(pictures[start : start + BATCH], preprocessing)
        for session, parts in zip(sessions, found, strict=True):
            parts.append(session.probabilities(images))
        progress(min(1.0, (start + BATCH) / len(pictures)))
    answers = [np.concatenate(parts) for parts in found]
    return [
        {**accuracy(own, classes), **(closeness(own, answers[-1]) if reference is not None else {})}
        for own in answers[: len(models)]
    ]


def _ignore(_share: float) -> None:
    pass


def accuracy(found: NDArray[np.float32], classes: Sequence[int]) -> dict[str, float]:
    """Return `top1` and `top5` of (N, classes) probabilities, or nothing without labels."""
    if not classes:
        return {}
    truth = np.asarray(classes)[:, np.newaxis]
    ranked = np.argsort(-found, axis=1, kind="stable")[:, :5]
    return {
        "top1": float((ranked[:, :1] == truth).any(axis=1).mean()),
        "top5": float((ranked == truth).any(axis=1).mean()),
    }


def closeness(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> dict[str, float]:
    """Return `agreement` and `kl` of (N, classes) probabilities with those of the reference."""
    p = wanted.astype(np.float64).clip(_LEAST_PROBABILITY)
    q = found.astype(np.float64).clip(_LEAST_PROBABILITY)
    return {
        "agreement": float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
        "kl": float((p * (np.log(p) - np.log(q))).sum(axis=1).mean()),
    }
