"""Owns what must survive: the saved state, the update under way, the outbox of events, refusals, and past updates.

One SQLite file with `synchronous=FULL`: a state and the events of its transition are saved in one transaction, so an
event is reported once however often its step ran. A file that cannot be read is set aside and a new one begun: the
slots say what is installed, and the registry says again what should be.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from edge_client.machine import State
from edge_client.update import Update, UpdateRecord
from ota_protocol.errors import DiskFullError, StorageError
from ota_protocol.wire import Event

MAX_OUTBOX: Final = 1_000
"""Events kept while the registry is out of reach; some 300 kB. Beyond it the oldest are dropped."""
MAX_HISTORY: Final = 200
MAX_REFUSALS: Final = 200
MAX_REST_S: Final = 7 * 86_400.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS saved (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL, record TEXT);
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS history (seq INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS refusal (key TEXT PRIMARY KEY, until_s REAL, times INTEGER NOT NULL);
"""

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Saved:
    """The state and the update it belongs to; no update in `idle`."""

    state: State = State.IDLE
    update: Update | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A release that was given up."""

    key: str
    until_s: float | None
    """Unix time at which it may be tried again; None means never."""
    times: int = 1

    def holds(self, now_s: float) -> bool:
        """Whether it is not to be tried now; a rest that ends too far ahead was set by a clock that was wrong."""
        return self.until_s is None or now_s < self.until_s <= now_s + MAX_REST_S


class Journal:
    """The durable memory of the agent. Used by one thread.

    Args:
        path: the SQLite file; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = _open(path)

    def load(self) -> Saved:
        """Return what was saved last; an update that no longer parses (another agent version wrote it) is dropped."""
        with _database_errors("read the journal"):
            row = self._db.execute("SELECT state, record FROM saved").fetchone()
        try:
            return Saved(State(row[0]), Update.model_validate_json(row[1]) if row[1] else None) if row else Saved()
        except (ValidationError, ValueError):
            _log.warning("the saved update is not readable and is forgotten; the registry will assign it again")
            return Saved()

    def save(
        self,
        saved: Saved,
        *,
        events: Iterable[Event] = (),
        record: UpdateRecord | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        """Save a state with all that its transition brought, all or nothing.

        Raises:
            DiskFullError, StorageError: nothing was saved.
        """
        with _database_errors("save the state"), self._db:
            body = saved.update.model_dump_json() if saved.update else None
            self._db.execute("REPLACE INTO saved VALUES (1, ?, ?)", (saved.state.value, body))
            self._append(events)
            if record is not None:
                self._db.execute("INSERT INTO history (body) VALUES (?)", (record.model_dump_json(),))
                self._db.execute("DELETE FROM history WHERE seq <= (SELECT max(seq) FROM history) - ?", (MAX_HISTORY,))
            if refusal is not None:
                self._refuse(refusal)

    def append(self, events: Iterable[Event], *, refusal: Refusal | None = None) -> None:
        """Put events into the outbox without a change of state; `refusal` counts that it was reported again."""
        with _database_errors("save an event"), self._db:
            self._append(events)
            if refusal is not None:
                self._refuse(refusal)

    def outbox(self, limit: int) -> tuple[Event, ...]:
        """Return the oldest events that the registry has not accepted yet; those that no longer parse are dropped."""
        with _database_errors("read the outbox"):
            rows = self._db.execute("SELECT seq, body FROM outbox ORDER BY seq LIMIT ?", (limit,)).fetchall()
        events = {seq: _parsed(Event, body) for seq, body in rows}
        unreadable = [(seq,) for seq, event in events.items() if event is None]
        if unreadable:
            # They would hold up every check-in for ever.
            _log.warning("%d events are not readable and are forgotten", len(unreadable))
            with _database_errors("clear the outbox"), self._db:
                self._db.executemany("DELETE FROM outbox WHERE seq = ?", unreadable)
        return tuple(event for event in events.values() if event is not None)

    def waiting(self) -> int:
        """Return how many events are in the outbox."""
        with _database_errors("read the outbox"):
            return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def drop(self, accepted: Sequence[UUID]) -> None:
        """Forget events that the registry holds."""
        if accepted:
            with _database_errors("clear the outbox"), self._db:
                self._db.executemany("DELETE FROM outbox WHERE id = ?", [(str(each),) for each in accepted])

    def refusal(self, key: str) -> Refusal | None:
        """Return what is remembered of a release that was given up."""
        with _database_errors("read the refusals"):
            row = self._db.execute("SELECT until_s, times FROM refusal WHERE key = ?", (key,)).fetchone()
        return Refusal(key, row[0], row[1]) if row else None

    def history(self) -> tuple[UpdateRecord, ...]:
        """Return past updates, oldest first; those that no longer parse are left out."""
        with _database_errors("read the history"):
            rows = self._db.execute("SELECT body FROM history ORDER BY seq").fetchall()
        records = (_parsed(UpdateRecord, body) for (body,) in rows)
        return tuple(record for record in records if record is not None)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _append(self, events: Iterable[Event]) -> None:
        rows = [(str(event.id), event.model_dump_json()) for event in events]
        if rows:
            self._db.executemany("INSERT OR IGNORE INTO outbox (id, body) VALUES (?, ?)", rows)
            self._db.execute("DELETE FROM outbox WHERE seq <= (SELECT max(seq) FROM outbox) - ?", (MAX_OUTBOX,))

    def _refuse(self, refusal: Refusal) -> None:
        self._db.execute(
            "INSERT INTO refusal VALUES (?, ?, 1)"
            " ON CONFLICT (key) DO UPDATE SET until_s = excluded.until_s, times = times + 1",
            (refusal.key, refusal.until_s),
        )
        self._db.execute("DELETE FROM refusal WHERE rowid <= (SELECT max(rowid) FROM refusal) - ?", (MAX_REFUSALS,))


def _parsed(kind: type[T], body: str) -> T | None:
    """Return what a row says, or None where another version of the agent wrote what this one does not know."""
    try:
        return kind.model_validate_json(body)
    except ValidationError:
        return None


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise _mapped(error, "open the journal") from error
        broken = path.with_name(path.name + ".broken")
        _log.warning("the journal is damaged (%s); it is kept as %s and a new one is begun", error, broken.name)
        with contextlib.suppress(FileNotFoundError):
            path.replace(broken)
        for suffix in ("-journal", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=5.0)
    try:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA synchronous = FULL")
        if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("its pages do not fit together")
        database.executescript(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database


@contextlib.contextmanager
def _database_errors(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _mapped(error, what) from error


def _mapped(error: sqlite3.Error, what: str) -> StorageError:
    kind: Literal["full", "other"] = "full" if "full" in str(error) else "other"
    if kind == "full":
        return DiskFullError(
            f"no room on the disk to {what}", remedy="free some space; the agent tries again by itself"
        )
    return StorageError(f"cannot {what}: {error}", remedy="check the disk and the owner of the state folder")
