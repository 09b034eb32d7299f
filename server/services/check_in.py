"""Owns the use case of the check-in: keep what the vehicle says, answer what it should run.

When nothing changed, nothing is written: a vehicle that repeats itself costs a read from memory and its answer.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from pydantic import JsonValue, ValidationError
from sqlalchemy.orm import Session

from ota_protocol.digest import sha256_hex
from ota_protocol.manifest import VehicleManifest
from ota_protocol.wire import Assignment, CheckIn, Event, EventKind, Instruction, VehicleProgress
from server.domain.refusals import CheckFailedError, ForbiddenError, UnauthenticatedError
from server.domain.rollout import KnownRollout, Progress, advanced, assign, wanted_base, wanted_deltas
from server.domain.transfers import file_offer
from server.services.catalog import Catalog, View
from server.services.clock import Clock
from server.services.deltas import DeltaQueue
from server.services.presence import Presence
from server.services.replies import Replies
from server.store import deltas, rollouts, vehicles
from server.store.database import Database
from server.store.deltas import DeltaTask
from server.store.tables import VehicleRow


def _parsed(body: bytes) -> CheckIn:
    try:
        return CheckIn.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise CheckFailedError(
            f"the check-in is malformed at {place}: {first['msg']}"[:500], remedy="send what /openapi.json describes"
        ) from error


@dataclass(frozen=True, slots=True)
class CheckInRules:
    """What the operator chose about check-ins."""

    after_s: float
    max_failures: int


class CheckInDesk:
    """Answers check-ins."""

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        presence: Presence,
        queue: DeltaQueue,
        clock: Clock,
        rules: CheckInRules,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._presence = presence
        self._queue = queue
        self._clock = clock
        self._rules = rules
        self._replies = Replies()

    def vehicle_of(self, token: str) -> str:
        """Return the name of the vehicle that holds a token.

        Raises:
            UnauthenticatedError: no vehicle holds it.
        """
        digest = sha256_hex(token.encode())
        with self._database.read() as session:
            row = vehicles.by_token(session, digest)
        if row is None or not hmac.compare_digest(row.token_sha256, digest):
            raise UnauthenticatedError("no vehicle has this token", remedy="enrol the vehicle: `ota-agent enrol`")
        return row.name

    def repeated(self, token: str, body: bytes) -> bytes | None:
        """Return the answer to a vehicle that repeats itself, from memory; None if it must be made."""
        view = self._catalog.peek()
        reply = self._replies.find(token, body, view) if view is not None else None
        if reply is None:
            return None
        self._presence.note(reply.vehicle, self._clock())
        return reply.answer

    def answer(self, token: str, body: bytes) -> bytes:
        """Return the answer to a check-in, as JSON.

        Raises:
            UnauthenticatedError: no vehicle holds the token.
            CheckFailedError: the body is no check-in.
            ForbiddenError: the body speaks for another vehicle.
        """
        vehicle = self.vehicle_of(token)
        parsed = _parsed(body)
        self._replies.forget(token)
        view = self._catalog.view()
        answer = self.check_in(vehicle, parsed).model_dump_json(exclude_none=True).encode()
        if not parsed.events:
            self._replies.keep(token, vehicle, body, view, answer)
        return answer

    def check_in(self, vehicle: str, body: CheckIn) -> Instruction:
        """Keep what a vehicle says and answer what it should run.

        Raises:
            ForbiddenError: the body speaks for another vehicle than the token.
        """
        said = body.vehicle
        if said.vehicle != vehicle:
            raise ForbiddenError(
                f"the token is of vehicle {vehicle}, the check-in of {said.vehicle}",
                remedy="use the token that this vehicle was enrolled with",
            )
        self._presence.note(vehicle, self._clock())
        view = self._catalog.view()
        progress = self._kept_progress(body, view)
        chosen = assign(said, view.rollouts, progress)
        if chosen is not None:
            self._note_assigned(said, chosen, progress, view)
        return Instruction(
            check_in_after_s=self._rules.after_s,
            root_version=view.root_version,
            timestamp_base64=base64.b64encode(view.timestamp.body).decode(),
            assignment=_assignment(said, chosen, view) if chosen is not None else None,
            accepted=tuple(event.id for event in body.events),
        )

    def _kept_progress(self, body: CheckIn, view: View) -> dict[str, Progress]:
        """Keep what is new in the body, if anything is; return the vehicle's progress by rollout."""
        said = body.vehicle
        dumped = said.model_dump(mode="json")
        with self._database.read() as session:
            row = vehicles.get(session, said.vehicle)
            progress = rollouts.progress_of_vehicle(session, said.vehicle)
            if row is not None and row.manifest == dumped and not body.events:
                return progress
        return self._database.change(lambda session: self._keep(session, body, dumped, view))

    def _keep(self, session: Session, body: CheckIn, dumped: dict[str, Any], view: View) -> dict[str, Progress]:
        said = body.vehicle
        row = vehicles.get(session, said.vehicle)
        if row is None:
            raise UnauthenticatedError(f"vehicle {said.vehicle} is gone", remedy="enrol it again")
        row.manifest = dumped
        new = vehicles.add_new_events(session, said.vehicle, body.events, self._clock())
        _note_ledger(row, new)
        _note_confirmed(row, new)
        return self._advance(session, said, new, view)

    def _advance(
        self, session: Session, said: VehicleManifest, new: Sequence[Event], view: View
    ) -> dict[str, Progress]:
        """Move the vehicle's progress by its new events and by what it says; write what moved."""
        before = rollouts.progress_of_vehicle(session, said.vehicle)
        open_rollouts = [r for r in view.rollouts if r.state != "superseded" or r.name in before]
        after = dict(before)
        for rollout in open_rollouts:
            was = before.get(rollout.name, Progress())
            now = advanced(said, rollout, was, new, max_failures=self._rules.max_failures)
            if now != was:
                rollouts.note_progress(session, rollout.name, said.vehicle, now)
                after[rollout.name] = now
        return after

    def _note_assigned(
        self, said: VehicleManifest, chosen: KnownRollout, progress: Mapping[str, Progress], view: View
    ) -> None:
        now = progress.get(chosen.name, Progress())
        missing = _missing_deltas(said, chosen, view)
        if now.state is not VehicleProgress.PENDING and not missing:
            return
        self._database.change(lambda session: self._want(session, said.vehicle, chosen, now, missing))
        if missing:
            self._catalog.stale()
        for task in missing:
            self._queue.put(task)

    def _want(
        self, session: Session, vehicle: str, chosen: KnownRollout, now: Progress, missing: Sequence[DeltaTask]
    ) -> None:
        if now.state is VehicleProgress.PENDING:
            updating = Progress(VehicleProgress.UPDATING, now.failures)
            rollouts.note_progress(session, chosen.name, vehicle, updating)
        for task in missing:
            deltas.want(session, task.base, task.result, self._clock())


