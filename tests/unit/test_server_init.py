"""`ota-server init`: made once, completed after a crash, never made twice."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ota_protocol.errors import RequestError, StorageError
from server.__main__ import cli
from server.app import create_app
from server.repository.keys import OFFLINE_ROLES, ONLINE_ROLES
from server.services.clock import utc_now
from server.services.gate import Gate
from server.services.initialise import initialise
from server.settings import Settings
from server.store import metadata
from server.store.database import Database, database_url


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(database_url(None, tmp_path))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_everything_is_there_and_secret(database: Database, keys: Path) -> None:
    initialise(database, keys, utc_now)
    expected = {f"offline/{role}.pem" for role in OFFLINE_ROLES} | {f"online/{role}.pem" for role in ONLINE_ROLES}
    assert set(contents(keys)) == expected | {"operator.token", "enrolment.token", "root.json"}
    for file in keys.rglob("*"):
        if file.suffix in {".pem", ".token"}:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    root = json.loads((keys / "root.json").read_bytes())["signed"]
    assert root["consistent_snapshot"] is True
    assert set(root["roles"]) == {"root", "targets", "snapshot", "timestamp"}


def test_a_second_time_changes_nothing(database: Database, keys: Path) -> None:
    initialise(database, keys, utc_now)
    before = contents(keys)
    initialise(database, keys, utc_now)
    assert contents(keys) == before


@pytest.mark.parametrize("lost", ["operator.token", "root.json"])
def test_what_a_crash_kept_from_the_disk_is_made_later(database: Database, keys: Path, lost: str) -> None:
    initialise(database, keys, utc_now)
    root = (keys / "root.json").read_bytes()
    (keys / lost).unlink()
    initialise(database, keys, utc_now)
    assert (keys / "root.json").read_bytes() == root
    assert Gate(database).admits((keys / "operator.token").read_text().strip(), "operator")


def test_keys_without_metadata_are_taken_up(database: Database, keys: Path, tmp_path: Path) -> None:
    initialise(database, keys, utc_now)
    before = contents(keys / "online")
    (tmp_path / "other").mkdir()
    initialise(Database(database_url(None, tmp_path / "other")), keys, utc_now)
    assert contents(keys / "online") == before


def test_a_new_token_takes_the_place_of_the_old(database: Database, keys: Path) -> None:
    initialise(database, keys, utc_now)
    old = (keys / "operator.token").read_text().strip()
    (keys / "operator.token").unlink()
    initialise(database, keys, utc_now)
    new = (keys / "operator.token").read_text().strip()
    assert Gate(database).admits(new, "operator")
    assert not Gate(database).admits(old, "operator")


def test_keys_are_never_made_for_metadata_that_is_there(database: Database, keys: Path, tmp_path: Path) -> None:
    initialise(database, keys, utc_now)
    with pytest.raises(RequestError, match="from your backup"):
        initialise(database, tmp_path / "elsewhere", utc_now)
    assert not (tmp_path / "elsewhere").exists()


def test_keys_of_another_registry_are_refused(database: Database, keys: Path, tmp_path: Path) -> None:
    initialise(database, keys, utc_now)
    (tmp_path / "other").mkdir()
    initialise(Database(database_url(None, tmp_path / "other")), tmp_path / "other-keys", utc_now)
    with pytest.raises(StorageError, match="not the one that this registry's metadata names"):
        initialise(database, tmp_path / "other-keys", utc_now)
    with pytest.raises(StorageError, match="give the --keys folder"):
        create_app(Settings(data=tmp_path, keys=tmp_path / "other-keys"))


def test_offline_keys_may_be_taken_away(database: Database, keys: Path, tmp_path: Path) -> None:
    initialise(database, keys, utc_now)
    for role in OFFLINE_ROLES:
        (keys / "offline" / f"{role}.pem").unlink()
    initialise(database, keys, utc_now)
    assert create_app(Settings(data=tmp_path, keys=keys))
    assert not (keys / "offline" / "root.pem").exists()


@pytest.mark.parametrize("content", [b"", b"no pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_broken_key_file_is_named(database: Database, keys: Path, tmp_path: Path, content: bytes) -> None:
    initialise(database, keys, utc_now)
    (keys / "online" / "snapshot.pem").write_bytes(content)
    with pytest.raises(RequestError, match=r"snapshot\.pem"):
        create_app(Settings(data=tmp_path, keys=keys))


def test_a_broken_token_file_is_named(database: Database, keys: Path) -> None:
    initialise(database, keys, utc_now)
    (keys / "operator.token").write_text("short")
    with pytest.raises(RequestError, match="delete it and run init again"):
        initialise(database, keys, utc_now)


def test_the_first_metadata_is_there(database: Database, keys: Path) -> None:
    initialise(database, keys, utc_now)
    with database.read() as session:
        for role in ("root", "targets", "deltas", "snapshot", "timestamp"):
            file = metadata.newest(session, role)
            assert file is not None
            assert file.version == 1
            assert file.expires_at > utc_now()


def test_the_command_line(tmp_path: Path) -> None:
    options = ["--data", str(tmp_path / "data"), "--keys", str(tmp_path / "keys")]
    done = CliRunner().invoke(cli, ["init", *options])
    assert done.exit_code == 0, done.output
    assert "root.json" in done.output
    done = CliRunner().invoke(cli, ["init"], env={"SQUEEZEOTA_DATA": options[1], "SQUEEZEOTA_KEYS": options[3]})
    assert done.exit_code == 0, done.output
