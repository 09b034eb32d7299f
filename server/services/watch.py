"""Owns the use case of telling whether the registry can do its work."""

from __future__ import annotations

from ota_protocol.errors import OtaError, StorageError
from server.services.clock import Clock
from server.store import deltas, metadata, vehicles
from server.store.blobs import Blobs
from server.store.database import Database


class Watch:
    """Looks at the parts that the registry cannot work without."""

    def __init__(self, database: Database, blobs: Blobs, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
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
        for role, left_s in self.metadata_left_s().items():
            if left_s <= 0:
                raise StorageError(f"the TUF {role} expired, so vehicles refuse the repository", remedy=_remedy(role))

    def metadata_left_s(self) -> dict[str, float]:
        """Return the seconds until each role's TUF metadata expires; negative where it did."""
        now = self._clock()
        with self._database.read() as session:
            return {role: (at - now).total_seconds() for role, at in metadata.expiries(session).items()}

    def deltas(self) -> dict[str, int]:
        """Return how many deltas stand where."""
        with self._database.read() as session:
            return deltas.count_by_state(session)

    def vehicles(self) -> int:
        """Return how many vehicles are enrolled."""
        with self._database.read() as session:
            return vehicles.count(session)


def _remedy(role: str) -> str:
    if role in {"root", "targets"}:
        return f"sign the next {role} with its offline key; a publication renews targets"
    return "see in the log why it is not signed anew; check keys/online and the clock"
