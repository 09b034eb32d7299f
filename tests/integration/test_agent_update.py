"""The agent from enrolment to a confirmed release, against a registry in memory with real signatures."""

from __future__ import annotations

from pathlib import Path

from edge_client.machine import State
from ota_protocol.wire import EventKind
from tests.support.agent_fake import driving, enrolled
from tests.support.model_fake import tiny_release
from tests.support.registry_fake import FakeRegistry


def test_first_release_is_fetched_tried_and_confirmed(tmp_path: Path) -> None:
    registry = FakeRegistry()
    release = tiny_release("1.0.0", 1)
    registry.publish(release)
    registry.assign("1.0.0")
    with driving(enrolled(tmp_path / "car", registry), registry) as driver:
        driver.until_runs("1.0.0")
        driver.until(lambda each: each.parts.inference.count.served > 5)
        assert driver.parts.inference.count.lost == 0
        (update,) = driver.parts.journal.history()
    assert driver.states == [
        State.ASSIGNED,
        State.DOWNLOADING,
        State.VERIFYING,
        State.STAGING,
        State.ACTIVATING,
        State.TRIAL,
        State.CONFIRMING,
        State.IDLE,
    ]
    assert registry.kinds() == [
        EventKind.ASSIGNED,
        EventKind.DOWNLOADED,
        EventKind.VERIFIED,
        EventKind.STAGED,
        EventKind.ACTIVATED,
        EventKind.CONFIRMED,
    ]
    assert update.result == "confirmed"
    assert update.via == "raw"
    assert update.payload_bytes == len(release.artifact) + len(release.manifest)
    assert registry.check_ins[-1].vehicle.active is not None