def _missing_deltas(said: VehicleManifest, chosen: KnownRollout, view: View) -> list[DeltaTask]:
    """Return the deltas from this vehicle's base that nobody asked for before: it came late, with a base of its own."""
    release = view.release(chosen.model, chosen.release)
    base = wanted_base(said, view.releases, chosen.model)
    if release is None or base is None:
        return []
    return [
        DeltaTask(start, end, attempt=1)
        for start, end in wanted_deltas(base, release)
        if (start, end) not in view.pairs
    ]


def _assignment(said: VehicleManifest, chosen: KnownRollout, view: View) -> Assignment | None:
    release = view.release(chosen.model, chosen.release)
    if release is None:
        return None
    held = frozenset(said.bases)
    return Assignment(
        rollout=chosen.name,
        model=release.model,
        release=release.release,
        release_counter=release.release_counter,
        artifact=file_offer(release.artifact_target, release.artifact, view.graph, held),
        manifest=file_offer(release.manifest_target, release.manifest, view.graph, held),
    )


def _note_confirmed(row: VehicleRow, new: Iterable[Event]) -> None:
    for event in new:
        if event.kind is not EventKind.CONFIRMED or event.model is None or event.release is None:
            continue
        if (row.confirmed_model, row.confirmed_release) != (event.model, event.release):
            row.updates += 1
        row.confirmed_model, row.confirmed_release = event.model, event.release


def _note_ledger(row: VehicleRow, new: Iterable[Event]) -> None:
    """Keep the newest figures of the ledger, which count from enrolment on: a late older report changes nothing."""
    for event in new:
        sent, received = event.figures.get("sent"), event.figures.get("received")
        if event.kind is EventKind.BYTES and _is_count(sent) and _is_count(received):
            row.sent_bytes, row.received_bytes = max(row.sent_bytes, sent), max(row.received_bytes, received)


def _is_count(figure: JsonValue) -> TypeGuard[int]:
    return isinstance(figure, int) and not isinstance(figure, bool) and 0 <= figure < 1 << 62
