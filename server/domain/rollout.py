"""Owns who gets which release: the assignment is a pure function, and so is how far a vehicle has come."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from ota_protocol.digest import DigestHex
from ota_protocol.manifest import VehicleManifest
from ota_protocol.wire import Event, EventKind, VehicleProgress
from server.domain.release import KnownRelease

StoredState = Literal["preparing", "active", "superseded"]
ShownState = Literal["preparing", "running", "finished", "superseded"]

SETTLED_STATE = "idle"
"""A vehicle's state in which what it runs is confirmed; in `trial` it is not."""


@dataclass(frozen=True, slots=True)
class KnownRollout:
    """One rollout: bring this release to these vehicles (none named: to the whole fleet)."""

    name: str
    model: str
    release: str
    state: StoredState
    vehicles: frozenset[str]
    waits_for: frozenset[str]
    created_at: datetime

    def covers(self, vehicle: str) -> bool:
        """Tell whether the vehicle is in the wave."""
        return not self.vehicles or vehicle in self.vehicles

    def waiting_for(self, targets: Collection[str]) -> KnownRollout:
        """Return the rollout as it is until these deltas are settled; with none, it runs at once."""
        return replace(self, waits_for=frozenset(targets), state="preparing" if targets else "active")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one vehicle has come in one rollout, and how often it failed on the way."""

    state: VehicleProgress = VehicleProgress.PENDING
    failures: int = 0

    def after(self, kind: EventKind, *, max_failures: int) -> Progress:
        """Return the progress after one more event about the rollout's release.

        What is confirmed stays confirmed, and what failed for good stays failed until the vehicle confirms after all.
        A rolled-back trial is followed by its own `failed`, so that alone is counted.
        """
        if kind is EventKind.CONFIRMED:
            return replace(self, state=VehicleProgress.CONFIRMED)
        if self.state in {VehicleProgress.CONFIRMED, VehicleProgress.FAILED}:
            return self
        if kind is EventKind.FAILED:
            failures = self.failures + 1
            given_up = failures >= max_failures
            return Progress(VehicleProgress.FAILED if given_up else VehicleProgress.PENDING, failures)
        if kind in _STEPS:
            return replace(self, state=_STEPS[kind])
        return self


_STEPS: Mapping[EventKind, VehicleProgress] = {
    EventKind.ASSIGNED: VehicleProgress.UPDATING,
    EventKind.WAITING: VehicleProgress.UPDATING,
    EventKind.DOWNLOADED: VehicleProgress.UPDATING,
    EventKind.RESUMED: VehicleProgress.UPDATING,
    EventKind.VERIFIED: VehicleProgress.UPDATING,
    EventKind.STAGED: VehicleProgress.UPDATING,
    EventKind.ACTIVATED: VehicleProgress.TRIAL,
    EventKind.ROLLED_BACK: VehicleProgress.PENDING,
}


def in_wave(rollout: KnownRollout, vehicle: str, said: VehicleManifest | None) -> bool:
    """Tell whether a vehicle counts in a rollout's progress: it is named, or the fleet is and it runs the model."""
    if rollout.vehicles:
        return vehicle in rollout.vehicles
    return said is None or said.active is None or said.active.model == rollout.model


def assign(
    vehicle: VehicleManifest, rollouts: Sequence[KnownRollout], progress: Mapping[str, Progress]
) -> KnownRollout | None:
    """Return the rollout whose release the vehicle should run and does not.

    The newest active rollout of the vehicle's model that covers it counts; a vehicle that runs nothing yet takes the
    newest of any model. A vehicle that failed it too often is left alone.

    Args:
        vehicle: what the vehicle says it runs.
        rollouts: all of them, newest first.
        progress: of this vehicle, by rollout name.
    """
    model = vehicle.active.model if vehicle.active else None
    for rollout in rollouts:
        if rollout.state != "active" or not rollout.covers(vehicle.vehicle) or model not in {None, rollout.model}:
            continue
        if runs(vehicle, rollout) or progress.get(rollout.name, Progress()).state is VehicleProgress.FAILED:
            return None
        return rollout
    return None


def runs(vehicle: VehicleManifest, rollout: KnownRollout) -> bool:
    """Tell whether the vehicle runs the rollout's release, confirmed or on trial."""
    active = vehicle.active
    return active is not None and (active.model, active.release) == (rollout.model, rollout.release)


def seen(vehicle: VehicleManifest, rollout: KnownRollout, before: Progress) -> Progress:
    """Return the progress that the vehicle's own statement shows, so that a lost event heals at a check-in."""
    if not runs(vehicle, rollout):
        return before
    if vehicle.state == SETTLED_STATE:
        return replace(before, state=VehicleProgress.CONFIRMED)
    if vehicle.state == "trial" and before.state in {VehicleProgress.PENDING, VehicleProgress.UPDATING}:
        return replace(before, state=VehicleProgress.TRIAL)
    return before


def advanced(
    vehicle: VehicleManifest, rollout: KnownRollout, before: Progress, new: Iterable[Event], *, max_failures: int
) -> Progress:
    """Return the progress after new events and after what the vehicle says it runs."""
    if not rollout.covers(vehicle.vehicle):
        return before
    now = before
    for event in new:
        if (event.model, event.release) == (rollout.model, rollout.release):
            now = now.after(event.kind, max_failures=max_failures)
    return seen(vehicle, rollout, now)


def shown_state(stored: StoredState, states: Collection[VehicleProgress]) -> ShownState:
    """Return the state that the operator sees: finished means that every vehicle confirmed, and there is one."""
    if stored != "active":
        return stored
    done = bool(states) and all(state is VehicleProgress.CONFIRMED for state in states)
    return "finished" if done else "running"


def wanted_base(vehicle: VehicleManifest, releases: Sequence[KnownRelease], model: str) -> KnownRelease | None:
    """Return the release of `model` that a delta for this vehicle should start from: one whose artifact it holds.

    Args:
        vehicle: what the vehicle says it runs and holds.
        releases: the known ones of the model.
        model: the model that is rolled out.
    """
    held = frozenset(vehicle.bases)
    usable = [r for r in releases if r.model == model and r.artifact.digest in held]
    active = vehicle.active
    for release in usable:
        if active is not None and release.artifact.digest == active.artifact:
            return release
    return max(usable, key=lambda r: r.release_counter, default=None)


def wanted_deltas(base: KnownRelease, result: KnownRelease) -> list[tuple[DigestHex, DigestHex]]:
    """Return the (base, result) pairs that bring a vehicle from one release to another."""
    pairs = [(base.artifact.digest, result.artifact.digest), (base.manifest.digest, result.manifest.digest)]
    return [(start, end) for start, end in pairs if start != end]


def wanted_fulls(result: KnownRelease) -> list[DigestHex]:
    """Return the digests of the files of a release that are offered compressed."""
    return [result.artifact.digest, result.manifest.digest]
