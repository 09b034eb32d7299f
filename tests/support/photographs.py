"""Folders of photographs for the tests of the build stage: real ones, out of scikit-image's wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from PIL import Image

CLASSES = {"chelsea.png": 285, "coffee.png": 967, "rocket.jpg": 657, "motorcycle_left.png": 670}
"""Egyptian cat, espresso, missile, motor scooter: ImageNet's nearest names."""


def photograph(name: str) -> Path:
    """Return where a photograph of scikit-image lies."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data" / name


def write_photographs(folder: Path, *, labels: bool = False, size_px: int = 288) -> Path:
    """Write four photographs, at most `size_px` wide, and labels.csv if wanted; return the folder."""
    folder.mkdir(parents=True)
    rows = ["file,class_index"]
    for name, index in CLASSES.items():
        with Image.open(photograph(name)) as picture:
            small = picture.convert("RGB")
        small.thumbnail((2 * size_px, size_px))
        target = Path(name).with_suffix(".jpg").name
        small.save(folder / target, quality=92)
        rows.append(f"{target},{index}")
    if labels:
        (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder
