"""The command line of the registry: wrong options end as one line before anything is made or shown."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ota_protocol.errors import RequestError
from server.services.clock import utc_now
from server.services.initialise import initialise
from server.store.blobs import Blobs
from server.store.database import Database, database_url


def refused(*arguments: str) -> str:
    command = [sys.executable, "-m", "server", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in {2, 5}, ended
    assert ended.stderr.startswith("ota-server: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


@pytest.fixture
def begun(tmp_path: Path) -> tuple[str, ...]:
    database = Database(database_url(None, tmp_path))
    initialise(database, tmp_path / "keys", utc_now)
    database.close()
    return "--data", str(tmp_path), "--keys", str(tmp_path / "keys")


def test_an_address_that_is_taken(begun: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "give another --host or --port" in refused("serve", *begun, "--port", str(taken.getsockname()[1]))


def test_a_mistyped_folder_is_not_made(begun: tuple[str, ...], tmp_path: Path) -> None:
    missing = tmp_path / "typo"
    assert "ota-server init" in refused("serve", "--data", str(missing), *begun[2:], "--port", "0")
    assert not missing.exists()


def test_a_description_that_cannot_be_written(tmp_path: Path) -> None:
    assert "--out" in refused("openapi", "--out", str(tmp_path / "missing" / "openapi.json"))


@pytest.mark.parametrize("url", ["nonsense-hunter2", "postgresql://a:hunter2@b:port/c", "mysql://a:hunter2@b/c"])
def test_a_database_url_is_refused_and_its_password_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(RequestError) as caught:
        database_url(url, tmp_path)
    assert "hunter2" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("url", ["junk-hunter2", "ftp://user:hunter2@x/y", "file:///no/such/folder"])
def test_a_blobs_url_is_refused_and_its_key_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(RequestError) as caught:
        Blobs.open(url, tmp_path)
    assert "hunter2" not in str(caught.value)
    assert caught.value.remedy
