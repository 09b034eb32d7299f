"""Taking blobs in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from obstore.store import LocalStore

from ota_protocol.digest import sha256_hex
from ota_protocol.errors import DigestMismatchError, DiskFullError, StorageError
from server.domain.refusals import NotFoundError, TooSlowError
from server.services.uploads import Uploader
from server.services.workspace import Workspace
from server.store.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(LocalStore(prefix=tmp_path / "blobs", mkdir=True))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "incoming")
    made.sweep()
    return made


async def pieces(*data: bytes, pause_s: float = 0) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece
        await asyncio.sleep(pause_s)


def test_pieces_become_one_blob(blobs: Blobs, workspace: Workspace, tmp_path: Path) -> None:
    data = (b"a" * 700_000, b"b" * 700_000, b"c")
    digest = sha256_hex(b"".join(data))
    uploader = Uploader(blobs, workspace, max_bytes=1 << 21)
    assert asyncio.run(uploader.take(digest, pieces(*data))) is True
    assert asyncio.run(uploader.take(digest, pieces(*data))) is False
    assert blobs.read(digest, limit_bytes=1 << 21) == b"".join(data)
    blobs.copy_to(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"".join(data)


def test_a_sender_that_falls_silent_is_let_go(blobs: Blobs, workspace: Workspace, tmp_path: Path) -> None:
    uploader = Uploader(blobs, workspace, max_bytes=100, idle_s=0.05)
    with pytest.raises(TooSlowError):
        asyncio.run(uploader.take(sha256_hex(b"ab"), pieces(b"a", b"b", pause_s=5)))
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_work_file_that_another_server_swept_is_said(blobs: Blobs, workspace: Workspace) -> None:
    async def swept() -> AsyncIterator[bytes]:
        yield b"these"
        workspace.sweep()

    uploader = Uploader(blobs, workspace, max_bytes=100)
    with pytest.raises(StorageError):
        asyncio.run(uploader.take(sha256_hex(b"these"), swept()))


def test_other_bytes_are_not_kept(blobs: Blobs, workspace: Workspace, tmp_path: Path) -> None:
    uploader = Uploader(blobs, workspace, max_bytes=100)
    with pytest.raises(DigestMismatchError):
        asyncio.run(uploader.take(sha256_hex(b"other"), pieces(b"these")))
    assert blobs.length_bytes(sha256_hex(b"these")) is None
    assert list((tmp_path / "incoming").iterdir()) == []


def test_a_blob_that_is_not_there(blobs: Blobs) -> None:
    with pytest.raises(NotFoundError):
        blobs.read("0" * 64, limit_bytes=10)
    with pytest.raises(NotFoundError):
        asyncio.run(blobs.stream("0" * 64, 0, 1))


def test_a_full_device(blobs: Blobs, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    data = b"x" * 10_000
    (tmp_path / "source").write_bytes(data)
    blobs.add(sha256_hex(data), tmp_path / "source")
    with pytest.raises(DiskFullError):
        blobs.copy_to(sha256_hex(data), Path("/dev/full"))
