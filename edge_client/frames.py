"""Owns where frames come from: the pictures of a folder, in a loop, cropped as the model's preprocessing says."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ota_protocol.errors import MalformedError, RequestError
from ota_protocol.manifest import Preprocessing

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
MAX_PIXELS: Final = 64_000_000
"""Largest picture that is decoded, 192 MB as RGB: no camera of a vehicle makes larger ones."""

_log = logging.getLogger(__name__)


class FrameFolder:
    """Pictures of a folder by name, over and over; files that come or go are seen at the next round.

    Args:
        folder: must exist.

    Raises:
        RequestError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise RequestError(f"there is no folder {folder}", remedy="give a folder of pictures with --frames")
        self._folder = folder

    def paths(self) -> Iterator[Path]:
        """Yield pictures for ever; ends only when a round finds none."""
        while True:
            found = self._list()
            if not found:
                return
            yield from found

    def _list(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as error:
            _log.warning("the frames in %s cannot be listed: %s", self._folder, error)
            return []


def read_frame(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the centre crop of a picture: (crop_px, crop_px, 3) uint8, RGB, upright.

    Raises:
        MalformedError: it cannot be read as a picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise MalformedError(f"{path.name} has too many pixels", remedy="remove it")
            return _crop(ImageOps.exif_transpose(image).convert("RGB"), preprocessing)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MalformedError(f"{path.name} cannot be read as a picture", remedy="remove it") from error


def _crop(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Resize the shorter side and cut the centre square, in one resampling."""
    crop_px = preprocessing.crop_px
    side = crop_px * min(image.size) / preprocessing.resize_px
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((crop_px, crop_px), Image.Resampling.BILINEAR, box=box))
