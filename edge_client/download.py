"""Owns the transfer of one file to our disk: ranged requests, resumed after anything, bounded in every direction.

Each call of `fetch` is one request for one range, so that a caller can pay by parts and talk to the registry between
them. Range requests after RFC 9110, sections 13.1.5 (If-Range) and 14. Does not know what a file means, nor how it is
kept (`partial`).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import httpx

from edge_client.partial import PartialFiles, PartRecord
from edge_client.registry import read_bounded, refusal, transport_errors
from edge_client.trust import TrustedFile
from ota_protocol.digest import DigestHex
from ota_protocol.errors import MalformedError, TransportError

WASTE_FACTOR: Final = 3
"""A file may move at most this often its length over the link before it is given up."""
WASTE_BYTES: Final = 64 << 10
"""Added to that, so that small files may fail a few times."""
SLOW_WINDOW_S: Final = 30.0
SLOW_BYTES_PER_S: Final = 128
"""A sender below this over a whole window is dropped: slower than any modem, it only holds the connection."""
MAX_REFUSAL_BYTES: Final = 64 << 10

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Part:
    """What one call of `fetch` brought."""

    received_bytes: int
    complete: bool
    resumed: bool
    """Whether it went on from bytes of an interrupted transfer."""
    failure: TransportError | None = None
    """Why it brought less than was asked for; what arrived is kept."""


class Downloader:
    """Transfers of one vehicle.

    Args:
        client: an HTTP client of the registry.
        files: where parts and complete files are kept.
        stop: set when the agent is to stop.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: httpx.Client,
        files: PartialFiles,
        stop: threading.Event,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.files = files
        self._client = client
        self._stop = stop
        self._clock = clock
        self._flowing: set[DigestHex] = set()

    def remaining_bytes(self, file: TrustedFile) -> int:
        """Return how much of a file is still to be fetched."""
        return max(0, file.length_bytes - self.files.here_bytes(file.digest))

    def interrupt(self) -> None:
        """Note that whatever is fetched next is resumed."""
        self._flowing.clear()

    def fetch(self, file: TrustedFile, allowed_bytes: int) -> Part:
        """Fetch up to `allowed_bytes` more of a file, in one request; a link that fails is told in the answer.

        Raises:
            RefusedError: the registry does not give the file.
            MalformedError: the answer breaks HTTP or a bound, or the file moved too often; the part is thrown away.
            DigestMismatchError: the complete file is not the one that was named; it is thrown away.
            DiskFullError, StorageError: our disk; what arrived is kept.
        """
        offset = self.files.trim(file.digest, file.length_bytes)
        record = self.files.record(file.digest)
        if record.moved_bytes > WASTE_FACTOR * file.length_bytes + WASTE_BYTES:
            self.files.discard(file.digest)
            raise MalformedError(f"{file.target} moved {record.moved_bytes:,} bytes and is still not whole")
        resumed = offset > 0 and file.digest not in self._flowing
        failure = None
        if offset < file.length_bytes and allowed_bytes > 0:
            failure = self._request(file, offset, allowed_bytes, record)
        received = self.files.record(file.digest).moved_bytes - record.moved_bytes
        complete = self.files.offset(file.digest) >= file.length_bytes
        if complete:
            self._flowing.discard(file.digest)
            self.files.complete(file.digest, file.target)
        return Part(received, complete, resumed and received > 0, failure)

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
            if self._check_answer(response, file, offset, wanted) != offset:
                # The registry gives the whole file: it has another one than before, or knows no ranges.
                self.files.restart(file.digest)
                wanted = min(allowed, file.length_bytes)
            self._keep(response, file, wanted, record.model_copy(update={"etag": _strong_etag(response)}))

    def _check_answer(self, response: httpx.Response, file: TrustedFile, offset: int, wanted: int) -> int:
        """Return at which offset of the file the body starts."""
        if response.status_code == 206:
            self._check_range(response, file, offset, wanted)
            return offset
        if response.status_code == 200:
            if response.headers.get("content-length", str(file.length_bytes)) != str(file.length_bytes):
                raise MalformedError(f"the registry offers another length of {file.target} than was signed")
            return 0
        if response.status_code == 416:
            self.files.restart(file.digest)
            raise TransportError(f"the registry has no such range of {file.target}; it is fetched from the start")
        body = read_bounded(response, MAX_REFUSAL_BYTES, "the answer")
        if response.status_code < 400:
            raise MalformedError(f"the registry answered {response.status_code} to a request for {file.target}")
        raise refusal(response.status_code, body, f"fetch {file.target}")

    def _check_range(self, response: httpx.Response, file: TrustedFile, offset: int, wanted: int) -> None:
        answered = response.headers.get("content-range", "no range")
        found = _CONTENT_RANGE.fullmatch(answered)
        expected = (offset, offset + wanted - 1, file.length_bytes)
        if found is None or tuple(map(int, found.groups())) != expected:
            self.files.restart(file.digest)
            raise MalformedError(
                f"asked for bytes {expected[0]} to {expected[1]} of {expected[2]} of {file.target}, the registry"
                f" answered {answered!r:.80}"
            )

    def _keep(self, response: httpx.Response, file: TrustedFile, wanted: int, record: PartRecord) -> None:
        """Write the body to the part, with a hard maximum of `wanted` bytes."""
        with self.files.appending(file.digest, record) as part:
            for chunk in self._paced(response, file):
                left = wanted - part.received_bytes
                part.append(chunk[:left])
                if len(chunk) > left and response.status_code == 206:
                    raise MalformedError(f"the registry sends more of {file.target} than was asked for")
                if len(chunk) >= left and response.status_code == 200:
                    break
        if part.received_bytes < wanted:
            missing = wanted - part.received_bytes
            raise TransportError(f"the connection ended {missing:,} bytes early", remedy="check the link")

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


def _strong_etag(response: httpx.Response) -> str:
    """Return the ETag if it can be used with If-Range."""
    etag = str(response.headers.get("etag", ""))
    return etag if not etag.startswith("W/") and len(etag) <= 256 else ""
