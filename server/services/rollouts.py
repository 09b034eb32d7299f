"""Owns the use case of rollouts: making one, and telling how far it has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from ota_protocol.wire import Rollout, RolloutRequest, VehicleProgress
from server.domain.refusals import CheckFailedError, ConflictError, NotFoundError
from server.domain.release import KnownRelease
from server.domain.rollout import KnownRollout, Progress, in_wave, shown_state
from server.domain.transfers import forecast_bytes
from server.services.catalog import Catalog, View
from server.services.clock import Clock
from server.services.deltas import DeltaQueue, want_for
from server.store import releases, rollouts, vehicles
from server.store.database import Database
from server.store.deltas import DeltaTask
from server.store.tables import VehicleRow


class RolloutDesk:
    """Makes rollouts and shows them."""

    def __init__(self, database: Database, catalog: Catalog, queue: DeltaQueue, clock: Clock) -> None:
        self._database = database
        self._catalog = catalog
        self._queue = queue
        self._clock = clock

    def create(self, name: str, request: RolloutRequest) -> tuple[Rollout, bool]:
        """Make a rollout; tell also whether it is new. A second time with the same request changes nothing.

        Raises:
            NotFoundError: the release or a vehicle is not known.
            ConflictError: the rollout exists with another request.
            CheckFailedError: vehicles of the wave would refuse, since they confirmed a newer release.
        """
        tasks = self._database.change(lambda session: self._make(session, name, request))
        if tasks is None:
            return self.show(name), False
        self._catalog.stale()
        for task in tasks:
            self._queue.put(task)
        return self.show(name), True

    def _make(self, session: Session, name: str, request: RolloutRequest) -> list[DeltaTask] | None:
        """Add the rollout and return the deltas to be made; None if it is there already."""
        known = rollouts.get(session, name)
        if known is not None:
            _require_same(known, request)
            return None
        release = _require_release(session, request)
        fleet = vehicles.every(session)
        _require_vehicles(fleet, request)
        _require_not_older(fleet, release, request)
        fresh = KnownRollout(
            name=name,
            model=request.model,
            release=request.release,
            state="active",
            vehicles=frozenset(request.vehicles),
            waits_for=frozenset(),
            created_at=self._clock(),
        )
        waits_for, tasks = want_for(session, release, fresh, self._clock)
        rollouts.add(session, fresh.waiting_for(waits_for))
        return tasks

    def show(self, name: str) -> Rollout:
        """Return one rollout with its progress.

        Raises:
            NotFoundError: there is none of this name.
        """
        with self._database.read() as session:
            known = rollouts.get(session, name)
            if known is None:
                raise NotFoundError(f"there is no rollout {name}", remedy=f"PUT /api/v1/rollouts/{name} makes it")
            return self._shown(session, known)

    def show_all(self) -> list[Rollout]:
        """Return all rollouts, newest first."""
        with self._database.read() as session:
            return [self._shown(session, known) for known in rollouts.every(session)]

    def _shown(self, session: Session, rollout: KnownRollout) -> Rollout:
        progress = rollouts.progress_of_rollout(session, rollout.name)
        wave = [row for row in vehicles.every(session) if in_wave(rollout, row.name, vehicles.manifest(row))]
        states = {row.name: progress.get(row.name, Progress()).state for row in wave}
        return Rollout(
            rollout=rollout.name,
            model=rollout.model,
            release=rollout.release,
            state=shown_state(rollout.state, states.values()),
            created_at=rollout.created_at,
            forecast_bytes=_forecast(rollout, wave, states, self._catalog.view()),
            vehicles=states,
            counts=dict(Counter(states.values())),
        )


def _forecast(
    rollout: KnownRollout, wave: Sequence[VehicleRow], states: Mapping[str, VehicleProgress], view: View
) -> int:
    release = view.release(rollout.model, rollout.release)
    if release is None or rollout.state == "superseded":
        return 0
    open_states = {VehicleProgress.PENDING, VehicleProgress.UPDATING}
    said = [vehicles.manifest(row) for row in wave if states[row.name] in open_states]
    bases = Counter(frozenset(manifest.bases) if manifest else frozenset() for manifest in said)
    return sum(count * forecast_bytes(release, view.graph, held) for held, count in bases.items())


def _require_same(known: KnownRollout, request: RolloutRequest) -> None:
    if (known.model, known.release, known.vehicles) != (request.model, request.release, frozenset(request.vehicles)):
        raise ConflictError(
            f"rollout {known.name} exists with another request ({known.model} {known.release})",
            remedy="give the new rollout another name",
        )


def _require_release(session: Session, request: RolloutRequest) -> KnownRelease:
    release = releases.get(session, request.model, request.release)
    if release is None:
        raise NotFoundError(
            f"there is no release {request.release} of {request.model}", remedy="publish it, or see GET /api/v1/models"
        )
    return release


def _require_vehicles(fleet: Sequence[VehicleRow], request: RolloutRequest) -> None:
    unknown = sorted(set(request.vehicles) - {row.name for row in fleet})
    if unknown:
        raise NotFoundError(
            f"{len(unknown)} vehicles of the request are not enrolled, the first is {unknown[0]}",
            remedy="enrol them first, or leave them out",
        )


def _require_not_older(fleet: Sequence[VehicleRow], release: KnownRelease, request: RolloutRequest) -> None:
    named = frozenset(request.vehicles)
    for row in fleet:
        said = vehicles.manifest(row) if not named or row.name in named else None
        active = said.active if said is not None else None
        if active and active.model == release.model and active.release_counter > release.release_counter:
            raise CheckFailedError(
                f"vehicle {row.name} runs {active.release} with release counter {active.release_counter} and would "
                f"refuse {release.release} with {release.release_counter}",
                remedy="publish the old artifact again as a newer release, or leave the vehicle out",
            )
