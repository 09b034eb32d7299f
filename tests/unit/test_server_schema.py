"""Tables and migrations agree, and a server refuses a schema that it was not written for."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from ota_protocol.errors import RequestError, StorageError
from server.app import create_app
from server.repository.keys import make_keys
from server.settings import Settings
from server.store import schema
from server.store.database import Database, database_url
from server.store.tables import Table


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(database_url(None, tmp_path))


def test_migrations_make_the_tables_of_the_code(database: Database) -> None:
    schema.upgrade(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    schema.upgrade(database)
    schema.upgrade(database)
    schema.require_current(database)


def test_an_empty_database_is_refused_with_what_to_run(database: Database) -> None:
    with pytest.raises(RequestError, match="ota-server init"):
        schema.require_current(database)


def test_a_database_of_another_version_is_refused(database: Database) -> None:
    schema.upgrade(database)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RequestError, match="at 9999"):
        schema.require_current(database)


def test_a_server_does_not_start_on_an_empty_database(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys")
    with pytest.raises(RequestError, match="ota-server init"):
        create_app(Settings(data=tmp_path, keys=tmp_path / "keys"))


def test_a_database_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="sqlite: or postgresql:"):
        database_url("mysql://host/name", tmp_path)


def test_a_broken_database_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite").write_bytes(b"this is no database " * 100)
    with pytest.raises(StorageError):
        Database(database_url(None, tmp_path)).ping()
