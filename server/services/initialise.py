"""Owns the use case of `init`: schema, keys, first metadata and tokens. A second time it changes nothing.

The order is the promise: keys reach the disk before metadata names them, and metadata is one transaction, so a crash at
any moment leaves something that the next `init` completes. Keys are never made for a database that has metadata.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from ota_protocol.digest import sha256_hex
from ota_protocol.errors import RequestError, StorageError
from server.repository.keys import load_online, make_keys, write_secret
from server.repository.roles import first_files
from server.services.clock import Clock
from server.services.metadata import load, load_for_change, save
from server.store import metadata, schema, tokens
from server.store.database import Database

TOKEN_KINDS = ("operator", "enrolment")


def initialise(database: Database, keys: Path, clock: Clock) -> None:
    """Bring a registry into being, or up to date.

    Args:
        database: the database, possibly empty.
        keys: folder for `offline/*.pem`, `online/*.pem`, `operator.token`, `enrolment.token` and `root.json`.
        clock: the time that the first metadata counts from.

    Raises:
        RequestError: a key file is missing, or belongs to another registry.
        StorageError: a folder cannot be written.
    """
    schema.upgrade(database)
    with database.read() as session:
        begun = metadata.newest(session, "root") is not None
    if begun:
        _require_own_keys(database, keys)
    else:
        _begin(database, keys, clock)
    _write_root(database, keys / "root.json")
    for kind in TOKEN_KINDS:
        _keep_token(database, kind, keys / f"{kind}.token")


def _begin(database: Database, keys: Path, clock: Clock) -> None:
    offline, online = make_keys(keys)
    with database.write() as session:
        save(session, first_files(offline, online, clock()))


def _require_own_keys(database: Database, keys: Path) -> None:
    online = load_online(keys)
    with database.read() as session:
        load(session).require_keys(online)


def _write_root(database: Database, file: Path) -> None:
    with database.write() as session:
        load_for_change(session)
        root = metadata.newest(session, "root")
    if root is None:
        raise StorageError("the registry has no root metadata", remedy="restore the database from your backup")
    if not file.exists() or file.read_bytes() != root.body:
        write_secret(file, root.body)
        file.chmod(0o644)


def _keep_token(database: Database, kind: str, file: Path) -> None:
    if not file.exists():
        write_secret(file, secrets.token_urlsafe(32).encode() + b"\n")
    try:
        token = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {file}", remedy="delete it and run init again for a new token") from error
    if len(token) < 32:
        raise RequestError(f"{file} holds no token", remedy="delete it and run init again for a new token")
    with database.write() as session:
        tokens.keep(session, kind, sha256_hex(token.encode()))
