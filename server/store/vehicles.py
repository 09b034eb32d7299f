"""Owns the queries for vehicles and their events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from ota_protocol.manifest import VehicleManifest
from ota_protocol.wire import Event
from server.store.tables import EventRow, VehicleRow


def get(session: Session, name: str) -> VehicleRow | None:
    """Return one vehicle, live in this session."""
    return session.get(VehicleRow, name)


def by_token(session: Session, token_sha256: str) -> VehicleRow | None:
    """Return the vehicle whose token has this digest."""
    return session.scalars(select(VehicleRow).where(VehicleRow.token_sha256 == token_sha256)).first()


def every(session: Session) -> list[VehicleRow]:
    """Return all vehicles by name."""
    return list(session.scalars(select(VehicleRow).order_by(VehicleRow.name)))


def names(session: Session) -> list[str]:
    """Return the names of all vehicles."""
    return list(session.scalars(select(VehicleRow.name).order_by(VehicleRow.name)))


def count(session: Session) -> int:
    """Return how many vehicles are enrolled."""
    return session.scalar(select(func.count()).select_from(VehicleRow)) or 0


def manifest(row: VehicleRow) -> VehicleManifest | None:
    """Return what a vehicle last said that it runs."""
    return VehicleManifest.model_validate(row.manifest) if row.manifest is not None else None


def note_seen(session: Session, seen: Mapping[str, datetime]) -> None:
    """Write when vehicles were last seen, in one statement for all."""
    if seen:
        session.execute(update(VehicleRow), [{"name": name, "last_seen_at": at} for name, at in sorted(seen.items())])


def add_new_events(session: Session, vehicle: str, events: Iterable[Event], now: datetime) -> list[Event]:
    """Keep the events that were not kept before, and return them."""
    by_id = {str(event.id): event for event in events}
    known = set(session.scalars(select(EventRow.id).where(EventRow.vehicle == vehicle, EventRow.id.in_(by_id))))
    new = {key: event for key, event in by_id.items() if key not in known}
    session.add_all(_event_row(vehicle, key, event, now) for key, event in new.items())
    return list(new.values())


def _event_row(vehicle: str, key: str, event: Event, now: datetime) -> EventRow:
    return EventRow(
        vehicle=vehicle,
        id=key,
        kind=event.kind.value,
        at=_moment(event.at, now),
        received_at=now,
        model=event.model,
        release=event.release,
        detail=event.detail.replace("\0", "\ufffd"),
        figures=_finite(event.figures),
    )


def _finite(figures: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Return the figures with null for what is no number: PostgreSQL's JSON knows no NaN, and events are kept."""
    kept: dict[str, Any] = json.loads(json.dumps(figures), parse_constant=lambda _: None)
    return kept


def _moment(said: datetime, now: datetime) -> datetime:
    """Return what a vehicle's clock said, or our own time where it said something that no calendar has."""
    try:
        return said.astimezone(UTC)
    except (OverflowError, ValueError):
        return now
