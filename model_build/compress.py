"""Owns a compression from weights to release: recipe, build, the compressed full, the delta, the gate on bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from model_build.build import Order, build
from model_build.calibration import CalibrationPictures
from model_build.compress_report import compression_report
from model_build.compression.known import Base
from model_build.compression.search import Goal
from model_build.network import Network
from model_build.passes.compress_weights import CompressWeights, Outcome
from model_build.passes.quantize_activations import QuantizeActivations
from model_build.pictures import read_tensors
from model_build.recipe import Gate, Pass, Progress, Recipe
from model_build.release_folder import BuiltRelease
from model_build.weights import exported
from ota_protocol.delta.encode import encode
from ota_protocol.errors import RequestError
from ota_protocol.manifest import Preprocessing

FULL_FILE = "model.onnx.full"
"""The compressed full of the delta format: what travels to a vehicle that holds no base."""
DELTA_FILE = "model.onnx.delta"
"""The delta from the base release, if one was given."""


@dataclass(frozen=True)
class Compression:
    """What is to be compressed, and how far.

    Args:
        model, release: the name it is published under.
        pictures: calibration photographs.
        goal: budget or bound on the KL that is searched for.
        base: the ONNX file that vehicles hold already; its activations are held as it holds them.
        weights_only: leave activations in float32: more faithful, but no faster than the uncompressed.
        judges, classes: pictures to judge by and what they show; the held-back calibration pictures if empty.
        gate: what the result must reach where it is judged.
        max_full_bytes: bound on the compressed full.
    """

    model: str
    release: str
    pictures: CalibrationPictures
    goal: Goal
    base: bytes | None = None
    weights_only: bool = False
    judges: Sequence[Path] = ()
    classes: Sequence[int] = ()
    gate: Gate = field(default_factory=Gate)
    max_full_bytes: int | None = None
    labels: Sequence[str] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed release, and what travels instead of its file, by name."""

    built: BuiltRelease
    transfers: dict[str, bytes]


def compress(network: Network, wanted: Compression, progress: Progress) -> Compressed:
    """Return the release that `wanted` asks for.

    Raises:
        RequestError: the goal is out of reach, the base does not fit, or the gate is not passed.
        MalformedError: a picture or the base cannot be read.
    """
    start = time.perf_counter()
    outcomes: list[Outcome] = []
    prepared = wanted.preprocessing
    learn = read_tensors(wanted.pictures.learn, prepared)
    step = CompressWeights(
        learn=learn,
        check=read_tensors(wanted.pictures.check, prepared),
        goal=wanted.goal,
        base=Base(exported.read(wanted.base, "the base"), wanted.base) if wanted.base is not None else None,
        on_outcome=outcomes.append,
    )
    plain = wanted.weights_only or wanted.base is not None
    passes: list[Pass] = [step] if plain else [QuantizeActivations(learn), step]
    built = build(network, _order(wanted, passes), progress)
    transfers = _transfers(built.artifact, wanted.base)
    _check_bytes(len(transfers[FULL_FILE]), wanted.max_full_bytes)
    figures = compression_report(
        outcomes[-1],
        {name: len(data) for name, data in transfers.items()},
        fp32_bytes=4 * network.architecture.parameters,
        seconds=time.perf_counter() - start,
    )
    return Compressed(replace(built, report={**built.report, **figures}), transfers)


def _order(wanted: Compression, passes: Sequence[Pass]) -> Order:
    return Order(
        model=wanted.model,
        release=wanted.release,
        recipe=Recipe(passes),
        judges=wanted.judges or wanted.pictures.check,
        classes=wanted.classes,
        golden=wanted.pictures.learn,
        gate=wanted.gate,
        labels=wanted.labels,
        preprocessing=wanted.preprocessing,
    )


def _transfers(artifact: bytes, base: bytes | None) -> dict[str, bytes]:
    full = {FULL_FILE: encode(None, artifact)}
    return full if base is None else {**full, DELTA_FILE: encode(base, artifact)}


def _check_bytes(found: int, most: int | None) -> None:
    if most is not None and found > most:
        raise RequestError(
            f"the build misses its targets: {found:,} bytes of {FULL_FILE} > {most:,}",
            remedy="nothing was written; ease them or the recipe",
        )
