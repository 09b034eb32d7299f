"""Owns the use case of changing TUF metadata: load the current set, add what follows from a change, keep it fresh.

A change is one transaction of `Database.write`: writers of this process take turns there, writers of others are held
off by the database (SQLite's one writer, PostgreSQL's advisory lock), and the key (role, version) is the last guard.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.orm import Session

from server.domain.signed_file import SignedFile
from server.repository.keys import OnlineKeys
from server.repository.metadata_set import ROLES, MetadataSet, refreshed
from server.services.clock import Clock
from server.store import metadata
from server.store.database import Database

KEPT_VERSIONS = {"timestamp": 4, "snapshot": 64, "deltas": 64}
"""Versions that stay for vehicles in mid-refresh; root and targets are kept for ever, since a person signed them."""

EDIT_LOCK = 0x5EA2
"""Any number will do, as long as all replicas agree."""


def load_for_change(session: Session) -> MetadataSet:
    """Return the current set and hold off other writers until the transaction ends.

    Raises:
        StorageError: the repository was not initialised.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": EDIT_LOCK})
    return load(session)


def load(session: Session) -> MetadataSet:
    """Return the current set."""
    newest = {role: metadata.newest(session, role) for role in ROLES}
    return MetadataSet.parse({role: file for role, file in newest.items() if file is not None})


def save(session: Session, files: Iterable[SignedFile]) -> None:
    """Add new versions, and drop those that nobody can be reading any more."""
    added = list(files)
    metadata.add(session, added)
    for role in {file.role for file in added} & set(KEPT_VERSIONS):
        metadata.forget_older(session, role, KEPT_VERSIONS[role])


class Resigner:
    """Keeps the online metadata fresh."""

    def __init__(self, database: Database, keys: OnlineKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def refresh(self) -> bool:
        """Sign anew what is due; tell whether anything was.

        Raises:
            StorageError: the database failed, or the keys are of another repository.
        """
        with self._database.write() as session:
            current = load_for_change(session)
            current.require_keys(self._keys)
            files = refreshed(current, self._keys, self._clock())
            save(session, files)
        return bool(files)
