"""Owns the demo's photographs: those that ship in scikit-image's wheel, cut into what cameras of vehicles would see.

Three folders come of them: frames for a vehicle (every vehicle stands a little elsewhere), labelled pictures for the
fine-tuned head, and pictures for calibration. No cut of one folder is a cut of another.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from ota_protocol.errors import RequestError

FRAME_PX: Final = 288
"""Side of a saved frame: above the 256 that preprocessing resizes to, so that nothing is blown up."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """One real photograph.

    Args:
        file: its name in scikit-image's data folder.
        class_index: the ImageNet class that it shows; None where ImageNet has no honest class for it.
    """

    file: str
    class_index: int | None = None

    @property
    def name(self) -> str:
        """What a frame of it is called."""
        return self.file.partition(".")[0]


PHOTOGRAPHS: Final = (
    Photograph("chelsea.png", 281),  # tabby cat
    Photograph("coffee.png", 967),  # espresso
    Photograph("rocket.jpg", 657),  # missile: the nearest thing to a launching rocket
    Photograph("motorcycle_left.png", 670),  # motor scooter: ImageNet's nearest to a motorcycle
    Photograph("motorcycle_right.png"),  # the other eye of the stereo pair is held out: nobody trains on it
    Photograph("camera.png", 872),  # tripod
    Photograph("astronaut.png"),
    Photograph("hubble_deep_field.jpg"),
)
"""No more than an agent keeps predictions, so that its status shows an answer to each of them."""


def data_folder() -> Path:
    """Return the folder of scikit-image's photographs, without importing scikit-image.

    Raises:
        RequestError: scikit-image is not installed.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise RequestError("scikit-image is not installed", remedy="install it: its wheel holds the photographs")
    return Path(found.origin).parent / "data"


def write_frames(folder: Path, vehicle: str, source: Path) -> None:
    """Write one frame of every photograph as `vehicle` sees it.

    Args:
        folder: where the JPEG files go; made if missing.
        vehicle: its name is the seed of where the camera stands.
        source: the folder of photographs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for photograph in PHOTOGRAPHS:
        frame = _cut(_load(source, photograph), _chance(f"frame {vehicle} {photograph.file}"), least=0.85)
        frame.save(folder / f"{photograph.name}.jpg", quality=90)


def write_labelled(folder: Path, source: Path, cuts: int) -> None:
    """Write `cuts` cuts of every photograph with a class, and labels.csv (`file,class_index`)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for photograph in PHOTOGRAPHS:
        if photograph.class_index is None:
            continue
        for number in range(cuts):
            name = f"{photograph.name}-{number}.jpg"
            chance = _chance(f"labelled {photograph.file} {number}")
            _cut(_load(source, photograph), chance, least=0.7).save(folder / name, quality=90)
            rows.append((name, photograph.class_index))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "class_index"), *rows])


def write_calibration(folder: Path, source: Path, cuts: int) -> None:
    """Write `cuts` cuts of every photograph, unlabelled: what activations look like on this fleet."""
    folder.mkdir(parents=True, exist_ok=True)
    for photograph in PHOTOGRAPHS:
        for number in range(cuts):
            chance = _chance(f"calibration {photograph.file} {number}")
            _cut(_load(source, photograph), chance, least=0.5).save(folder / f"{photograph.name}-{number}.jpg")


def _chance(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311  (the same cuts at every run; no secret hangs on it)


def _load(source: Path, photograph: Photograph) -> Image.Image:
    with Image.open(source / photograph.file) as picture:
        return picture.convert("RGB")


def _cut(picture: Image.Image, chance: random.Random, *, least: float) -> Image.Image:
    """Return a square of the picture, FRAME_PX wide.

    Args:
        picture: any size, RGB.
        chance: where the square lies, how large it is, and whether it is mirrored.
        least: smallest side of the square, as a share of the picture's shorter side.
    """
    shorter = min(picture.size)
    side = round(shorter * chance.uniform(least, 1.0))
    left = round((picture.width - side) * chance.uniform(0.2, 0.8))
    top = round((picture.height - side) * chance.uniform(0.2, 0.8))
    square = picture.resize((FRAME_PX, FRAME_PX), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.random() < 0.5 else square


def main() -> None:
    """Write the photographs themselves to FOLDER/photographs, and frames of each NAME to FOLDER/frames/NAME."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    source = data_folder()
    (folder / "photographs").mkdir(parents=True)
    for photograph in PHOTOGRAPHS:
        shutil.copy(source / photograph.file, folder / "photographs")
    for name in names:
        write_frames(folder / "frames" / name, name, source)


if __name__ == "__main__":
    main()
