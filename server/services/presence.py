"""Owns when vehicles were last seen: kept in memory, written in batches, so that a check-in writes no row."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime

from server.store import vehicles
from server.store.database import Database


class Presence:
    """Times not yet written, by vehicle."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._pending: dict[str, datetime] = {}

    def note(self, vehicle: str, at: datetime) -> None:
        """Note that a vehicle was seen."""
        with self._lock:
            self._pending[vehicle] = at

    def pending(self) -> Mapping[str, datetime]:
        """Return what is not written yet."""
        with self._lock:
            return dict(self._pending)

    def flush(self) -> int:
        """Write what is pending, in one statement; return how many vehicles that were.

        Raises:
            StorageError: the database failed; the times stay pending.
        """
        seen = self.pending()
        if not seen:
            return 0
        with self._database.write() as session:
            vehicles.note_seen(session, seen)
        with self._lock:
            for name, at in seen.items():
                if self._pending.get(name) == at:
                    del self._pending[name]
        return len(seen)
