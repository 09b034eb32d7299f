"""Owns the use case of telling whether the registry can do its work."""

from __future__ import annotations

from ota_protocol.errors import OtaError, StorageError
from server.services.catalog import Catalog
from server.services.clock import Clock
from server.store import deltas, vehicles
from server.store.blobs import Blobs
from server.store.database import Database


class Watch:
    """Looks at the parts that the registry cannot work without."""

    def __init__(self, database: Database, blobs: Blobs, catalog: Catalog, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._catalog = catalog
        self._clock = clock

    def require_ready(self) -> None:
        """Check database, blobs and metadata.

        Raises:
            StorageError: one of them does not work.
        """
        try:
            self._database.ping()
            self._blobs.ping()
        except OtaError as error:
            raise StorageError(error.message, remedy=error.remedy) from error
        if self.timestamp_left_s() <= 0:
            raise StorageError(
                "the TUF timestamp expired, so vehicles refuse the repository",
                remedy="see in the log why it is not signed anew; check keys/online and the clock",
            )

    def timestamp_left_s(self) -> float:
        """Return the seconds until the TUF timestamp expires; negative if it did."""
        return (self._catalog.view().timestamp.expires_at - self._clock()).total_seconds()

    def deltas(self) -> dict[str, int]:
        """Return how many deltas stand where."""
        with self._database.read() as session:
            return deltas.count_by_state(session)

    def vehicles(self) -> int:
        """Return how many vehicles are enrolled."""
        with self._database.read() as session:
            return vehicles.count(session)
