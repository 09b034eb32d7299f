"""Owns the two slots, which of them is active, and the trial of a new one; all of it survives a power cut.

`slots.json` is the one pointer: active slot, trial with its count of starts, highest confirmed release counter a
model. It is replaced in one rename. A slot is valid only while its `slot.json` is there, which is written last and
removed first. Does not own what is put into a slot: that is a `VerifiedArtifact`, which `verify` alone can make.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from edge_client.disk import Disk, file_digest, storage_errors
from edge_client.verify import VerifiedArtifact
from ota_protocol.digest import DigestHex
from ota_protocol.errors import StorageError
from ota_protocol.manifest import Frozen, InstalledRelease, ModelManifest

SlotName = Literal["a", "b"]
NAMES: Final[tuple[SlotName, SlotName]] = ("a", "b")

_log = logging.getLogger(__name__)


class Trial(Frozen):
    """A slot on probation."""

    boots: int = Field(default=0, ge=0)
    """Starts of the agent since it was activated."""
    previous: SlotName | None = None
    """The slot to return to; None on a vehicle that had none."""


class Pointer(Frozen):
    """Contents of `slots.json`."""

    active: SlotName | None = None
    trial: Trial | None = None
    confirmed_counters: dict[str, int] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slot:
    """A filled slot."""

    name: SlotName
    folder: Path
    release: InstalledRelease

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.folder / "model.onnx"

    @property
    def manifest_path(self) -> Path:
        """The model manifest."""
        return self.folder / "manifest.json"

    def manifest(self) -> ModelManifest:
        """Parse the model manifest, whose digest was checked when the slot was opened."""
        with storage_errors("read a slot"):
            return ModelManifest.from_bytes(self.manifest_path.read_bytes())


class Slots:
    """The two slots of a vehicle.

    Args:
        folder: holds `slots.json`, `a/` and `b/`.
        disk: durable file operations.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        for name in NAMES:
            disk.make_folder(folder / name)
        self.pointer = self._read_pointer()

    def read(self, name: SlotName | None) -> Slot | None:
        """Return the slot if it is filled."""
        if name is None:
            return None
        folder = self._folder / name
        try:
            release = InstalledRelease.model_validate_json((folder / "slot.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return Slot(name, folder, release)

    @property
    def active(self) -> Slot | None:
        """The slot that answers frames."""
        return self.read(self.pointer.active)

    @property
    def previous(self) -> Slot | None:
        """The slot to return to during a trial."""
        return self.read(self.pointer.trial.previous) if self.pointer.trial else None

    def held(self) -> dict[DigestHex, Path]:
        """Return the files that a delta may start from: artifacts and manifests of both slots, by digest."""
        files: dict[DigestHex, Path] = {}
        for slot in filter(None, map(self.read, NAMES)):
            files[slot.release.artifact] = slot.model_path
            files[slot.release.manifest] = slot.manifest_path
        return files

    def highest_confirmed(self, model: str) -> int:
        """Return the highest release counter of `model` that was ever confirmed here; 0 for none."""
        return self.pointer.confirmed_counters.get(model, 0)

    def stage(self, verified: VerifiedArtifact) -> Slot:
        """Fill the inactive slot.

        Raises:
            DiskFullError, StorageError: the slot is empty; the active one is untouched.
        """
        name: SlotName = "b" if self.pointer.active == "a" else "a"
        folder = self._folder / name
        self._disk.remove(folder / "slot.json")
        self._disk.place(verified.model_path, folder / "model.onnx")
        self._disk.place(verified.manifest_path, folder / "manifest.json")
        self._disk.write(folder / "slot.json", verified.release.model_dump_json().encode())
        return Slot(name, folder, verified.release)

    def activate(self, slot: Slot) -> None:
        """Point at `slot`, on trial. Doing it again changes nothing."""
        if self.pointer.active != slot.name:
            trial = Trial(previous=self.pointer.active)
            self._write_pointer(self.pointer.model_copy(update={"active": slot.name, "trial": trial}))

    def inactive(self) -> Slot | None:
        """Return the slot that is not active, if it is filled."""
        return self.read("b" if self.pointer.active == "a" else "a")

    def count_boot(self) -> int:
        """Count a start of the agent within a trial, before the model is loaded; return the count."""
        if self.pointer.trial is None:
            return 0
        trial = self.pointer.trial.model_copy(update={"boots": self.pointer.trial.boots + 1})
        self._write_pointer(self.pointer.model_copy(update={"trial": trial}))
        return trial.boots

    def confirm(self) -> None:
        """Keep the slot on trial; from now on nothing below its release counter is accepted."""
        slot = self.active
        if slot is None or self.pointer.trial is None:
            return
        model, counter = slot.release.model, slot.release.release_counter
        counters = self.pointer.confirmed_counters | {model: max(counter, self.highest_confirmed(model))}
        self._write_pointer(self.pointer.model_copy(update={"trial": None, "confirmed_counters": counters}))

    def roll_back(self) -> None:
        """Return to the slot before the trial. Doing it again changes nothing."""
        if self.pointer.trial is not None:
            previous = self.pointer.trial.previous
            self._write_pointer(self.pointer.model_copy(update={"active": previous, "trial": None}))

    def discard_damaged(self) -> tuple[Slot, ...]:
        """Empty slots whose files are not the verified ones any more; return those that were emptied.

        An active slot that is damaged is left for the previous or the other good one, if there is one.
        """
        damaged = tuple(slot for slot in filter(None, map(self.read, NAMES)) if not _is_whole(slot))
        for slot in damaged:
            _log.error("slot %s (release %s) is damaged and is emptied", slot.name, slot.release.release)
            self._disk.remove(slot.folder / "slot.json")
        if self.pointer.active is not None and self.active is None:
            self.leave_active()
        return damaged

    def leave_active(self) -> None:
        """Turn away from an active slot that cannot run, to the other one if that was in use before."""
        other = self.inactive()
        good = other.name if other and self._may_run(other) else None
        self._write_pointer(self.pointer.model_copy(update={"active": good, "trial": None}))

    def _may_run(self, slot: Slot) -> bool:
        """Whether an inactive slot was in use before: one that is only staged was never on trial."""
        return slot.release.release_counter <= self.highest_confirmed(slot.release.model)

    def _read_pointer(self) -> Pointer:
        path = self._folder / "slots.json"
        try:
            return Pointer.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Pointer()
        except ValidationError as error:
            raise StorageError(
                f"{path} is damaged", remedy="remove the state folder and enrol the vehicle anew"
            ) from error

    def _write_pointer(self, pointer: Pointer) -> None:
        self._disk.write(self._folder / "slots.json", pointer.model_dump_json().encode())
        self.pointer = pointer


def _is_whole(slot: Slot) -> bool:
    expected = ((slot.model_path, slot.release.artifact), (slot.manifest_path, slot.release.manifest))
    return all(path.is_file() and file_digest(path) == digest for path, digest in expected)
