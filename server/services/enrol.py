"""Owns the use case of enrolling vehicles, and of showing them."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from ota_protocol.wire import Enrolment, Vehicle
from server.domain.refusals import ConflictError, NotFoundError
from server.services.clock import Clock
from server.services.presence import Presence
from server.store import vehicles
from server.store.database import Database
from server.store.tables import VehicleRow


class Registrar:
    """Enrols vehicles."""

    def __init__(self, database: Database, presence: Presence, clock: Clock) -> None:
        self._database = database
        self._presence = presence
        self._clock = clock

    def enrol(self, name: str, enrolment: Enrolment) -> tuple[Vehicle, bool]:
        """Enrol a vehicle; tell also whether it is new. A second time with the same token changes nothing.

        Raises:
            ConflictError: the name is enrolled with another token, or the token belongs to another vehicle.
        """
        row, is_new = self._database.change(lambda session: self._add(session, name, enrolment))
        return shown(row, self._presence.pending()), is_new

    def _add(self, session: Session, name: str, enrolment: Enrolment) -> tuple[VehicleRow, bool]:
        row = vehicles.get(session, name)
        if row is not None:
            _require_same(row, enrolment)
            return row, False
        if vehicles.by_token(session, enrolment.token_sha256) is not None:
            raise ConflictError("this token belongs to another vehicle", remedy="make a token on each vehicle")
        row = VehicleRow(name=name, token_sha256=enrolment.token_sha256, enrolled_at=self._clock())
        session.add(row)
        return row, True

    def show(self, name: str) -> Vehicle:
        """Return one vehicle.

        Raises:
            NotFoundError: it is not enrolled.
        """
        with self._database.read() as session:
            row = vehicles.get(session, name)
        if row is None:
            raise NotFoundError(f"vehicle {name} is not enrolled", remedy="run `ota-agent enrol` on it")
        return shown(row, self._presence.pending())

    def show_all(self) -> list[Vehicle]:
        """Return all vehicles by name."""
        with self._database.read() as session:
            rows = vehicles.every(session)
        pending = self._presence.pending()
        return [shown(row, pending) for row in rows]


def shown(row: VehicleRow, pending: Mapping[str, datetime]) -> Vehicle:
    """Return a vehicle as the API shows it."""
    return Vehicle(
        vehicle=row.name,
        enrolled_at=row.enrolled_at,
        last_seen_at=pending.get(row.name, row.last_seen_at),
        manifest=vehicles.manifest(row),
        confirmed=row.confirmed_release,
    )


def _require_same(row: VehicleRow, enrolment: Enrolment) -> None:
    if not hmac.compare_digest(row.token_sha256, enrolment.token_sha256):
        raise ConflictError(
            f"vehicle {row.name} is enrolled with another token",
            remedy="enrol it under another name, or give it back its state folder",
        )
