"""Owns a compression from weights to release: recipe, build, the compressed full, the delta, the gate on bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from model_build.build import Order, build
from model_build.calibration import CalibrationPictures
from model_build.compress_report import compression_report, networks_to_judge, trade_offs
from model_build.compression.known import Base
from model_build.compression.search import Goal
from model_build.evaluate import compare
from model_build.export import to_onnx
from model_build.network import FloatLayer, Network
from model_build.passes.compress_weights import CompressWeights, Outcome
from model_build.passes.distill_codes import DistillCodes, require_torch
from model_build.passes.quantize_activations import QuantizeActivations
from model_build.pictures import View, read_tensors, read_uncropped, read_views
from model_build.recipe import Gate, Pass, Progress, Recipe
from model_build.release_folder import BuiltRelease
from model_build.weights import exported, npz
from ota_protocol.delta.encode import encode
from ota_protocol.errors import RequestError
from ota_protocol.manifest import Preprocessing

WEIGHTS_FILE = "weights.npz"
"""The distilled weights as floats, to start from again as `npz:`."""
FULL_FILE = "model.onnx.full"
"""The compressed full of the delta format: what travels to a vehicle that holds no base."""
DELTA_FILE = "model.onnx.delta"
"""The delta from the base release, if one was given."""
CHECK_VIEWS = (View(), View(mirrored=True), View(0.0, 0.0), View(1.0, 1.0, mirrored=True))
"""Views of each picture held back: the KL over one alone scatters by a seventh, and the search would follow chance."""


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
        distill_steps: of learning from the uncompressed network after that; 0 for none, else torch is needed.
        checkpoint: file that a distillation which was cut off goes on from.
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
    distill_steps: int = 0
    checkpoint: Path | None = None
    gate: Gate = field(default_factory=Gate)
    max_full_bytes: int | None = None
    labels: Sequence[str] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed release, and what travels instead of its file, by name."""

    built: BuiltRelease
    transfers: dict[str, bytes]
    weights: dict[str, bytes]
    """The distilled weights, by the name of their file; empty without distillation."""


def compress(network: Network, wanted: Compression, progress: Progress) -> Compressed:
    """Return the release that `wanted` asks for.

    Raises:
        RequestError: the goal is out of reach, the base does not fit, or the gate is not passed.
        MalformedError: a picture or the base cannot be read.
    """
    start = time.perf_counter()
    outcomes: list[Outcome] = []
    passes = list(_passes(network, wanted, outcomes.append))
    built = build(network, _order(wanted, passes), progress)
    transfers = _transfers(built.artifact, wanted.base)
    _check_bytes(len(transfers[FULL_FILE]), wanted.max_full_bytes)
    figures = compression_report(
        outcomes[-1],
        {name: len(data) for name, data in transfers.items()},
        fp32_bytes=4 * network.architecture.parameters,
        seconds=time.perf_counter() - start,
    )
    figures |= _trade_offs(network, wanted, outcomes[-1], progress)
    weights = _weights(built.artifact) if wanted.distill_steps else {}
    return Compressed(replace(built, report={**built.report, **figures}), transfers, weights)


def _passes(network: Network, wanted: Compression, on_outcome: Callable[[Outcome], None]) -> Iterator[Pass]:
    """Yield the passes of the recipe."""
    prepared = wanted.preprocessing
    learn = read_tensors(wanted.pictures.learn, prepared)
    check = read_views(wanted.pictures.check, prepared, CHECK_VIEWS)
    base = Base(exported.read(wanted.base, "the base"), wanted.base) if wanted.base is not None else None
    if base is None and not wanted.weights_only:
        yield QuantizeActivations(learn)
    yield CompressWeights(learn, check, wanted.goal, base, on_outcome=on_outcome)
    if wanted.distill_steps:
        require_torch()
        whole = read_uncropped(wanted.pictures.learn, prepared)
        yield DistillCodes(network, whole, check, wanted.distill_steps, wanted.checkpoint)


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


def _weights(artifact: bytes) -> dict[str, bytes]:
    layers = exported.read(artifact, "the result").layers
    return {WEIGHTS_FILE: npz.pack({name: FloatLayer(layer.kernel, layer.bias) for name, layer in layers.items()})}


def _trade_offs(network: Network, wanted: Compression, outcome: Outcome, progress: Progress) -> dict[str, JsonValue]:
    """Return what a base's codes save and cost against compressing anew; nothing without a base."""
    points = networks_to_judge(outcome)
    if not points:
        return {}
    judged = compare(
        [to_onnx(one.walked.network) for one in points],
        wanted.judges or wanted.pictures.check,
        wanted.preprocessing,
        classes=wanted.classes,
        reference=to_onnx(network),
        progress=lambda share: progress("compare with a compression from scratch", share),
    )
    return trade_offs(outcome, judged)


def _check_bytes(found: int, most: int | None) -> None:
    if most is not None and found > most:
        raise RequestError(
            f"the build misses its targets: {found:,} bytes of {FULL_FILE} > {most:,}",
            remedy="nothing was written; ease them or the recipe",
        )
