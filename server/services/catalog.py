"""Owns what check-ins read: releases, rollouts, deltas and the timestamp, kept in memory between changes.

A change made in this process shows at once (`stale`), a change made by another replica after `MAX_AGE_S`. An
instruction may be that old: it is a level, and the next check-in heals it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from sqlalchemy.orm import Session

from ota_protocol.digest import DigestHex
from ota_protocol.errors import StorageError
from server.domain.release import KnownRelease
from server.domain.rollout import KnownRollout
from server.domain.signed_file import SignedFile
from server.domain.transfers import DeltaGraph
from server.store import deltas, metadata, releases, rollouts
from server.store.database import Database

MAX_AGE_S = 2.0


@dataclass(frozen=True, slots=True)
class View:
    """One consistent state of what is offered."""

    releases: tuple[KnownRelease, ...]
    rollouts: tuple[KnownRollout, ...]
    """Newest first."""
    graph: DeltaGraph
    pairs: frozenset[tuple[DigestHex, DigestHex]]
    """(base, result) of each delta that was ever wanted."""
    timestamp: SignedFile
    root_version: int

    def release(self, model: str, release: str) -> KnownRelease | None:
        """Return one release."""
        return next((r for r in self.releases if (r.model, r.release) == (model, release)), None)


class Catalog:
    """The current view; safe for many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._view: View | None = None
        self._read_at_s = 0.0
        self._is_current = False
        self._generation = 0

    def stale(self) -> None:
        """Say that something changed: the next look reads it."""
        with self._lock:
            self._generation += 1
            self._is_current = False

    def peek(self) -> View | None:
        """Return the view if it is at hand and recent; never waits."""
        with self._lock:
            is_recent = self._is_current and time.monotonic() - self._read_at_s < MAX_AGE_S
            return self._view if is_recent else None

    def view(self) -> View:
        """Return a state that is at most `MAX_AGE_S` old, and never older than a change made here.

        While nothing changes, it is the same object.

        Raises:
            StorageError: the database failed, or the repository was not initialised.
        """
        view = self.peek()
        if view is not None:
            return view
        generation, read_at_s = self._generation, time.monotonic()
        with self._database.read() as session:
            view = _read(session)
        with self._lock:
            if self._view is not None and self._view == view:
                view = self._view
            if self._generation == generation:
                self._view, self._read_at_s, self._is_current = view, read_at_s, True
        return view


def _read(session: Session) -> View:
    timestamp, root = metadata.newest(session, "timestamp"), metadata.newest(session, "root")
    if timestamp is None or root is None:
        raise StorageError("the registry has no TUF metadata", remedy="run `ota-server init`")
    return View(
        releases=releases.every(session),
        rollouts=rollouts.every(session),
        graph=DeltaGraph(deltas.offers(session)),
        pairs=deltas.known_pairs(session),
        timestamp=timestamp,
        root_version=root.version,
    )
