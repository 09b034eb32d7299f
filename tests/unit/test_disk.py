"""Durable files: old or new, never a mix; errors that say what to do."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from edge_client.disk import Disk, file_digest, storage_errors
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import DiskFullError, StorageError
from tests.support.power_cut_fake import FragileDisk, Power, PowerCutError


@pytest.mark.parametrize("at", range(3))
def test_write_is_old_or_new(tmp_path: Path, at: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(PowerCutError):
        FragileDisk(Power(at)).write(path, b"new")
    assert path.read_bytes() == b"old"
    Disk().write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    (tmp_path / "token.tmp").write_bytes(b"stale, and readable by all")
    Disk().write(tmp_path / "token", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_place_replaces_without_touching_what_was_linked(tmp_path: Path) -> None:
    first, second, target = tmp_path / "first", tmp_path / "second", tmp_path / "target"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    Disk().place(first, target)
    Disk().place(second, target)
    assert (first.read_bytes(), target.read_bytes()) == (b"1", b"2")


def test_removing_nothing_is_fine(tmp_path: Path) -> None:
    Disk().remove(tmp_path / "none")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(number: int) -> None:
    with pytest.raises(DiskFullError, match="free some space"), storage_errors("write x"):
        raise OSError(number, "full")


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES])
def test_other_failures(number: int) -> None:
    with pytest.raises(StorageError, match="check the disk") as caught, storage_errors("write x"):
        raise OSError(number, "no")
    assert not isinstance(caught.value, DiskFullError)


def test_digest_of_a_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(data)
    assert file_digest(tmp_path / "file") == sha256_hex(data)
