"""Owns the way from weights to a release: recipe, export, evaluation, gate, golden samples, manifest. No files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime
from pydantic import JsonValue, TypeAdapter, ValidationError

from model_build.evaluate import Evaluation, evaluate
from model_build.export import OPSET, inputs, outputs, to_onnx
from model_build.golden import golden_samples
from model_build.labels import labels_for
from model_build.network import Network
from model_build.recipe import Gate, Progress, Recipe
from model_build.release_folder import BuiltRelease
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import RequestError
from ota_protocol.manifest import FileRef, ModelManifest, Name, Preprocessing, ReleaseName


@dataclass(frozen=True)
class Order:
    """What is to be built.

    Args:
        model, release: the name it is published under.
        recipe: the passes that compress it.
        gate: what it must reach.
        judges: pictures that it is evaluated on.
        classes: what each of `judges` shows; empty if that is not known.
        golden: pictures that golden samples are made of.
        labels: one a class; empty means ImageNet's.
    """

    model: str
    release: str
    recipe: Recipe
    judges: Sequence[Path]
    golden: Sequence[Path]
    classes: Sequence[int] = ()
    gate: Gate = field(default_factory=Gate)
    labels: Sequence[str] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


def build(network: Network, order: Order, progress: Progress) -> BuiltRelease:
    """Return the release that `order` asks for, compressed from `network`.

    Args:
        network: the uncompressed reference.
        progress: called with the name of each step and its share done.

    Raises:
        RequestError: the order cannot be met: names, labels, or a target of the gate.
        MalformedError: a picture cannot be read.
    """
    start = time.perf_counter()
    _require_names(order)
    labels = labels_for(network.architecture.classes, order.labels)
    compressed = order.recipe.apply(network, progress)
    artifact, reference = to_onnx(compressed), to_onnx(network)
    found = evaluate(
        artifact,
        order.judges,
        order.preprocessing,
        classes=order.classes,
        reference=reference,
        progress=lambda share: progress("evaluate", share),
    )
    order.gate.check(found)
    manifest = _manifest(compressed, artifact, labels, found, order)
    report = _report(manifest, compressed, found, len(reference), time.perf_counter() - start)
    return BuiltRelease(artifact, manifest, report)


def _require_names(order: Order) -> None:
    """Check the names before the long work starts, not after it."""
    for what, kind, value in (("model", Name, order.model), ("release", ReleaseName, order.release)):
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            remedy = "use lower case, digits, '-' and '_'" if what == "model" else "use X.Y.Z, such as 1.0.0"
            raise RequestError(f"{value[:80]!r} is no name for a {what}", remedy=remedy) from error


def _manifest(
    network: Network, artifact: bytes, labels: tuple[str, ...], found: Evaluation, order: Order
) -> ModelManifest:
    shape = {"parameters": network.architecture.parameters, "macs": network.architecture.macs}
    try:
        return ModelManifest(
            model=order.model,
            release=order.release,
            artifact=FileRef(digest=sha256_hex(artifact), length_bytes=len(artifact)),
            opset=OPSET,
            inputs=inputs(network),
            outputs=outputs(network),
            preprocessing=order.preprocessing,
            labels=labels,
            golden_samples=golden_samples(artifact, order.golden, order.preprocessing),
            metrics={**found.repeatable(), **shape},
            recipe=f"{network.architecture.name} | {order.recipe.text}",
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{where} {first.get('input')!r:.60} is not possible: {first['msg']}") from error


def _report(
    manifest: ModelManifest, network: Network, found: Evaluation, reference_bytes: int, seconds: float
) -> dict[str, JsonValue]:
    return {
        "model": manifest.model,
        "release": manifest.release,
        "architecture": network.architecture.name,
        "recipe": manifest.recipe,
        "artifact": manifest.artifact.digest,
        "artifact_bytes": manifest.artifact.length_bytes,
        "reference_bytes": reference_bytes,
        "manifest": sha256_hex(manifest.to_bytes()),
        "evaluation": dict(found.figures()),
        "golden_tolerance": manifest.golden_samples[0].tolerance,
        "onnxruntime": onnxruntime.__version__,
        "seconds": round(seconds, 1),
    }
