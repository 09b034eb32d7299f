"""The agent and the real registry, over a real socket: what one end says, the other understands."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_client.composition import compose
from edge_client.enrolment import enrol
from edge_client.runtime import SelfTest
from ota_protocol.errors import RefusedError
from tests.support.agent_fake import Driver, self_test_here, settings_for
from tests.support.model_fake import TinyRelease, fine_tuned, tiny_release, wrong_release
from tests.support.registry import Build, HandClock, Registry, running_registry

FIRST = tiny_release("1.0.0", 1, hidden=200)
SECOND = fine_tuned(FIRST, "1.1.0", 2)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    # The vehicle has the time of day, so the registry has it too.
    with running_registry(tmp_path / "registry", HandClock(datetime.now(UTC))) as made:
        yield made


def roll_out(registry: Registry, release: TinyRelease, name: str) -> None:
    """Publish a release, make its deltas, and roll it out."""
    made = Build(release.model, release.release, release.artifact, release.manifest)
    assert registry.publish(made, release.counter).status_code == 201
    registry.queue.run()
    assert registry.roll_out(made, name).status_code == 201
    registry.queue.run()


@contextmanager
def vehicle(registry: Registry, state: Path, self_test: SelfTest = self_test_here, **changes: Any) -> Iterator[Driver]:
    """Run an enrolled agent with its own sockets."""
    token = (registry.keys / "enrolment.token").read_text().strip()
    root = (registry.keys / "root.json").read_bytes()
    enrol(state, str(registry.client.base_url), "car-1", enrolment_token=token, root=root)
    with compose(settings_for(state, **changes), threading.Event(), self_test=self_test) as parts:
        yield Driver(parts, [])


def rollout(registry: Registry, name: str) -> dict[str, Any]:
    found: dict[str, Any] = registry.get(f"/api/v1/rollouts/{name}").json()
    return found


def test_full_file_then_delta_and_both_ends_agree(registry: Registry, tmp_path: Path) -> None:
    with vehicle(registry, tmp_path / "car") as driver:
        roll_out(registry, FIRST, "first")
        driver.until_runs("1.0.0")
        assert rollout(registry, "first")["state"] == "finished"
        roll_out(registry, SECOND, "second")
        driver.until_runs("1.1.0")
        ways = [(each.release, each.via) for each in driver.parts.journal.history()]
        assert ways == [("1.0.0", "full"), ("1.1.0", "delta")]
        count = driver.parts.ledger.count()
    assert rollout(registry, "second")["vehicles"] == {"car-1": "confirmed"}
    shown = registry.get("/api/v1/vehicles/car-1").json()
    assert shown["confirmed"] == "1.1.0"
    saving = registry.get("/api/v1/savings").json()["vehicles"]["car-1"]
    assert saving["updates"] == 2
    assert 0 < saving["received_bytes"] <= count.received
    assert 0 < saving["sent_bytes"] <= count.sent


def test_release_that_fails_is_seen_as_failed_and_no_longer_assigned(registry: Registry, tmp_path: Path) -> None:
    with vehicle(registry, tmp_path / "car", self_test=lambda *_: None) as driver:
        roll_out(registry, FIRST, "first")
        driver.until_runs("1.0.0")
        roll_out(registry, wrong_release("2.0.0", 2), "second")
        driver.until(lambda _: rollout(registry, "second")["vehicles"]["car-1"] == "failed")
        driver.until(lambda each: each.agent.saved.update is None)
        assert driver.confirmed == "1.0.0"
        assert driver.parts.inference.count.lost == 0


def test_wrong_enrolment_token_is_refused_with_a_remedy(registry: Registry, tmp_path: Path) -> None:
    root = (registry.keys / "root.json").read_bytes()
    with pytest.raises(RefusedError, match="401") as caught:
        enrol(tmp_path / "car", str(registry.client.base_url), "car-1", enrolment_token="wrong", root=root)
    assert caught.value.remedy
