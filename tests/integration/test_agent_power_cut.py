"""A power cut before every single change of the disk during an update: after the restart, the same end state."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edge_client.journal import Journal
from ota_protocol.digest import sha256_hex
from ota_protocol.wire import EventKind
from tests.support.agent_fake import driving, enrolled
from tests.support.model_fake import TinyRelease, fine_tuned, tiny_release, wrong_release
from tests.support.power_cut_fake import FragileDisk, FragileJournal, Power, PowerCutError
from tests.support.registry_fake import FakeRegistry

FIRST = tiny_release("1.0.0", 1, hidden=100)
SECOND = fine_tuned(FIRST, "1.1.0", 2)
BAD = wrong_release("2.0.0", 2)
ROWS = 68
"""Changes of the disk during the update by deltas; the test checks that it still is."""
ROLL_BACK_ROWS = 56
"""At most the changes during the roll back."""


class Prepared:
    """A vehicle that runs 1.0.0, to be copied for each row, and the registry that it belongs to."""

    def __init__(self, folder: Path, release: TinyRelease) -> None:
        self.registry = FakeRegistry.offering(FIRST)
        self.state = enrolled(folder / "car", self.registry)
        with driving(self.state, self.registry) as driver:
            driver.until_runs("1.0.0")
        self.registry.publish(release)
        if release is SECOND:
            self.registry.add_delta(FIRST.artifact, SECOND.artifact)
            self.registry.add_delta(FIRST.manifest, SECOND.manifest)
        self.registry.assign(release.release, "second")

    def copy(self, folder: Path) -> Path:
        """Return a vehicle of its own for one row; its registry starts hearing anew."""
        self.registry.events.clear()
        return Path(shutil.copytree(self.state, folder / "car"))


def quick_folder() -> TemporaryDirectory[str]:
    """Return a folder in memory where there is one: the cuts are made by the tests, so a real disk adds only time."""
    memory = Path("/dev/shm")
    return TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as path:
        yield Path(path)


@pytest.fixture(scope="module")
def good() -> Iterator[Prepared]:
    with quick_folder() as path:
        yield Prepared(Path(path), SECOND)


@pytest.fixture(scope="module")
def bad() -> Iterator[Prepared]:
    with quick_folder() as path:
        yield Prepared(Path(path), BAD)


def run_until(state: Path, registry: FakeRegistry, power: Power, end: EventKind) -> bool:
    """Run an agent until its registry hears of the end, or until the power is cut; return whether it was cut."""

    def make_journal(path: Path) -> Journal:
        return FragileJournal(path, power)

    # The self-test passes here, so that a bad release reaches its trial and has to be rolled back.
    with driving(
        state, registry, disk=FragileDisk(power), make_journal=make_journal, self_test=lambda *_: None, trial_boots=50
    ) as driver:
        try:
            driver.until(lambda _: end in registry.kinds())
        except PowerCutError:
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("at", range(ROWS + 1))
def test_update_ends_the_same_after_a_power_cut(good: Prepared, folder: Path, at: int) -> None:
    state = good.copy(folder)
    was_cut = run_until(state, good.registry, Power(at), EventKind.CONFIRMED)
    assert was_cut is (at < ROWS), "the update has another number of changes: correct ROWS"
    assert not run_until(state, good.registry, Power(), EventKind.CONFIRMED)
    require_end(state, good.registry, SECOND)
    assert Counter(good.registry.kinds())[EventKind.CONFIRMED] == 1


@pytest.mark.slow
@pytest.mark.parametrize("at", range(0, ROLL_BACK_ROWS, 5))
def test_roll_back_ends_the_same_after_a_power_cut(bad: Prepared, folder: Path, at: int) -> None:
    state = bad.copy(folder)
    assert run_until(state, bad.registry, Power(at), EventKind.FAILED)
    assert not run_until(state, bad.registry, Power(), EventKind.FAILED)
    require_end(state, bad.registry, FIRST)
    assert Counter(bad.registry.kinds())[EventKind.ROLLED_BACK] == 1


def require_end(state: Path, registry: FakeRegistry, release: TinyRelease) -> None:
    with driving(state, registry) as driver:
        active = driver.parts.slots.active
        assert driver.confirmed == release.release
        assert active is not None
        assert sha256_hex(active.model_path.read_bytes()) == sha256_hex(release.artifact)
        assert driver.parts.slots.highest_confirmed("tiny") == release.counter
        assert list((state / "downloads").iterdir()) == []
        assert driver.parts.inference.count.lost == 0
