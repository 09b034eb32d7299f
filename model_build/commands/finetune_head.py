"""Owns `ota-build finetune-head`: weights and labelled pictures in, weights with a new head out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from model_build.atomic_files import write_file
from model_build.commands.options import (
    OfArchitecture,
    Prepared,
    PreprocessingName,
    Weights,
    architecture_of,
)
from model_build.commands.progress import progress_bars
from model_build.finetune_head import MAX_PICTURES, Schedule, Taught
from model_build.finetune_head import finetune_head as teach
from model_build.network import FloatLayer
from model_build.pictures import list_labelled, read_tensors
from model_build.weights import npz
from model_build.weights.source import load
from ota_protocol.errors import RequestError


def finetune_head(
    *,
    weights: Weights,
    pictures: Annotated[
        Path, typer.Option(help="Folder of photographs with labels.csv (file,class_index).", metavar="FOLDER")
    ],
    out: Annotated[Path, typer.Option(help="Weights to write: FILE.npz.", metavar="FILE")],
    architecture: OfArchitecture = None,
    preprocessing: Prepared = PreprocessingName.CAFFE,
    steps: Annotated[int, typer.Option(help="At most so many steps.", min=1, max=10_000)] = Schedule.steps,
    pull: Annotated[float, typer.Option(help="How hard the head is held to its old weights.", min=0)] = Schedule.pull,
) -> None:
    """Teach the head a few labelled photographs; conv1 to fire9 and all other classes stay as they are."""
    if out.suffix != ".npz" or out.is_dir():
        raise RequestError(f"{out} is no file name for weights", remedy="give --out FILE.npz")
    network = load(weights, architecture_of(architecture))
    labelled = list_labelled(pictures, network.architecture.classes)
    if len(labelled) > MAX_PICTURES:
        raise RequestError(f"{pictures} has {len(labelled):,} labels", remedy=f"give at most {MAX_PICTURES}")
    images = read_tensors([one.path for one in labelled], preprocessing.preprocessing)
    with progress_bars() as progress:
        schedule = Schedule(steps=steps, pull=pull)
        taught = teach(
            network, images, [one.class_index for one in labelled], lambda share: progress("fine-tune", share), schedule
        )
    layers = {name: layer for name, layer in taught.network.layers.items() if isinstance(layer, FloatLayer)}
    write_file(out, npz.pack(layers))
    _tell(taught, np.asarray([one.class_index for one in labelled]), out)


def _tell(taught: Taught, classes: np.ndarray[tuple[int], np.dtype[np.int64]], out: Path) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for index in np.unique(classes):
        shown = classes == index
        before, after = taught.before[shown].mean(), taught.after[shown].mean()
        pictures = "1 picture" if shown.sum() == 1 else f"{shown.sum()} pictures"
        console.print(f"class {index}: {before:.3f} → {after:.3f} on {pictures}")
    console.print(f"{taught.steps} steps moved {taught.rows} classes; weights in {out}")
