"""Owns the engine and the two kinds of session: reading, and writing in one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from ota_protocol.errors import DiskFullError, RequestError, StorageError
from server.domain.refusals import CheckFailedError, ConflictError

BUSY_TIMEOUT_S = 15
"""How long a writer waits for another process's write before it gives up."""

POOL_SIZE = 32
"""Connections kept; as many again are opened and closed on a rush. Requests run in 40 threads, each with one or two."""

CHANGE_ATTEMPTS = 3
"""On one machine the first attempt holds; a second replica can be in the way once, hardly twice."""

URL_REMEDY = "give a sqlite: or postgresql: URL, or none"

T = TypeVar("T")

_WRITES = "registry_writes"


def database_url(configured: str | None, data: Path) -> URL:
    """Return the URL of the database: the one configured, or a SQLite file in the data folder.

    Raises:
        RequestError: the URL is not one of SQLite or PostgreSQL.
    """
    if configured is None:
        return URL.create("sqlite", database=str(data / "registry.sqlite"))
    try:
        url = make_url(configured)
    except (ArgumentError, ValueError):
        # Neither the text nor the cause is shown: a URL carries a password.
        raise RequestError("the database URL cannot be read", remedy=URL_REMEDY) from None
    if url.get_backend_name() == "sqlite":
        return url
    if url.get_backend_name() in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+psycopg")
    raise RequestError(f"the database URL names {url.get_backend_name()!r}", remedy=URL_REMEDY)


class Database:
    """The registry's rows.

    On SQLite a write begins as `BEGIN IMMEDIATE`, so that two writers wait for each other instead of failing half-way,
    and each commit is synced to the disk before it is acknowledged.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self._writer = threading.RLock()
        if url.get_backend_name() == "sqlite":
            options = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
            self.engine = create_engine(url, connect_args=options, pool_size=POOL_SIZE, max_overflow=POOL_SIZE)
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = create_engine(url, pool_pre_ping=True, pool_size=POOL_SIZE, max_overflow=POOL_SIZE)
        self._writing: Engine = self.engine.execution_options(**{_WRITES: True})

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session that sees one consistent state.

        Raises:
            StorageError: the database does not answer.
        """
        with mapped_errors(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session whose changes are committed together at the end, or not at all.

        Writers of this process take turns; a re-entrant call gets a session of its own and must not nest.

        Raises:
            DiskFullError: there is no room for the change.
            StorageError: the database does not answer.
        """
        with self._writer, mapped_errors(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def change(self, work: Callable[[Session], T]) -> T:
        """Do `work` in one transaction, and once more where another replica made the same rows meanwhile.

        Raises:
            ConflictError: it happened again and again.
            StorageError: as `write`.
        """
        for _ in range(CHANGE_ATTEMPTS):
            with suppress(IntegrityError), self.write() as session:
                return work(session)
        raise ConflictError("somebody else is changing the same thing", remedy="try again")

    def ping(self) -> None:
        """Ask the database for an answer.

        Raises:
            StorageError: it gives none.
        """
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn the driver's failures into ours. Integrity errors pass, as answers; programming errors pass, as our bugs."""
    try:
        yield
    except (IntegrityError, ProgrammingError):
        raise
    except PoolTimeoutError as error:
        raise StorageError("the database is too busy", remedy="try again") from error
    except (DataError, OverflowError) as error:
        raise CheckFailedError(
            f"a value cannot be kept: {str(error)[:120]}", remedy="send plain text and numbers of 63 bits"
        ) from error
    except DBAPIError as error:
        said = str(error.orig)
        if "disk is full" in said or "No space left" in said:
            raise DiskFullError("no room for the database", remedy="free space on the registry's disk") from error
        raise StorageError(f"the database failed: {said[:200]}", remedy="see that it runs and can be used") from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the "begin" listener says when and how
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
