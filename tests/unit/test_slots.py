"""The two slots: one pointer, a trial that survives restarts, and damage that is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_client import verify
from edge_client.disk import Disk
from edge_client.slots import Slot, Slots
from edge_client.verify import VerifiedArtifact
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import StorageError
from ota_protocol.manifest import InstalledRelease, ModelManifest
from tests.support.model_fake import TinyRelease, fine_tuned, tiny_release

FIRST = tiny_release("1.0.0", 1)
SECOND = fine_tuned(FIRST, "1.1.0", 2)
THIRD = fine_tuned(FIRST, "1.2.0", 3)


def verified(folder: Path, release: TinyRelease) -> VerifiedArtifact:
    """Return what `verify` would have made; a test of the slots alone has no registry."""
    folder.mkdir(exist_ok=True)
    model, manifest = folder / "model", folder / "manifest"
    for path in (model, manifest):
        path.unlink(missing_ok=True)  # a slot may be linked to it
    model.write_bytes(release.artifact)
    manifest.write_bytes(release.manifest)
    installed = InstalledRelease(
        model=release.model,
        release=release.release,
        release_counter=release.counter,
        artifact=sha256_hex(release.artifact),
        manifest=sha256_hex(release.manifest),
    )
    return VerifiedArtifact(model, manifest, ModelManifest.from_bytes(release.manifest), installed, verify._SEAL)


class Garage:
    """Slots of one vehicle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slots = Slots(folder / "slots", Disk())

    def restart(self) -> None:
        self.slots = Slots(self.folder / "slots", Disk())

    def install(self, release: TinyRelease, *, confirm: bool = True) -> Slot:
        slot = self.slots.stage(verified(self.folder / "in", release))
        self.slots.activate(slot)
        if confirm:
            self.slots.confirm()
        return slot


@pytest.fixture
def garage(tmp_path: Path) -> Garage:
    return Garage(tmp_path)


def release_of(slot: Slot | None) -> str | None:
    return slot.release.release if slot else None


def test_empty_vehicle(garage: Garage) -> None:
    assert garage.slots.active is None
    assert garage.slots.held() == {}
    assert garage.slots.count_boot() == 0


def test_releases_alternate_between_the_slots(garage: Garage) -> None:
    assert [garage.install(each).name for each in (FIRST, SECOND, THIRD)] == ["a", "b", "a"]
    garage.restart()
    assert release_of(garage.slots.active) == "1.2.0"
    assert release_of(garage.slots.inactive()) == "1.1.0"
    assert garage.slots.highest_confirmed("tiny") == 3


def test_staging_leaves_the_active_slot_alone(garage: Garage) -> None:
    garage.install(FIRST)
    garage.slots.stage(verified(garage.folder / "in", SECOND))
    garage.restart()
    assert release_of(garage.slots.active) == "1.0.0"


def test_both_slots_are_bases(garage: Garage) -> None:
    garage.install(FIRST)
    garage.install(SECOND)
    files = {sha256_hex(data) for each in (FIRST, SECOND) for data in (each.artifact, each.manifest)}
    assert set(garage.slots.held()) == files


def test_trial_counts_boots_across_restarts(garage: Garage) -> None:
    garage.install(FIRST)
    garage.install(SECOND, confirm=False)
    for expected in (1, 2, 3):
        garage.restart()
        assert garage.slots.count_boot() == expected


def test_activating_twice_does_not_begin_the_trial_anew(garage: Garage) -> None:
    garage.install(FIRST)
    slot = garage.install(SECOND, confirm=False)
    garage.slots.count_boot()
    garage.slots.activate(slot)
    assert garage.slots.count_boot() == 2
    assert release_of(garage.slots.previous) == "1.0.0"


def test_roll_back_returns_and_does_not_raise_the_counter(garage: Garage) -> None:
    garage.install(FIRST)
    garage.install(SECOND, confirm=False)
    garage.slots.roll_back()
    garage.slots.roll_back()
    garage.restart()
    assert release_of(garage.slots.active) == "1.0.0"
    assert garage.slots.highest_confirmed("tiny") == 1


def test_confirming_twice_changes_nothing(garage: Garage) -> None:
    garage.install(FIRST)
    before = garage.slots.pointer
    garage.slots.confirm()
    garage.slots.roll_back()
    assert garage.slots.pointer == before


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_damaged_active_slot_gives_way_to_the_one_before(garage: Garage, name: str) -> None:
    garage.install(FIRST)
    slot = garage.install(SECOND)
    (slot.folder / name).unlink()  # a hard link to the download must not be written through
    (slot.folder / name).write_bytes(b"rotten")
    assert [each.name for each in garage.slots.discard_damaged()] == ["b"]
    assert release_of(garage.slots.active) == "1.0.0"


def test_damaged_active_slot_does_not_give_way_to_one_that_was_never_tried(garage: Garage) -> None:
    slot = garage.install(FIRST)
    garage.slots.stage(verified(garage.folder / "in", SECOND))
    (slot.folder / "model.onnx").unlink()
    garage.slots.discard_damaged()
    assert garage.slots.active is None


def test_slot_without_its_record_is_empty(garage: Garage) -> None:
    slot = garage.install(FIRST)
    (slot.folder / "slot.json").write_text("{")
    assert garage.slots.active is None


def test_damaged_pointer_says_what_to_do(garage: Garage) -> None:
    garage.install(FIRST)
    (garage.folder / "slots" / "slots.json").write_text("{")
    with pytest.raises(StorageError, match="enrol"):
        garage.restart()
