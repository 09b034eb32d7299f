"""Owns the queries for vehicles, their events and their ledgers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from ota_protocol.manifest import VehicleManifest
from ota_protocol.wire import Event, EventKind
from server.store.tables import EventRow, LedgerRow, VehicleRow


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
        session.execute(update(VehicleRow), [{"name": name, "last_seen_at": at} for name, at in seen.items()])


def add_new_events(session: Session, vehicle: str, events: Iterable[Event], now: datetime) -> list[Event]:
    """Keep the events that were not kept before, and return them."""
    by_id = {str(event.id): event for event in events}
    known = set(session.scalars(select(EventRow.id).where(EventRow.vehicle == vehicle, EventRow.id.in_(by_id))))
    new = {key: event for key, event in by_id.items() if key not in known}
    session.add_all(_event_row(vehicle, key, event, now) for key, event in new.items())
    return list(new.values())


def has_event(session: Session, vehicle: str, kind: EventKind, model: str, release: str) -> bool:
    """Tell whether a vehicle ever reported such an event about a release."""
    query = select(EventRow.id).where(
        EventRow.vehicle == vehicle, EventRow.kind == kind, EventRow.model == model, EventRow.release == release
    )
    return session.scalars(query.limit(1)).first() is not None


def note_ledger(session: Session, vehicle: str, period_start: str, sent_bytes: int, received_bytes: int) -> None:
    """Keep the newest cumulative figures of one period; a late older report changes nothing."""
    row = session.get(LedgerRow, (vehicle, period_start))
    if row is None:
        session.add(
            LedgerRow(vehicle=vehicle, period_start=period_start, sent_bytes=sent_bytes, received_bytes=received_bytes)
        )
        session.flush()
        return
    row.sent_bytes = max(row.sent_bytes, sent_bytes)
    row.received_bytes = max(row.received_bytes, received_bytes)


def ledger_totals(session: Session) -> dict[str, tuple[int, int]]:
    """Return (sent, received) bytes by vehicle, over all periods."""
    query = select(LedgerRow.vehicle, func.sum(LedgerRow.sent_bytes), func.sum(LedgerRow.received_bytes))
    return {
        name: (int(sent), int(received)) for name, sent, received in session.execute(query.group_by(LedgerRow.vehicle))
    }


def _event_row(vehicle: str, key: str, event: Event, now: datetime) -> EventRow:
    return EventRow(
        vehicle=vehicle,
        id=key,
        kind=event.kind.value,
        at=event.at,
        received_at=now,
        model=event.model,
        release=event.release,
        detail=event.detail,
        figures=dict(event.figures),
    )
