"""Publishing, enrolling, rollouts, check-ins and savings, as an operator and the vehicles see them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ota_protocol.digest import sha256_hex
from ota_protocol.reference import FP32_BYTES
from server.domain.refusals import CheckFailedError
from server.services.child import Children
from tests.support.registry import Build, HandClock, NearChildren, Registry, build, event, running_registry

FIRST, SECOND, THIRD = build("1.0.0"), build("1.1.0", changed=20), build("1.2.0", changed=40)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with running_registry(tmp_path, check_in_after_s=7) as running:
        yield running


def prepared(registry: Registry, *builds: Build) -> None:
    """Publish releases in order, with all their deltas."""
    for counter, made in enumerate(builds, start=1):
        assert registry.publish(made, counter).status_code == 201
    registry.queue.run()


def test_publishing_again_changes_nothing(registry: Registry) -> None:
    first = registry.publish(FIRST, 1)
    version = registry.current_targets().signed.version
    stale = registry.signed(registry.next_targets(FIRST, 5))
    again = registry.publish(FIRST, 1, stale)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert registry.current_targets().signed.version == version
    assert registry.upload(FIRST.artifact).status_code == 200


def test_models_and_releases_are_listed_newest_first(registry: Registry) -> None:
    prepared(registry, FIRST, SECOND)
    other = build("0.1.0", model="other", seed=5)
    assert registry.publish(other, 1).status_code == 201
    models = {
        model["model"]: [r["release"] for r in model["releases"]] for model in registry.get("/api/v1/models").json()
    }
    assert models == {"other": ["0.1.0"], "tiny": ["1.1.0", "1.0.0"]}
    release = registry.get("/api/v1/models/tiny/releases/1.1.0").json()
    assert release["release_counter"] == 2
    assert release["metrics"] == {"top1": 0.5}
    assert {delta["result"] for delta in release["deltas"]} == {
        sha256_hex(SECOND.artifact),
        sha256_hex(SECOND.manifest),
    }


def test_anyone_with_a_token_may_read_models(registry: Registry) -> None:
    car = registry.enrol("car")
    for headers in (registry.headers("enrolment"), {"Authorization": f"Bearer {car.token}"}):
        assert registry.client.get("/api/v1/models", headers=headers).status_code == 200


def test_enrolling_again_changes_nothing(registry: Registry) -> None:
    body = {"token_sha256": "ab" * 32}
    first, again = (registry.put("/api/v1/vehicles/car", body) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert registry.get("/api/v1/vehicles").json() == [registry.get("/api/v1/vehicles/car").json()]


def test_the_reply_to_a_check_in(registry: Registry) -> None:
    reply = registry.enrol("car").check_in()
    timestamp = registry.client.get("/tuf/metadata/timestamp.json").content
    assert base64.b64decode(reply["timestamp_base64"]) == timestamp
    assert (reply["check_in_after_s"], reply["root_version"]) == (7, 1)
    assert "assignment" not in reply


def test_what_a_vehicle_says_is_shown(registry: Registry) -> None:
    car = registry.enrol("car")
    car.runs(FIRST, 1)
    car.check_in(event("confirmed", FIRST))
    shown = registry.get("/api/v1/vehicles/car").json()
    assert shown["manifest"]["active"]["release"] == "1.0.0"
    assert shown["confirmed"] == "1.0.0"
    assert shown["last_seen_at"] is not None


def test_a_check_in_that_says_nothing_new_writes_nothing(tmp_path: Path) -> None:
    with running_registry(tmp_path, seen_flush_s=3600) as registry:
        car = registry.enrol("car")
        car.check_in()
        wal = tmp_path / "data" / "registry.sqlite-wal"
        before = (wal.stat().st_size, wal.stat().st_mtime_ns)
        for _ in range(5):
            car.check_in()
        assert (wal.stat().st_size, wal.stat().st_mtime_ns) == before


def test_when_a_vehicle_was_seen_outlives_a_restart(tmp_path: Path) -> None:
    clock = HandClock()
    with running_registry(tmp_path, clock, seen_flush_s=3600) as registry:
        registry.enrol("car").check_in()
        seen = registry.get("/api/v1/vehicles/car").json()["last_seen_at"]
    with running_registry(tmp_path, clock) as registry:
        assert registry.get("/api/v1/vehicles/car").json()["last_seen_at"] == seen


def test_an_event_counts_once_however_often_it_comes(registry: Registry) -> None:
    prepared(registry, FIRST)
    registry.roll_out(FIRST, "first")
    car = registry.enrol("car")
    failed = event("failed", FIRST, key=uuid4())
    for _ in range(5):
        assert car.check_in(failed)["accepted"] == [failed["id"]]
    assert registry.get("/api/v1/rollouts/first").json()["vehicles"] == {"car": "updating"}


def test_a_vehicle_that_fails_too_often_is_not_asked_again(registry: Registry) -> None:
    prepared(registry, FIRST)
    registry.roll_out(FIRST, "first")
    car = registry.enrol("car")
    for _ in range(3):
        assert car.check_in()["assignment"]["release"] == "1.0.0"
        car.check_in(event("rolled_back", FIRST), event("failed", FIRST))
    assert "assignment" not in car.check_in()
    shown = registry.get("/api/v1/rollouts/first").json()
    assert (shown["state"], shown["counts"]) == ("running", {"failed": 1})


def test_installed_is_not_confirmed(registry: Registry) -> None:
    prepared(registry, FIRST)
    registry.roll_out(FIRST, "first")
    car = registry.enrol("car")
    car.runs(FIRST, 1, state="trial")
    assert "assignment" not in car.check_in(event("activated", FIRST))
    shown = registry.get("/api/v1/rollouts/first").json()
    assert (shown["state"], shown["vehicles"]) == ("running", {"car": "trial"})
    car.runs(FIRST, 1)
    car.check_in(event("confirmed", FIRST))
    assert registry.get("/api/v1/rollouts/first").json()["state"] == "finished"


def test_the_same_rollout_twice_and_another_of_its_name(registry: Registry) -> None:
    prepared(registry, FIRST, SECOND)
    first, again = registry.roll_out(SECOND, "second"), registry.roll_out(SECOND, "second")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert registry.roll_out(FIRST, "second").status_code == 409
    assert [r["rollout"] for r in registry.get("/api/v1/rollouts").json()] == ["second"]


def test_a_newer_rollout_supersedes_the_older(registry: Registry) -> None:
    prepared(registry, FIRST, SECOND)
    registry.roll_out(FIRST, "first")
    registry.roll_out(SECOND, "second")
    assert registry.get("/api/v1/rollouts/first").json()["state"] == "superseded"
    assert registry.enrol("car").check_in()["assignment"]["rollout"] == "second"


def test_a_rollout_to_named_vehicles_leaves_the_others(registry: Registry) -> None:
    prepared(registry, FIRST)
    car, truck = registry.enrol("car"), registry.enrol("truck")
    registry.roll_out(FIRST, "first", ["truck"])
    assert "assignment" not in car.check_in()
    assert truck.check_in()["assignment"]["release"] == "1.0.0"
    assert registry.get("/api/v1/rollouts/first").json()["vehicles"] == {"truck": "updating"}


def test_a_vehicle_enrolled_late_joins_the_fleet(registry: Registry) -> None:
    prepared(registry, FIRST)
    registry.roll_out(FIRST, "first")
    car = registry.enrol("car")
    car.runs(FIRST, 1)
    car.check_in()
    assert registry.get("/api/v1/rollouts/first").json()["state"] == "finished"
    late = registry.enrol("late")
    assert registry.get("/api/v1/rollouts/first").json()["state"] == "running"
    assert late.check_in()["assignment"]["release"] == "1.0.0"


def test_a_rollout_waits_for_the_deltas_of_its_vehicles(registry: Registry) -> None:
    prepared(registry, FIRST)
    car = registry.enrol("car")
    car.runs(FIRST, 1)
    car.check_in()
    assert registry.publish(SECOND, 2).status_code == 201
    made = registry.roll_out(SECOND, "second").json()
    assert made["state"] == "preparing"
    assert "assignment" not in car.check_in()
    registry.queue.run()
    ready = registry.get("/api/v1/rollouts/second").json()
    assert ready["state"] == "running"
    assigned = car.check_in()["assignment"]
    best = [min(c["transfers"][0]["length_bytes"] for c in assigned[f]["candidates"]) for f in ("artifact", "manifest")]
    assert ready["forecast_bytes"] == sum(best) < made["forecast_bytes"]


def test_a_late_base_gets_a_delta_of_its_own(registry: Registry) -> None:
    prepared(registry, FIRST, SECOND)
    registry.roll_out(SECOND, "second")
    car = registry.enrol("car")
    car.runs(FIRST, 1)
    assert [c["kind"] for c in car.check_in()["assignment"]["artifact"]["candidates"]] == ["compressed_full", "raw"]
    assert len(registry.queue.tasks) == 2
    registry.queue.run()
    candidates = car.check_in()["assignment"]["artifact"]["candidates"]
    assert [c["kind"] for c in candidates] == ["delta", "compressed_full", "raw"]
    car.check_in()
    assert not registry.queue.tasks


def test_a_chain_is_offered_where_no_delta_was_made(registry: Registry) -> None:
    car = registry.enrol("car")
    for counter, made in enumerate((FIRST, SECOND, THIRD), start=1):
        assert registry.publish(made, counter).status_code == 201
        registry.queue.run()
        car.runs(made, counter)
        car.check_in()
    registry.roll_out(THIRD, "third")
    old = registry.enrol("car-old")
    old.runs(FIRST, 1)
    candidates = old.check_in()["assignment"]["artifact"]["candidates"]
    assert [c["kind"] for c in candidates] == ["chain", "compressed_full", "raw"]
    assert [t["base"] for t in candidates[0]["transfers"]] == [sha256_hex(FIRST.artifact), sha256_hex(SECOND.artifact)]


def test_vehicles_are_not_sent_back_to_an_older_release(registry: Registry) -> None:
    prepared(registry, FIRST, SECOND)
    car = registry.enrol("car")
    car.runs(SECOND, 2)
    car.check_in()
    answer = registry.roll_out(FIRST, "back")
    assert answer.status_code == 422
    assert "newer release" in answer.json()["remedy"]


def test_savings_count_what_was_really_moved(registry: Registry) -> None:
    car, truck = registry.enrol("car"), registry.enrol("truck")
    car.check_in(event("confirmed", FIRST), event("bytes", sent=2_000, received=500_000, period_start=0))
    car.check_in(event("confirmed", SECOND), event("bytes", sent=3_000, received=510_000, period_start=60))
    car.check_in(event("bytes", sent=1_000, received=1_000, period_start=0))
    truck.check_in(event("confirmed", FIRST), event("bytes", sent="many", received=-1))
    savings = registry.get("/api/v1/savings").json()
    assert savings["vehicles"]["car"]["updates"] == 2
    assert savings["vehicles"]["truck"] | {"saved_bytes": {}} == {
        "updates": 1,
        "received_bytes": 0,
        "sent_bytes": 0,
        "saved_bytes": {},
    }
    assert savings["fleet"]["received_bytes"] == 510_000
    assert savings["fleet"]["saved_bytes"]["alexnet"] == 3 * FP32_BYTES["alexnet"] - 513_000


class WastefulChildren(NearChildren):
    """An encoder that finds nothing in common."""

    def run(self, module: str, arguments: Sequence[str], *, timeout_s: float, what: str) -> dict[str, Any]:
        answer = super().run(module, arguments, timeout_s=timeout_s, what=what)
        if module == "server.children.encode_delta" and arguments[-3] != "-":
            Path(arguments[-1]).write_bytes(b"\0" * 10_000)
        return answer


class BrokenChildren(NearChildren):
    """An encoder that always fails."""

    def run(self, module: str, arguments: Sequence[str], *, timeout_s: float, what: str) -> dict[str, Any]:
        if module == "server.children.encode_delta":
            raise CheckFailedError("making the delta ended by signal 9")
        return super().run(module, arguments, timeout_s=timeout_s, what=what)


@pytest.mark.parametrize(
    ("children", "settled", "offered"),
    [
        (WastefulChildren(), {"offered", "dropped"}, ["compressed_full", "raw"]),
        (BrokenChildren(), {"failed"}, ["raw"]),
    ],
)
def test_a_delta_that_saves_nothing_or_fails_holds_nothing_up(
    tmp_path: Path, children: Children, settled: set[str], offered: list[str]
) -> None:
    with running_registry(tmp_path, children=children) as registry:
        assert registry.publish(FIRST, 1).status_code == 201
        car = registry.enrol("car")
        car.runs(FIRST, 1)
        car.check_in()
        assert registry.publish(SECOND, 2).status_code == 201
        assert registry.roll_out(SECOND, "second").json()["state"] == "preparing"
        assert set(registry.queue.run()) == settled
        assert registry.get("/api/v1/rollouts/second").json()["state"] == "running"
        assert [c["kind"] for c in car.check_in()["assignment"]["artifact"]["candidates"]] == offered
