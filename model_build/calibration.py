"""Owns what calibration pictures are used for: most are learnt from, some are held back to check what was learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_build.pictures import evenly, list_pictures

CHECKED_EVERY = 4
"""Every fourth picture is held back."""
LEAST_TO_SPLIT = 8
"""Fewer pictures serve both ends: a check on one picture says nothing."""


@dataclass(frozen=True, slots=True)
class CalibrationPictures:
    """Photographs, no labels needed.

    Args:
        learn: layers are rounded for these.
        check: KL is measured on these; the same ones where there are too few.
    """

    learn: tuple[Path, ...]
    check: tuple[Path, ...]

    @property
    def held_back(self) -> bool:
        """Whether the check is made on pictures that nothing was learnt from."""
        return not set(self.learn) & set(self.check)


def calibration_pictures(folder: Path, count: int) -> CalibrationPictures:
    """Return `count` pictures of `folder`, evenly spread over it, split in two.

    Raises:
        RequestError: there is no such folder, or no picture in it.
    """
    return split(evenly(list_pictures(folder), count))


def split(paths: Sequence[Path]) -> CalibrationPictures:
    """Return `paths` split into what is learnt from and what is held back."""
    if len(paths) < LEAST_TO_SPLIT:
        return CalibrationPictures(tuple(paths), tuple(paths))
    check = tuple(paths[CHECKED_EVERY // 2 :: CHECKED_EVERY])
    held = set(check)
    return CalibrationPictures(tuple(path for path in paths if path not in held), check)
