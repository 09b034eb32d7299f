"""Owns `ota-build compress`: weights and photographs in, a release folder for metered links out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model_build import release_folder
from model_build.atomic_files import require_free
from model_build.calibration import calibration_pictures
from model_build.commands.options import (
    Calibration,
    Labels,
    OfArchitecture,
    Prepared,
    PreprocessingName,
    Weights,
    architecture_of,
    read_labels,
)
from model_build.commands.progress import progress_bars
from model_build.compress import Compressed, Compression
from model_build.compress import compress as compress_network
from model_build.compression.search import Goal
from model_build.pictures import LABELS_FILE, list_labelled, list_pictures
from model_build.recipe import Gate
from model_build.weights.source import load
from ota_protocol.errors import RequestError, StorageError

DEFAULT_MAX_KL = 0.05


def compress(
    *,
    weights: Weights,
    calibration: Calibration,
    out: Annotated[
        Path,
        typer.Option(help="Folder to make: model.onnx, model.onnx.full, manifest.json, report.json.", metavar="FOLDER"),
    ],
    model: Annotated[str, typer.Option(help="Name of the model: lower case, digits, '-' and '_'.")] = "squeezenet",
    release: Annotated[str, typer.Option(help="Name of the release: X.Y.Z.")] = "1.0.0",
    budget_bytes: Annotated[
        int | None,
        typer.Option(help="Most bytes on the wire (of the delta, if a base is given): the best within.", min=1),
    ] = None,
    max_kl: Annotated[
        float | None,
        typer.Option(
            help=f"Largest KL from the uncompressed, in nats: the smallest network within. "
            f"{DEFAULT_MAX_KL} if neither is given.",
            min=0.0001,
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Release that vehicles hold: its codes stay where that saves bytes.", metavar="RELEASE"),
    ] = None,
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="Leave activations in float32: more faithful, but not faster.")
    ] = False,
    distill: Annotated[
        int, typer.Option(help="Then learn from the uncompressed network for so many steps; needs torch.", min=0)
    ] = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File from which a distillation that was cut off goes on.", metavar="FILE")
    ] = None,
    architecture: OfArchitecture = None,
    preprocessing: Prepared = PreprocessingName.CAFFE,
    photographs: Annotated[
        int,
        typer.Option("--calibration-pictures", help="Photographs used, evenly spread; a quarter checks.", min=1),
    ] = 250,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="Folder to judge by, with labels.csv; else the photographs held back.", metavar="FOLDER"),
    ] = None,
    labels: Labels = None,
    min_top1: Annotated[float | None, typer.Option(help="Fail below this top-1, 0 to 1.", min=0, max=1)] = None,
    min_top5: Annotated[float | None, typer.Option(help="Fail below this top-5, 0 to 1.", min=0, max=1)] = None,
    min_agreement: Annotated[float | None, typer.Option(help="Fail below this agreement.", min=0, max=1)] = None,
    gate_kl: Annotated[float | None, typer.Option(help="Fail above this KL where it is judged.", min=0)] = None,
    gate_bytes: Annotated[int | None, typer.Option(help="Fail above this size of model.onnx.full.", min=1)] = None,
) -> None:
    """Compress a network for the wire, and write the folder whole or not at all."""
    goal = _goal(budget_bytes, max_kl)
    if not (out / release_folder.MANIFEST_FILE).is_file():
        require_free(out)
    network = load(weights, architecture_of(architecture))
    judges, classes = _judges(evaluation, network.architecture.classes)
    wanted = Compression(
        model=model,
        release=release,
        pictures=calibration_pictures(calibration, photographs),
        goal=goal,
        base=_read_base(base),
        weights_only=weights_only,
        distill_steps=distill,
        checkpoint=checkpoint,
        judges=judges,
        classes=classes,
        gate=Gate(min_top1, min_top5, min_agreement, gate_kl),
        max_full_bytes=gate_bytes,
        labels=read_labels(labels),
        preprocessing=preprocessing.preprocessing,
    )
    with progress_bars() as progress:
        made = compress_network(network, wanted, progress)
    release_folder.write(made.built, out, {**made.transfers, **made.weights})
    _tell(made, out)


def _goal(budget_bytes: int | None, max_kl: float | None) -> Goal:
    if budget_bytes is not None and max_kl is not None:
        raise RequestError("a budget and a KL are two goals", remedy="give --budget-bytes or --max-kl, not both")
    if budget_bytes is not None:
        return Goal(budget_bytes=budget_bytes)
    return Goal(max_kl=DEFAULT_MAX_KL if max_kl is None else max_kl)


def _judges(folder: Path | None, classes: int) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """Return the pictures to judge by, and what they show if the folder says so."""
    if folder is None:
        return (), ()
    if not (folder / LABELS_FILE).is_file():
        return list_pictures(folder), ()
    labelled = list_labelled(folder, classes)
    return tuple(one.path for one in labelled), tuple(one.class_index for one in labelled)


def _read_base(base: Path | None) -> bytes | None:
    """Return the ONNX file of a release folder, checked against its manifest, or a file by itself."""
    if base is None:
        return None
    if base.is_dir():
        return release_folder.read_artifact(base, release_folder.read_manifest(base))
    try:
        return base.read_bytes()
    except FileNotFoundError as error:
        raise RequestError(f"there is no base {base}", remedy="give a release folder or its model.onnx") from error
    except OSError as error:
        raise StorageError(f"cannot read {base}: {error.strerror}", remedy="check its permissions") from error


def _tell(made: Compressed, out: Path) -> None:
    manifest, console = made.built.manifest, Console(highlight=False, soft_wrap=True)
    console.print(f"{manifest.model} {manifest.release} is in {out}")
    console.print("  ".join(f"{name} {len(data):,} bytes" for name, data in made.transfers.items()))
    console.print("  ".join(f"{name} {value:,.4g}" for name, value in manifest.metrics.items()))
