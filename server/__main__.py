"""`ota-server`: init, serve, openapi. The rim: options and environment in, one line of error and an exit code out."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from pydantic import ValidationError

from ota_protocol.errors import OtaError, RequestError, StorageError
from server.app import api, create_app
from server.description import description_text
from server.services.clock import utc_now
from server.services.initialise import initialise
from server.settings import Settings
from server.store import database as store

cli = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Data = Annotated[Path, typer.Option(envvar="SQUEEZEOTA_DATA", help="Folder of the database and the blobs.")]
Keys = Annotated[Path, typer.Option(envvar="SQUEEZEOTA_KEYS", help="Folder of the keys and tokens.")]
DatabaseUrl = Annotated[
    str | None, typer.Option(envvar="SQUEEZEOTA_DATABASE_URL", help="postgresql: URL, in place of SQLite in --data.")
]
BlobsUrl = Annotated[
    str | None, typer.Option(envvar="SQUEEZEOTA_BLOBS_URL", help="s3:, gs: or az: URL, in place of a folder in --data.")
]


@cli.command()
def init(data: Data, keys: Keys, database_url: DatabaseUrl = None) -> None:
    """Make the database, the keys, the first TUF metadata and the tokens; a second time changes nothing."""
    settings = _settings(data=data, keys=keys, database_url=database_url)
    database = _open(settings)
    try:
        initialise(database, settings.keys, utc_now)
    finally:
        database.close()
    typer.echo(f"registry in {data} is ready; pin {keys / 'root.json'} on the vehicles, keep {keys / 'offline'} away")


@cli.command()
def serve(  # noqa: PLR0917 typer's options
    data: Data,
    keys: Keys,
    host: Annotated[str, typer.Option(envvar="SQUEEZEOTA_HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="SQUEEZEOTA_PORT")] = 8080,
    database_url: DatabaseUrl = None,
    blobs_url: BlobsUrl = None,
    access_log: Annotated[bool, typer.Option(help="One line a request.")] = False,
) -> None:
    """Serve the registry until SIGTERM or SIGINT; needs the online keys alone."""
    settings = _settings(data=data, keys=keys, host=host, port=port, database_url=database_url, blobs_url=blobs_url)
    _require_free(settings.host, settings.port)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=access_log,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=settings.stop_timeout_s,
    )


@cli.command()
def openapi(out: Annotated[Path | None, typer.Option(help="File to write; stdout without it.")] = None) -> None:
    """Print the OpenAPI description of the HTTP API."""
    text = description_text(api())
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror}", remedy="give another --out") from error


def _require_free(host: str, port: int) -> None:
    """See that the address can be had, so that a mistake ends as one line before any work begins."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise RequestError(
            f"cannot listen at {host} port {port}: {error.strerror or error}",
            remedy="stop what listens there, or give another --host or --port",
        ) from error


def _settings(**given: Any) -> Settings:
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}", remedy="see `ota-server serve --help`"
        ) from error


def _open(settings: Settings) -> store.Database:
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make {settings.data}: {error.strerror}", remedy="give another --data") from error
    return store.Database(store.database_url(settings.database_url, settings.data))


def main() -> None:
    """Run the command line; every error of ours ends as one line and its exit code."""
    try:
        cli()
    except OtaError as error:
        typer.echo(f"ota-server: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
