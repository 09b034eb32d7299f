"""Owns `ota-build export`: weights in, a release folder out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model_build import release_folder
from model_build.atomic_files import require_free
from model_build.build import Order, build
from model_build.commands.options import (
    Calibration,
    CalibrationPictures,
    Labels,
    OfArchitecture,
    Prepared,
    PreprocessingName,
    Weights,
    architecture_of,
    read_labels,
)
from model_build.commands.progress import progress_bars
from model_build.passes.quantize_weights import QuantizeWeights
from model_build.pictures import LABELS_FILE, evenly, list_labelled, list_pictures, read_tensors
from model_build.recipe import Gate, Recipe
from model_build.weights.source import load


class Precision(StrEnum):
    """How weights are stored."""

    INT8 = "int8"
    FLOAT32 = "float32"


def export(
    *,
    weights: Weights,
    model: Annotated[str, typer.Option(help="Name of the model: lower case, digits, '-' and '_'.")],
    release: Annotated[str, typer.Option(help="Name of the release: X.Y.Z.")],
    calibration: Calibration,
    out: Annotated[
        Path, typer.Option(help="Folder to make: model.onnx, manifest.json, report.json.", metavar="FOLDER")
    ],
    precision: Annotated[
        Precision, typer.Option(help="int8: 8-bit weights, rounded with error feedback.")
    ] = Precision.INT8,
    architecture: OfArchitecture = None,
    preprocessing: Prepared = PreprocessingName.CAFFE,
    calibration_pictures: CalibrationPictures = 64,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs to judge by, with labels.csv; the calibration folder if left out.",
            metavar="FOLDER",
        ),
    ] = None,
    labels: Labels = None,
    min_top1: Annotated[
        float | None, typer.Option(help="Fail below this share of right first guesses.", min=0, max=1)
    ] = None,
    min_top5: Annotated[
        float | None, typer.Option(help="Fail below this share of right guesses in five.", min=0, max=1)
    ] = None,
    min_agreement: Annotated[
        float | None, typer.Option(help="Fail below this agreement with the uncompressed.", min=0, max=1)
    ] = None,
    max_kl: Annotated[
        float | None, typer.Option(help="Fail above this KL from the uncompressed, in nats.", min=0)
    ] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Fail above this size of model.onnx.", min=1)] = None,
) -> None:
    """Build a release: compress the weights, export ONNX, evaluate, and write the folder whole or not at all."""
    if not (out / release_folder.MANIFEST_FILE).is_file():
        require_free(out)
    network = load(weights, architecture_of(architecture))
    prepared = preprocessing.preprocessing
    pictures = evenly(list_pictures(calibration), calibration_pictures)
    judged = evaluation or calibration
    labelled = list_labelled(judged, network.architecture.classes) if (judged / LABELS_FILE).is_file() else ()
    passes = [QuantizeWeights(read_tensors(pictures, prepared))] if precision is Precision.INT8 else []
    order = Order(
        model=model,
        release=release,
        recipe=Recipe(passes),
        judges=[one.path for one in labelled] or list_pictures(judged),
        classes=[one.class_index for one in labelled],
        golden=pictures,
        gate=Gate(min_top1, min_top5, min_agreement, max_kl, max_bytes),
        labels=read_labels(labels),
        preprocessing=prepared,
    )
    with progress_bars() as progress:
        built = build(network, order, progress)
    release_folder.write(built, out)
    _tell(built, out)


def _tell(built: release_folder.BuiltRelease, out: Path) -> None:
    manifest, console = built.manifest, Console(highlight=False, soft_wrap=True)
    console.print(f"{manifest.model} {manifest.release} is in {out}")
    console.print(f"artifact {manifest.artifact.digest}  {manifest.artifact.length_bytes:,} bytes")
    console.print("  ".join(f"{name} {_figure(value)}" for name, value in manifest.metrics.items()))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and value > 1 else f"{value:.4f}"
