"""Owns the transfer of one file to our disk: ranged requests, resumed after anything, bounded in every direction.

Each call of `fetch` is one request for one range, so that a caller can pay by parts and talk to the registry between
them. What arrived is kept in `<digest>.part`; `<digest>.json` beside it says how much of that is durable. After a
`kill -9` the whole part is good, since the kernel kept it; after a power cut (another boot) only the durable length.
Range requests after RFC 9110, sections 13.1.5 (If-Range) and 14. Does not know what a file means.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from pydantic import Field, ValidationError

from edge_client.disk import Disk, file_digest, storage_errors
from edge_client.registry import read_bounded, refusal, transport_errors
from edge_client.trust import TrustedFile
from ota_protocol.digest import DigestHex
from ota_protocol.errors import DigestMismatchError, DiskFullError, MalformedError, TransportError
from ota_protocol.manifest import Frozen

FLUSH_BYTES: Final = 1 << 20
"""What a power cut may cost: fetched again at most this much."""
SPARE_BYTES: Final = 4 << 20
"""Room that is left to the rest of the vehicle."""
WASTE_FACTOR: Final = 3
"""A file may move at most this often its length over the link before it is given up."""
WASTE_BYTES: Final = 64 << 10
"""Added to that, so that small files may fail a few times."""
SLOW_WINDOW_S: Final = 30.0
SLOW_BYTES_PER_S: Final = 128
"""A sender below this over a whole window is dropped: slower than any modem, it only holds the connection."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class PartRecord(Frozen):
    """What is known of a part: `<digest>.json`."""

    durable_bytes: int = Field(default=0, ge=0)
    boot: str = ""
    """Boot of the kernel that wrote the part."""
    etag: str = Field(default="", max_length=256)
    moved_bytes: int = Field(default=0, ge=0)
    """Payload that crossed the link for this file, wasted bytes included."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one call of `fetch` brought."""

    received_bytes: int
    complete: bool
    resumed: bool
    """Whether it went on from bytes of an interrupted transfer."""
    failure: TransportError | None = None
    """Why it brought less than was asked for; what arrived is kept."""


