"""Owns what a transfer has on our disk: parts, how much of each is durable, and complete files, by digest.

What arrived is kept in `<digest>.part`; `<digest>.json` beside it says how much of that is durable. After a `kill -9`
the whole part is good, since the kernel kept it; after a power cut (another boot) only the durable length is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from edge_client.disk import Disk, file_digest, storage_errors
from ota_protocol.digest import DigestHex
from ota_protocol.errors import DigestMismatchError, DiskFullError
from ota_protocol.manifest import Frozen

FLUSH_BYTES: Final = 1 << 20
"""What a power cut may cost: fetched again at most this much."""
SPARE_BYTES: Final = 4 << 20
"""Room that is left to the rest of the vehicle."""


class PartRecord(Frozen):
    """What is known of a part: `<digest>.json`."""

    durable_bytes: int = Field(default=0, ge=0)
    boot: str = ""
    """Boot of the kernel that wrote the part."""
    etag: str = Field(default="", max_length=256)
    moved_bytes: int = Field(default=0, ge=0)
    """Payload that crossed the link for this file, wasted bytes included."""


def boot_id() -> str:
    """Return a name for this boot of the machine; empty where the kernel offers none, which distrusts every part."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class PartialFiles:
    """Parts and complete files in one folder.

    Args:
        folder: made where it is missing.
        disk: durable file operations.
        boot: name of this boot.
    """

    def __init__(self, folder: Path, disk: Disk, *, boot: str | None = None) -> None:
        self._folder = folder
        self._disk = disk
        self._boot = boot_id() if boot is None else boot
        disk.make_folder(folder)

    def path(self, digest: DigestHex) -> Path:
        """Where the complete file lies, once it does."""
        return self._folder / digest

    def is_complete(self, digest: DigestHex) -> bool:
        """Whether the whole file is here; its digest was checked when it was completed."""
        return self.path(digest).is_file()

    def here_bytes(self, digest: DigestHex) -> int:
        """Return how much of a file is here, complete or not."""
        path = self.path(digest)
        return path.stat().st_size if path.is_file() else self.offset(digest)

    def offset(self, digest: DigestHex) -> int:
        """Return the length of a part that can be relied on."""
        record, size = self.record(digest), self._size(digest)
        same_boot = record.boot == self._boot != ""
        return size if same_boot else min(size, record.durable_bytes)

    def trim(self, digest: DigestHex, limit_bytes: int) -> int:
        """Cut a part to what can be relied on, to nothing if that is above `limit_bytes`; return its length."""
        offset = self.offset(digest)
        offset = offset if offset <= limit_bytes else 0
        if self._size(digest) > offset:
            with storage_errors("cut a part"):
                os.truncate(self._part(digest), offset)
        return offset

    def record(self, digest: DigestHex) -> PartRecord:
        """Return what is known of a part; a record that is missing or torn knows nothing."""
        try:
            return PartRecord.model_validate_json(self._sidecar(digest).read_bytes())
        except (FileNotFoundError, ValidationError):
            return PartRecord()

    def require_room(self, needed_bytes: int) -> None:
        """Check for room before any byte is paid for.

        Raises:
            DiskFullError: fewer than `needed_bytes` and a reserve are free.
        """
        free = self._disk.free_bytes(self._folder)
        if free < needed_bytes + SPARE_BYTES:
            raise DiskFullError(
                f"{needed_bytes + SPARE_BYTES:,} bytes of disk are needed, {free:,} are free",
                remedy="free some space; the agent tries again by itself",
            )

    @contextmanager
    def appending(self, digest: DigestHex, record: PartRecord) -> Iterator[Appender]:
        """Open a part for more bytes; they are durable when the block is left, however it is left."""
        if record.boot != self._boot:
            # From now on a kill loses nothing: the part is known to be of this boot.
            self._note(digest, record, 0)
        part = self._part(digest)
        with storage_errors(f"open {part.name}"):
            file = part.open("ab", buffering=0)
        with file:
            appender = Appender(self, digest, record, file.fileno())
            try:
                yield appender
            finally:
                appender.flush()

    def restart(self, digest: DigestHex) -> None:
        """Throw away the bytes of a part; what it has cost stays known, so that it cannot cost for ever."""
        moved = self.record(digest).moved_bytes
        self._disk.remove(self._part(digest))
        self._disk.write(self._sidecar(digest), PartRecord(moved_bytes=moved).model_dump_json().encode())

    def complete(self, digest: DigestHex, what: str) -> None:
        """Turn a part into the complete file.

        Raises:
            DigestMismatchError: it is not the file that was named; its bytes are thrown away.
        """
        part = self._part(digest)
        if file_digest(part) != digest:
            self.restart(digest)
            raise DigestMismatchError(
                f"{what} arrived with another digest than was signed", remedy="check the registry's storage"
            )
        self._disk.replace(part, self.path(digest))
        self._disk.remove(self._sidecar(digest))

    def discard(self, digest: DigestHex) -> None:
        """Throw away all that is here of a file."""
        for path in (self._part(digest), self._sidecar(digest), self.path(digest)):
            self._disk.remove(path)

    def keep_only(self, digests: set[DigestHex]) -> None:
        """Throw away all other files."""
        with storage_errors("tidy the downloads"):
            strangers = [path for path in self._folder.iterdir() if path.name.partition(".")[0] not in digests]
        for path in strangers:
            self._disk.remove(path)

    def _append(self, digest: DigestHex, descriptor: int, data: bytes) -> None:
        part = self._part(digest)
        with storage_errors(f"write {part.name}"):
            self._disk.about_to("append", part)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

    def _flush(self, digest: DigestHex, descriptor: int, record: PartRecord, received: int) -> None:
        self._disk.flush(descriptor, self._part(digest))
        self._note(digest, record, received)

    def _note(self, digest: DigestHex, record: PartRecord, received: int) -> None:
        now = {
            "durable_bytes": self._size(digest),
            "boot": self._boot,
            "moved_bytes": record.moved_bytes + received,
        }
        self._disk.write(self._sidecar(digest), record.model_copy(update=now).model_dump_json().encode())

    def _size(self, digest: DigestHex) -> int:
        try:
            return self._part(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def _part(self, digest: DigestHex) -> Path:
        return self._folder / f"{digest}.part"

    def _sidecar(self, digest: DigestHex) -> Path:
        return self._folder / f"{digest}.json"


class Appender:
    """Adds bytes to one part, and makes them durable every `FLUSH_BYTES`."""

    def __init__(self, files: PartialFiles, digest: DigestHex, record: PartRecord, descriptor: int) -> None:
        self._files = files
        self._digest = digest
        self._record = record
        self._descriptor = descriptor
        self.received_bytes = 0

    def append(self, data: bytes) -> None:
        """Write bytes that arrived.

        Raises:
            DiskFullError, StorageError: our disk.
        """
        self._files._append(self._digest, self._descriptor, data)
        before, self.received_bytes = self.received_bytes, self.received_bytes + len(data)
        if before // FLUSH_BYTES != self.received_bytes // FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Make what was written durable, and note it."""
        self._files._flush(self._digest, self._descriptor, self._record, self.received_bytes)
