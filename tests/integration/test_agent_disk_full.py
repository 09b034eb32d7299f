"""A full disk: nothing half-written, the model goes on, and the update comes once there is room."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edge_client.disk import Disk
from edge_client.machine import State
from ota_protocol.wire import EventKind
from tests.support.agent_fake import driving, enrolled
from tests.support.model_fake import fine_tuned, tiny_release
from tests.support.registry_fake import FakeRegistry

FIRST = tiny_release("1.0.0", 1, hidden=100)
SECOND = fine_tuned(FIRST, "1.1.0", 2)


class TightDisk(Disk):
    """A disk that is full for one kind of change, or says beforehand that it has no room."""

    def __init__(self) -> None:
        self.full_for = ""
        self.room_bytes = 1 << 40

    def about_to(self, change: str, path: Path) -> None:
        if self.full_for and f"{change} {path.name}".startswith(self.full_for):
            raise OSError(errno.ENOSPC, "No space left on device")

    def free_bytes(self, folder: Path) -> int:
        return self.room_bytes


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry.offering(FIRST)


@pytest.fixture
def state(tmp_path: Path, registry: FakeRegistry) -> Path:
    return enrolled(tmp_path / "car", registry)


@pytest.mark.parametrize("full_for", ["append", "place", "write slot.json", "write slots.json", "flush"])
def test_full_disk_leaves_the_model_running_and_heals(state: Path, registry: FakeRegistry, full_for: str) -> None:
    disk = TightDisk()
    with driving(state, registry, disk=disk, attempts=1_000) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.assign("1.1.0", "second")
        disk.full_for = full_for
        driver.until(lambda each: each.agent.saved.update is not None and each.agent.saved.update.attempts > 3)
        assert "no room" in driver.agent.saved.update.reason if driver.agent.saved.update else False
        active = driver.parts.slots.active
        assert active is not None
        assert active.release.release == "1.0.0"
        disk.full_for = ""
        driver.until_runs("1.1.0")
        assert driver.parts.inference.count.lost == 0


def test_lack_of_room_is_seen_before_a_byte_is_paid_for(state: Path, registry: FakeRegistry) -> None:
    disk = TightDisk()
    with driving(state, registry, disk=disk, attempts=1_000) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.assign("1.1.0", "second")
        disk.room_bytes = 1_000
        before = len(registry.fetched())
        driver.until(lambda each: each.agent.saved.update is not None and each.agent.saved.update.attempts > 3)
        assert len(registry.fetched()) == before
        disk.room_bytes = 1 << 40
        driver.until_runs("1.1.0")


def test_disk_that_stays_full_is_reported_and_tried_again(state: Path, registry: FakeRegistry) -> None:
    disk = TightDisk()
    with driving(state, registry, disk=disk, attempts=3, cooldown_s=0.1) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        registry.assign("1.1.0", "second")
        disk.full_for = "append"
        driver.until(lambda _: EventKind.FAILED in registry.kinds())
        assert "no room" in driver.parts.journal.history()[-1].reason
        disk.full_for = ""
        driver.until_runs("1.1.0")


def test_state_that_cannot_be_saved_is_not_entered(state: Path, registry: FakeRegistry) -> None:
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        registry.publish(SECOND)
        driver.parts.journal._db.execute("PRAGMA max_page_count = 1")
        registry.assign("1.1.0", "second")
        for _ in range(200):
            driver.agent.turn()
        assert driver.state in (State.IDLE, State.ASSIGNED)
        assert driver.confirmed == "1.0.0"
        driver.parts.journal._db.execute("PRAGMA max_page_count = 1000000")
        driver.until_runs("1.1.0")


def test_full_disk_while_waiting_for_the_budget_does_not_end_the_agent(state: Path, registry: FakeRegistry) -> None:
    now = [1e9]
    with driving(state, registry, budget_bytes=20_000, budget_period_s=1_000.0, clock=lambda: now[0]) as driver:
        driver.parts.ledger.add(received=14_900)
        driver.until(lambda each: each.state is State.WAITING, timeout_s=15)
        driver.parts.journal._db.execute(
            "CREATE TEMP TRIGGER full BEFORE INSERT ON saved BEGIN SELECT raise(FAIL, 'database or disk is full'); END"
        )
        now[0] += 1_000.0
        driver.agent._step_at = 0.0
        for _ in range(50):
            driver.agent.turn()
        assert driver.state is State.WAITING
        driver.parts.journal._db.execute("DROP TRIGGER full")
        driver.agent._step_at = 0.0
        driver.until(lambda each: each.state is not State.WAITING, timeout_s=15)
