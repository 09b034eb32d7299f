"""Owns durable changes to our own disk: temp, fsync, replace, fsync of the folder. Knows no file's meaning.

`Disk.about_to` is called before each change that a power cut could interrupt; it is the seam for fault injection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ota_protocol.digest import DigestHex, sha256_hex
from ota_protocol.errors import DiskFullError, StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Map an OSError of our own disk into the error tree.

    Raises:
        DiskFullError: there is no room.
        StorageError: anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(
                f"no room on the disk to {what}", remedy="free some space; the agent tries again by itself"
            ) from error
        raise StorageError(
            f"cannot {what}: {error.strerror or error}", remedy="check the disk and the owner of the state folder"
        ) from error


class Disk:
    """Durable file operations. Every method raises `StorageError` or `DiskFullError` and leaves the old file whole."""

    def about_to(self, change: str, path: Path) -> None:
        """Called before each change of the disk; does nothing here."""

    def write(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        """Replace the file at `path` by `data`: after a power cut it is the old or the new one, never a mix."""
        temporary = path.with_name(path.name + ".tmp")
        with storage_errors(f"write {path.name}"):
            self.about_to("write", temporary)
            # A stale temporary of another mode must not lend its mode to a secret.
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                self.flush(file.fileno(), temporary)
            self.replace(temporary, path)

    def place(self, source: Path, destination: Path) -> None:
        """Put a file that is durable already at a second path; costs no room where the file system has hard links."""
        temporary = destination.with_name(destination.name + ".tmp")
        with storage_errors(f"place {destination.name}"):
            self.about_to("place", temporary)
            temporary.unlink(missing_ok=True)
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)
                with temporary.open("rb") as file:
                    self.flush(file.fileno(), temporary)
            self.replace(temporary, destination)

    def replace(self, source: Path, destination: Path) -> None:
        """Rename `source` to `destination`, durably."""
        with storage_errors(f"replace {destination.name}"):
            self.about_to("replace", destination)
            source.replace(destination)
            self.sync_folder(destination.parent)

    def remove(self, path: Path) -> None:
        """Remove a file, durably; one that is not there is fine."""
        with storage_errors(f"remove {path.name}"):
            if path.exists():
                self.about_to("remove", path)
                path.unlink(missing_ok=True)
                self.sync_folder(path.parent)

    def flush(self, descriptor: int, path: Path) -> None:
        """Make what was written to an open file survive a power cut."""
        with storage_errors(f"flush {path.name}"):
            self.about_to("flush", path)
            os.fsync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in `folder` survive a power cut."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, folder: Path, *, mode: int = 0o755) -> None:
        """Make `folder` and those above it."""
        with storage_errors(f"make the folder {folder}"):
            folder.mkdir(parents=True, exist_ok=True, mode=mode)

    def free_bytes(self, folder: Path) -> int:
        """Return the room that is left for us."""
        with storage_errors(f"look at the disk of {folder}"):
            return shutil.disk_usage(folder).free


def file_digest(path: Path) -> DigestHex:
    """Return the sha256 of a file, read in pieces."""
    with storage_errors(f"read {path.name}"), path.open("rb") as file:
        return sha256_hex(iter(lambda: file.read(1 << 20), b""))
