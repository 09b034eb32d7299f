"""Owns reading a folder of photographs, labelled or not, into the pixels that `Preprocessing.tensor` takes."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ota_protocol.errors import MalformedError, RequestError
from ota_protocol.manifest import Preprocessing

MAX_PICTURE_PIXELS = 64_000_000
"""Largest picture that is decoded: 192 MB as RGB. A small file can claim far more (a decompression bomb)."""
MAX_PICTURES = 100_000
"""Longest list of pictures: twice the validation set of ImageNet."""
LABELS_FILE = "labels.csv"

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture and the class that it shows."""

    path: Path
    class_index: int


@dataclass(frozen=True, slots=True)
class View:
    """A crop of a picture.

    Args:
        down, right: where it lies in the room that the whole picture leaves, 0 to 1.
        mirrored: left and right are swapped.
    """

    down: float = 0.5
    right: float = 0.5
    mirrored: bool = False


TEN_VIEWS = tuple(
    View(down, right, mirrored)
    for mirrored in (False, True)
    for down, right in ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
)
"""Middle and corners, and their mirrors: the ten crops of Krizhevsky et al. (2012)."""


def list_pictures(folder: Path) -> tuple[Path, ...]:
    """Return the pictures of `folder` by name; files of other kinds are left out.

    Raises:
        RequestError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise RequestError(f"there is no folder {folder}", remedy="give a folder of photographs")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise RequestError(
            f"{folder} holds no pictures", remedy=f"put photographs there ({', '.join(sorted(_SUFFIXES))})"
        )
    if len(found) > MAX_PICTURES:
        raise RequestError(f"{folder} holds {len(found):,} pictures, at most {MAX_PICTURES:,} are read")
    return tuple(found)


def list_labelled(folder: Path, classes: int) -> tuple[LabelledPicture, ...]:
    """Return the pictures that `labels.csv` of `folder` names, in its order.

    Args:
        folder: pictures and `labels.csv` with the columns `file` and `class_index`.
        classes: class indices lie below it.

    Raises:
        RequestError: the folder or its labels are missing, empty or malformed, or a picture is not there.
    """
    list_pictures(folder)
    table = folder / LABELS_FILE
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except FileNotFoundError as error:
        raise RequestError(
            f"{folder} has no {LABELS_FILE}", remedy="add one with the columns file,class_index"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{table} is no table: {error}", remedy="write it as UTF-8 CSV: file,class_index") from error
    if not rows:
        raise RequestError(f"{table} names no picture", remedy="add lines: file,class_index")
    return tuple(_labelled(folder, row, number, classes) for number, row in enumerate(rows, start=2))


def _labelled(folder: Path, row: dict[str, str | None], line: int, classes: int) -> LabelledPicture:
    name, label = row.get("file") or "", row.get("class_index") or ""
    if not name or Path(name).name != name or not (folder / name).is_file():
        raise RequestError(
            f"{LABELS_FILE} line {line}: no picture {name[:80]!r}", remedy="name files of the same folder"
        )
    if not label.strip().isascii() or not label.strip().isdigit() or int(label) >= classes:
        raise RequestError(
            f"{LABELS_FILE} line {line}: {label[:20]!r} is no class", remedy=f"give an index from 0 to {classes - 1}"
        )
    return LabelledPicture(folder / name, int(label))


def evenly(paths: Sequence[Path], count: int) -> tuple[Path, ...]:
    """Return `count` of `paths`, evenly spread over their order (all of them if there are no more)."""
    if len(paths) <= count:
        return tuple(paths)
    return tuple(paths[index * len(paths) // count] for index in range(count))


def read_pixels(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the centre crop of a picture: (crop_px, crop_px, 3) uint8, RGB, upright.

    Raises:
        MalformedError: it is corrupt, truncated, no picture, or larger than `MAX_PICTURE_PIXELS`.
    """
    remedy = "remove or replace it"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise MalformedError(f"{path.name} has {image.width}×{image.height} pixels, too many", remedy=remedy)
            return _crop(_rgb(ImageOps.exif_transpose(image)), preprocessing)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise MalformedError(f"{path.name} is no picture that can be read", remedy=remedy) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MalformedError(f"{path.name} is corrupt: {error}", remedy=remedy) from error


def read_tensors(paths: Sequence[Path], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the input tensors of several pictures: (len(paths), 3, crop_px, crop_px) float32.

    Raises:
        MalformedError: a picture cannot be read (see `read_pixels`).
    """
    return np.concatenate([preprocessing.tensor(read_pixels(path, preprocessing)) for path in paths])


def read_uncropped(paths: Sequence[Path], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return tensors that crops are cut from: (len(paths), 3, resize_px, resize_px) float32.

    Raises:
        MalformedError: as `read_tensors`.
    """
    return read_tensors(paths, preprocessing.model_copy(update={"crop_px": preprocessing.resize_px}))


def read_views(paths: Sequence[Path], preprocessing: Preprocessing, views: Sequence[View]) -> NDArray[np.float32]:
    """Return input tensors of several views of each picture: (len(views) × len(paths), 3, crop_px, crop_px) float32.

    Args:
        views: one after another, each of all pictures.

    Raises:
        MalformedError: as `read_tensors`.
    """
    whole = read_uncropped(paths, preprocessing)
    room, side = preprocessing.resize_px - preprocessing.crop_px, preprocessing.crop_px
    found = []
    for view in views:
        top, left = round(view.down * room), round(view.right * room)
        cut = whole[:, :, top : top + side, left : left + side]
        found.append(cut[..., ::-1] if view.mirrored else cut)
    return np.concatenate(found)


def _rgb(image: Image.Image) -> Image.Image:
    """Return the picture as 8-bit RGB; 16-bit greys are scaled, since Pillow would cut them off at 255."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64).clip(0, 65_535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _crop(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize the shorter side and cut the centre square, in one resampling."""
    crop_px, ratio = preprocessing.crop_px, min(image.size) / preprocessing.resize_px
    side = crop_px * ratio
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if ratio == 1:
        left, top = int(left), int(top)
        return np.ascontiguousarray(np.asarray(image)[top : top + crop_px, left : left + crop_px])
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((crop_px, crop_px), Image.Resampling.BILINEAR, box=box))
