"""Owns writes that are whole or not there: temp, fsync, rename, fsync of the folder; nothing is left half-written."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ota_protocol.errors import DiskFullError, OtaError, RequestError, StorageError


def write_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, replacing what was there.

    Raises:
        DiskFullError: there is no room.
        StorageError: the folder does not exist or may not be written to.
    """
    partial = _partial(path)
    with disk_errors(path):
        try:
            _write_durably(partial, data)
            partial.replace(path)
            _sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Put a new folder with `files` at `path`; an empty folder there is taken over, missing ones above are made.

    Raises:
        RequestError: something else is there.
        DiskFullError: there is no room.
        StorageError: the folder above may not be written to.
    """
    require_free(path)
    partial = _partial(path)
    with disk_errors(path):
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir()
            for name, data in files.items():
                _write_durably(partial / name, data)
            _sync_folder(partial)
            partial.rename(path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def require_free(path: Path) -> None:
    """Check early that a folder can be made at `path`.

    Raises:
        RequestError: something is there already.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise RequestError(f"{path} exists already", remedy="remove it, or give another --out")


def _partial(path: Path) -> Path:
    return path.absolute().parent / f".{path.name}.{secrets.token_hex(4)}.partial"


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Map what the operating system says of `path` into the error tree.

    Raises:
        DiskFullError: there is no room.
        StorageError: the disk refused otherwise.
    """
    try:
        yield
    except OtaError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"no room to write {path}", remedy="free some space and run it again") from error
        raise StorageError(f"cannot write {path}: {error.strerror}", remedy="check the folder's permissions") from error