def boot_id() -> str:
    """Return a name for this boot of the machine; empty where the kernel offers none, which distrusts every part."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Downloader:
    """Transfers of one vehicle.

    Args:
        client: an HTTP client of the registry.
        folder: keeps parts and complete files, by digest.
        disk: durable file operations.
        stop: set when the agent is to stop.
        boot: name of this boot.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: httpx.Client,
        folder: Path,
        disk: Disk,
        stop: threading.Event,
        *,
        boot: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._folder = folder
        self._disk = disk
        self._stop = stop
        self._boot = boot_id() if boot is None else boot
        self._clock = clock
        self._flowing: set[DigestHex] = set()
        disk.make_folder(folder)

    def path(self, digest: DigestHex) -> Path:
        """Where the complete file lies, once it does."""
        return self._folder / digest

    def is_complete(self, digest: DigestHex) -> bool:
        """Whether the whole file is here; its digest was checked when it was completed."""
        return self.path(digest).is_file()

    def remaining_bytes(self, file: TrustedFile) -> int:
        """Return how much of a file is still to be fetched."""
        return 0 if self.is_complete(file.digest) else max(0, file.length_bytes - self._offset(file))

    def here_bytes(self, digest: DigestHex) -> int:
        """Return how much of a transfer was fetched already."""
        path = self.path(digest)
        return path.stat().st_size if path.is_file() else self._size(digest)

    def interrupt(self) -> None:
        """Note that whatever is fetched next is resumed."""
        self._flowing.clear()

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

    def fetch(self, file: TrustedFile, allowed_bytes: int) -> Part:
        """Fetch up to `allowed_bytes` more of a file, in one request; a link that fails is told in the answer.

        Raises:
            RefusedError: the registry does not give the file.
            MalformedError: the answer breaks HTTP or a bound, or the file moved too often; the part is thrown away.
            DigestMismatchError: the complete file is not the one that was named; it is thrown away.
            DiskFullError, StorageError: our disk; what arrived is kept.
        """
        offset = self._trim(file)
        record = self._record(file.digest)
        if record.moved_bytes > WASTE_FACTOR * file.length_bytes + WASTE_BYTES:
            self.discard(file.digest)
            raise MalformedError(f"{file.target} moved {record.moved_bytes:,} bytes and is still not whole")
        resumed = offset > 0 and file.digest not in self._flowing
        more = min(allowed_bytes, file.length_bytes - offset) > 0
        failure = self._request(file, offset, allowed_bytes, record) if more else None
        received = self._record(file.digest).moved_bytes - record.moved_bytes
        complete = self._offset(file) >= file.length_bytes
        if complete:
            self._complete(file)
        return Part(received, complete, resumed and received > 0, failure)

    def discard(self, digest: DigestHex) -> None:
        """Throw away what is here of a file."""
        self._flowing.discard(digest)
        for path in (self._part(digest), self._sidecar(digest), self.path(digest)):
            self._disk.remove(path)

    def keep_only(self, digests: set[DigestHex]) -> None:
        """Throw away all other files."""
        with storage_errors("tidy the downloads"):
            strangers = [path for path in self._folder.iterdir() if path.name.partition(".")[0] not in digests]
        for path in strangers:
            self._disk.remove(path)

    def _request(self, file: TrustedFile, offset: int, allowed: int, record: PartRecord) -> TransportError | None:
        """Ask for a range and keep it; return the failure of the link, if it failed."""
        self._flowing.discard(file.digest)
        try:
            self._stream(file, offset, allowed, record)
        except TransportError as error:
            return error
        self._flowing.add(file.digest)
        return None

    def _stream(self, file: TrustedFile, offset: int, allowed: int, record: PartRecord) -> None:
        wanted = min(allowed, file.length_bytes - offset)
        headers = {"range": f"bytes={offset}-{offset + wanted - 1}"}
        if offset and record.etag:
            headers["if-range"] = record.etag
        with (
            transport_errors(f"fetch {file.target}"),
            self._client.stream("GET", file.url_path, headers=headers) as response,
        ):
            start = self._check_answer(response, file, offset, wanted)
            if start != offset:
                # The registry gives the whole file: it has another one than before, or knows no ranges.
                self._disk.remove(self._part(file.digest))
                wanted = min(allowed, file.length_bytes)
            etag = response.headers.get("etag", "")
            keep = etag if not etag.startswith("W/") and len(etag) <= 256 else ""
            self._keep(response, file, wanted, record.model_copy(update={"etag": keep}))

    def _check_answer(self, response: httpx.Response, file: TrustedFile, offset: int, wanted: int) -> int:
        """Return at which offset of the file the body starts."""
        if response.status_code == 206:
            self._check_range(response, file, offset, wanted)
            return offset
        if response.status_code == 200:
            if int(response.headers.get("content-length", file.length_bytes)) != file.length_bytes:
                raise MalformedError(f"the registry offers another length of {file.target} than was signed")
            return 0
        if response.status_code == 416:
            self.discard(file.digest)
            raise TransportError(f"the registry has no such range of {file.target}; it is fetched from the start")
        body = read_bounded(response, 64 << 10, "the answer")
        if response.status_code < 400:
            raise MalformedError(f"the registry answered {response.status_code} to a request for {file.target}")
        raise refusal(response.status_code, body, f"fetch {file.target}")

    def _check_range(self, response: httpx.Response, file: TrustedFile, offset: int, wanted: int) -> None:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        expected = (offset, offset + wanted - 1, file.length_bytes)
        if found is None or tuple(map(int, found.groups())) != expected:
            self.discard(file.digest)
            raise MalformedError(
                f"asked for bytes {expected[0]} to {expected[1]} of {expected[2]} of {file.target}, the registry"
                f" answered {response.headers.get('content-range', 'no range')!r:.80}"
            )

    def _keep(self, response: httpx.Response, file: TrustedFile, wanted: int, record: PartRecord) -> None:
        """Write the body to the part, with a hard maximum."""
        part, received = self._part(file.digest), 0
        if record.boot != self._boot:
            # From now on a kill loses nothing: the part is known to be of this boot.
            self._note(file.digest, record, 0)
        with storage_errors(f"open {part.name}"):
            output = part.open("ab", buffering=0)
        with output:
            try:
                for chunk in self._paced(response, file):
                    piece = chunk[: wanted - received]
                    with storage_errors(f"write {part.name}"):
                        self._disk.about_to("append", part)
                        _write_whole(output.fileno(), piece)
                    before, received = received, received + len(piece)
                    if response.status_code == 206 and len(chunk) > len(piece):
                        raise MalformedError(f"the registry sends more of {file.target} than was asked for")
                    if before // FLUSH_BYTES != received // FLUSH_BYTES:
                        self._flush(output.fileno(), part)
                        self._note(file.digest, record, received)
                    if received >= wanted and response.status_code == 200:
                        break
            finally:
                self._flush(output.fileno(), part)
                self._note(file.digest, record, received)
        if received < wanted:
            raise TransportError(f"the connection ended {wanted - received:,} bytes early", remedy="check the link")

    def _paced(self, response: httpx.Response, file: TrustedFile) -> Iterator[bytes]:
        """Yield chunks, dropping a sender that only holds the connection open."""
        began, in_window = self._clock(), 0
        for chunk in response.iter_raw():
            if self._stop.is_set():
                raise TransportError("the agent is stopping")
            yield chunk
            in_window += len(chunk)
            passed = self._clock() - began
            if passed >= SLOW_WINDOW_S:
                if in_window < SLOW_BYTES_PER_S * passed:
                    raise TransportError(f"{file.target} came at under {SLOW_BYTES_PER_S} bytes/s: dropped")
                began, in_window = self._clock(), 0

    def _complete(self, file: TrustedFile) -> None:
        part = self._part(file.digest)
        if file_digest(part) != file.digest:
            # The count of moved bytes stays, so that a registry which serves wrong bytes cannot be paid for ever.
            moved = self._record(file.digest).moved_bytes
            self._disk.remove(part)
            self._disk.write(self._sidecar(file.digest), PartRecord(moved_bytes=moved).model_dump_json().encode())
            self._flowing.discard(file.digest)
            raise DigestMismatchError(
                f"{file.target} arrived with another digest than was signed", remedy="check the registry's storage"
            )
        self._disk.replace(part, self.path(file.digest))
        self._disk.remove(self._sidecar(file.digest))

    def _flush(self, descriptor: int, part: Path) -> None:
        self._disk.flush(descriptor, part)

    def _note(self, digest: DigestHex, record: PartRecord, received: int) -> None:
        now = record.model_copy(
            update={
                "durable_bytes": self._size(digest),
                "boot": self._boot,
                "moved_bytes": record.moved_bytes + received,
            }
        )
        self._disk.write(self._sidecar(digest), now.model_dump_json().encode())

    def _trim(self, file: TrustedFile) -> int:
        """Cut a part to what can be relied on, and return its length."""
        offset, size = self._offset(file), self._size(file.digest)
        if size > offset:
            with storage_errors("cut a part"):
                os.truncate(self._part(file.digest), offset)
        return offset

    def _offset(self, file: TrustedFile) -> int:
        record, size = self._record(file.digest), self._size(file.digest)
        same_boot = record.boot == self._boot != ""
        reliable = size if same_boot else min(size, record.durable_bytes)
        return reliable if reliable <= file.length_bytes else 0

    def _size(self, digest: DigestHex) -> int:
        try:
            return self._part(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def _record(self, digest: DigestHex) -> PartRecord:
        try:
            return PartRecord.model_validate_json(self._sidecar(digest).read_bytes())
        except (FileNotFoundError, ValidationError):
            return PartRecord()

    def _part(self, digest: DigestHex) -> Path:
        return self._folder / f"{digest}.part"

    def _sidecar(self, digest: DigestHex) -> Path:
        return self._folder / f"{digest}.json"


def _write_whole(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
