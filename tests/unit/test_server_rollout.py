"""Who is assigned which release, and how far a vehicle has come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ota_protocol.manifest import FileRef, InstalledRelease, RuntimeSpec, VehicleManifest
from ota_protocol.wire import EventKind, VehicleProgress
from server.domain.release import KnownRelease
from server.domain.rollout import (
    KnownRollout,
    Progress,
    ShownState,
    StoredState,
    assign,
    in_wave,
    seen,
    shown_state,
    wanted_base,
    wanted_deltas,
)

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
RUNTIME = RuntimeSpec(onnxruntime="1.32.0", max_opset=23, machine="x86_64")


def release(number: int, model: str = "net") -> KnownRelease:
    artifact, manifest = f"{number}a" * 32, f"{number}b" * 32
    return KnownRelease(
        model=model,
        release=f"1.{number}.0",
        release_counter=number,
        artifact=FileRef(digest=artifact, length_bytes=100),
        manifest=FileRef(digest=manifest, length_bytes=10),
        metrics={},
        published_at=NOON,
    )


def rollout(name: str, number: int, *vehicles: str, state: StoredState = "active", model: str = "net") -> KnownRollout:
    return KnownRollout(name, model, f"1.{number}.0", state, frozenset(vehicles), frozenset(), NOON)


def vehicle(number: int | None = None, *, state: str = "idle", bases: tuple[str, ...] = ()) -> VehicleManifest:
    active = None
    if number is not None:
        known = release(number)
        active = InstalledRelease(
            model="net",
            release=known.release,
            release_counter=number,
            artifact=known.artifact.digest,
            manifest=known.manifest.digest,
        )
    return VehicleManifest(vehicle="car", agent="1", runtime=RUNTIME, active=active, state=state, bases=bases)


def assigned(said: VehicleManifest, *known: KnownRollout, progress: Progress | None = None) -> str | None:
    chosen = assign(said, known, {rollout.name: progress for rollout in known if progress is not None})
    return chosen.name if chosen else None


def test_an_empty_vehicle_gets_the_newest_active_rollout() -> None:
    assert assigned(vehicle(), rollout("b", 2), rollout("a", 1)) == "b"


def test_a_rollout_in_preparation_assigns_nothing() -> None:
    assert assigned(vehicle(1), rollout("b", 2, state="preparing")) is None


def test_a_superseded_rollout_assigns_nothing() -> None:
    assert assigned(vehicle(1), rollout("b", 2, state="superseded")) is None


def test_a_vehicle_outside_the_wave_is_left_alone() -> None:
    assert assigned(vehicle(1), rollout("b", 2, "truck")) is None
    assert assigned(vehicle(1), rollout("b", 2, "truck", "car")) == "b"


def test_another_model_is_not_assigned() -> None:
    assert assigned(vehicle(1), rollout("b", 2, model="other")) is None


def test_who_runs_the_release_is_not_assigned_it() -> None:
    assert assigned(vehicle(2), rollout("b", 2), rollout("a", 1)) is None
    assert assigned(vehicle(2, state="trial"), rollout("b", 2)) is None


def test_the_answer_stays_while_the_vehicle_is_busy_with_it() -> None:
    assert assigned(vehicle(1, state="downloading"), rollout("b", 2)) == "b"


def test_a_vehicle_that_failed_too_often_is_left_alone() -> None:
    assert assigned(vehicle(1), rollout("b", 2), progress=Progress(VehicleProgress.FAILED, 3)) is None


def test_failures_are_counted_until_the_vehicle_is_given_up() -> None:
    progress = Progress()
    for expected in (VehicleProgress.PENDING, VehicleProgress.PENDING, VehicleProgress.FAILED):
        progress = progress.after(EventKind.ACTIVATED, max_failures=3)
        progress = progress.after(EventKind.ROLLED_BACK, max_failures=3)
        progress = progress.after(EventKind.FAILED, max_failures=3)
        assert progress.state is expected
    assert progress.failures == 3
    assert progress.after(EventKind.DOWNLOADED, max_failures=3).state is VehicleProgress.FAILED


def test_a_late_confirmation_counts_even_after_failures() -> None:
    given_up = Progress(VehicleProgress.FAILED, 3)
    assert given_up.after(EventKind.CONFIRMED, max_failures=3).state is VehicleProgress.CONFIRMED


def test_what_is_confirmed_stays_confirmed() -> None:
    confirmed = Progress(VehicleProgress.CONFIRMED)
    assert confirmed.after(EventKind.FAILED, max_failures=1) == confirmed


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (EventKind.ASSIGNED, VehicleProgress.UPDATING),
        (EventKind.STAGED, VehicleProgress.UPDATING),
        (EventKind.ACTIVATED, VehicleProgress.TRIAL),
        (EventKind.BYTES, VehicleProgress.PENDING),
    ],
)
def test_events_move_the_progress(kind: EventKind, expected: VehicleProgress) -> None:
    assert Progress().after(kind, max_failures=3).state is expected


def test_a_lost_event_heals_by_what_the_vehicle_says() -> None:
    wanted = rollout("b", 2)
    assert seen(vehicle(2), wanted, Progress()).state is VehicleProgress.CONFIRMED
    assert seen(vehicle(2, state="trial"), wanted, Progress()).state is VehicleProgress.TRIAL
    assert seen(vehicle(2, state="confirming"), wanted, Progress()).state is VehicleProgress.PENDING
    assert seen(vehicle(1), wanted, Progress(VehicleProgress.TRIAL)).state is VehicleProgress.TRIAL


@pytest.mark.parametrize(
    ("stored", "states", "shown"),
    [
        ("active", [VehicleProgress.CONFIRMED, VehicleProgress.CONFIRMED], "finished"),
        ("active", [VehicleProgress.CONFIRMED, VehicleProgress.TRIAL], "running"),
        ("active", [VehicleProgress.CONFIRMED, VehicleProgress.FAILED], "running"),
        ("active", [], "running"),
        ("preparing", [VehicleProgress.CONFIRMED], "preparing"),
        ("superseded", [VehicleProgress.CONFIRMED], "superseded"),
    ],
)
def test_installed_is_not_confirmed(stored: StoredState, states: list[VehicleProgress], shown: ShownState) -> None:
    assert shown_state(stored, states) == shown


def test_a_rollout_waits_for_its_deltas() -> None:
    fresh = rollout("b", 2)
    assert fresh.waiting_for({"deltas/x.sqd"}).state == "preparing"
    assert fresh.waiting_for(()).state == "active"


def test_the_wave_of_a_fleet_is_who_runs_the_model_or_nothing() -> None:
    fleet, named = rollout("b", 2), rollout("c", 2, "car")
    assert in_wave(fleet, "car", None)
    assert in_wave(fleet, "car", vehicle(1))
    assert not in_wave(replace(fleet, model="other"), "car", vehicle(1))
    assert in_wave(named, "car", None)
    assert not in_wave(named, "truck", None)


def test_the_base_is_the_active_release_if_the_vehicle_holds_it() -> None:
    known = [release(3), release(2), release(1)]
    held = tuple(k.artifact.digest for k in known[1:])
    assert wanted_base(vehicle(1, bases=held), known, "net") == known[2]
    assert wanted_base(vehicle(3, bases=held), known, "net") == known[1]
    assert wanted_base(vehicle(1), known, "net") is None
    assert wanted_base(vehicle(1, bases=("0" * 64,)), known, "net") is None


def test_no_delta_between_equal_files() -> None:
    base, result = release(1), replace(release(2), artifact=release(1).artifact)
    assert wanted_deltas(base, result) == [(base.manifest.digest, result.manifest.digest)]
