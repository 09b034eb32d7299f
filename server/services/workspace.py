"""Owns the folder of unfinished uploads and work files; whatever a crash left there is swept at the next start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from server.store.blobs import mapped_errors


class Workspace:
    """Gives each piece of work a folder of its own, and takes it away afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self) -> None:
        """Make the folder, empty."""
        with mapped_errors():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def place(self) -> Iterator[Path]:
        """Yield a fresh folder that is gone after the block, however it ends."""
        place = self._folder / uuid4().hex
        with mapped_errors():
            place.mkdir(parents=True)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
