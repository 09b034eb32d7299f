"""Owns the use case of counting what was saved: bytes really moved against fp32 networks sent instead."""

from __future__ import annotations

from collections.abc import Iterable

from ota_protocol.reference import FP32_BYTES
from ota_protocol.wire import FleetSavings, Saving
from server.store import vehicles
from server.store.database import Database


class SavingsDesk:
    """Counts savings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def show(self) -> FleetSavings:
        """Return the bytes of each vehicle and of the fleet, and what each larger network would have cost."""
        with self._database.read() as session:
            rows = vehicles.every(session)
        figures = {row.name: (row.updates, row.sent_bytes, row.received_bytes) for row in rows}
        each = {name: _saving([figure]) for name, figure in figures.items()}
        return FleetSavings(fleet=_saving(figures.values()), vehicles=each)


def _saving(figures: Iterable[tuple[int, int, int]]) -> Saving:
    rows = list(figures)
    updates, sent, received = (sum(column) for column in zip(*rows, strict=True)) if rows else (0, 0, 0)
    return Saving(
        updates=updates,
        received_bytes=received,
        sent_bytes=sent,
        saved_bytes={name: updates * length - sent - received for name, length in FP32_BYTES.items()},
    )
