"""A disk and a journal that lose power at a chosen write, and stay dead until a new process begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_client.disk import Disk
from edge_client.journal import Journal, Saved


class PowerCutError(BaseException):
    """The power is gone. No handler of the agent may catch it, as none could."""


class Power:
    """Counts the changes of the disk and cuts the power before change number `at` (from 0); None never cuts."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.changes: list[str] = []

    def use(self, what: str) -> None:
        """Count one change."""
        self.changes.append(what)
        if self.at is not None and len(self.changes) > self.at:
            raise PowerCutError(what)


class FragileDisk(Disk):
    """A disk on fragile power."""

    def __init__(self, power: Power) -> None:
        self._power = power

    def about_to(self, change: str, path: Path) -> None:
        self._power.use(f"{change} {path.name}")


class FragileJournal(Journal):
    """A journal on fragile power: the cut comes before or right after a save."""

    def __init__(self, path: Path, power: Power) -> None:
        super().__init__(path)
        self._power = power

    def save(self, saved: Saved, **rest: Any) -> None:
        self._power.use(f"save {saved.state}")
        super().save(saved, **rest)
        self._power.use(f"saved {saved.state}")
