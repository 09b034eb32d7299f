"""Owns the database schema's version: brings it to the newest, or says that it is not there."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL

from ota_protocol.errors import RequestError
from server.store.database import Database, mapped_errors

INIT_REMEDY = "stop the server and run `ota-server init` with the same --data and --keys"


def migrations_folder() -> Path:
    """Return where the migrations lie: in the installed wheel inside this package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def upgrade(database: Database) -> None:
    """Bring the schema to the newest version; a no-op where it is.

    Raises:
        StorageError: the database does not answer.
    """
    with mapped_errors(), database.engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_file(url: URL) -> None:
    """Check that a SQLite database is there, since SQLite would make an empty one.

    Raises:
        RequestError: there is no such file.
    """
    file = url.database
    if url.get_backend_name() == "sqlite" and file and file != ":memory:" and not Path(file).is_file():
        raise RequestError(f"there is no registry in {file}", remedy=INIT_REMEDY)


def require_current(database: Database) -> None:
    """Check that the schema is the one that this code was written for.

    Raises:
        RequestError: it is older, newer, or not there.
        StorageError: the database does not answer.
    """
    wanted = ScriptDirectory.from_config(_config()).get_current_head()
    with mapped_errors(), database.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found != wanted:
        raise RequestError(
            f"the database schema is at {found or 'nothing'}, this server needs {wanted}",
            remedy=INIT_REMEDY,
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config
