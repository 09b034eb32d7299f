"""Owns the count of bytes that really crossed our sockets: request lines, headers and bodies, both ways.

Counted below HTTP, by the network backend in `metering`. TCP/IP headers, and the records of TLS where it is used, are
below the count. A file of two alternating records holds it: each change is written at once, so `kill -9` loses
nothing, and flushed every `FLUSH_BYTES`, so a power cut loses at most that much.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge_client.disk import Disk, storage_errors

FLUSH_BYTES: Final = 64 << 10
"""What a power cut may leave uncounted; an fsync for every packet would wear out flash storage."""

_RECORD = struct.Struct("<QdQQQQ")
_SLOT_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Count:
    """Bytes since enrolment and in the current budget period."""

    period_start_s: float = 0.0
    """Unix time at which the current period began."""
    period_sent: int = 0
    period_received: int = 0
    sent: int = 0
    received: int = 0

    @property
    def period_bytes(self) -> int:
        """Bytes both ways in the current period: what a budget is compared with."""
        return self.period_sent + self.period_received

    @property
    def total_bytes(self) -> int:
        """Bytes both ways since enrolment."""
        return self.sent + self.received


def period_start(now_s: float, period_s: float, current_s: float) -> float:
    """Return when the budget period of `now_s` began.

    A clock that steps back by less than one period stays in the current period, so that a clock which wavers cannot
    earn a second budget; one that steps back further was wrong before.
    """
    start = now_s - now_s % period_s
    return current_s if start < current_s < start + 2 * period_s else start


class Ledger:
    """The durable count; safe to use from several threads.

    Args:
        path: file of the two records.
        period_s: length of a budget period.
        clock: Unix time in seconds.
    """

    def __init__(self, path: Path, *, period_s: float, clock: Callable[[], float], disk: Disk | None = None) -> None:
        self._period_s = period_s
        self._clock = clock
        self._disk = disk or Disk()
        self._path = path
        self._lock = threading.Lock()
        self._unflushed = 0
        with storage_errors("open the ledger"):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._sequence, self._count = _load(self._file)

    def count(self) -> Count:
        """Return the count now; begins a new period where one is due."""
        with self._lock:
            return self._current()

    def add(self, *, sent: int = 0, received: int = 0) -> None:
        """Count bytes that crossed a socket.

        Raises:
            StorageError: the record cannot be written.
        """
        with self._lock:
            now = self._current()
            self._count = Count(
                period_start_s=now.period_start_s,
                period_sent=now.period_sent + sent,
                period_received=now.period_received + received,
                sent=now.sent + sent,
                received=now.received + received,
            )
            self._unflushed += sent + received
            self._write()

    def close(self) -> None:
        """Flush and close."""
        with self._lock, storage_errors("close the ledger"):
            os.fsync(self._file)
            os.close(self._file)

    def _current(self) -> Count:
        start = period_start(self._clock(), self._period_s, self._count.period_start_s)
        if start != self._count.period_start_s:
            self._count = replace(self._count, period_start_s=start, period_sent=0, period_received=0)
        return self._count

    def _write(self) -> None:
        self._sequence += 1
        with storage_errors("write the ledger"):
            os.pwrite(self._file, _pack(self._sequence, self._count), (self._sequence % 2) * _SLOT_BYTES)
        if self._unflushed >= FLUSH_BYTES:
            self._disk.flush(self._file, self._path)
            self._unflushed = 0


def read_count(path: Path) -> Count:
    """Return the last count in a ledger file that another process may be writing; zeros where there is none."""
    if not path.exists():
        return Count()
    with storage_errors("read the ledger"), path.open("rb") as file:
        return _load(file.fileno())[1]


def _pack(sequence: int, count: Count) -> bytes:
    body = _RECORD.pack(
        sequence, count.period_start_s, count.period_sent, count.period_received, count.sent, count.received
    )
    return body + struct.pack("<I", zlib.crc32(body))


def _load(file: int) -> tuple[int, Count]:
    """Return the newest whole record; a torn one fails its checksum and the other is at most one write older."""
    found = [_unpack(os.pread(file, _SLOT_BYTES, slot * _SLOT_BYTES)) for slot in range(2)]
    return max(found, key=lambda item: item[0])


def _unpack(data: bytes) -> tuple[int, Count]:
    body, check = data[: _RECORD.size], data[_RECORD.size : _RECORD.size + 4]
    if len(check) != 4 or struct.unpack("<I", check)[0] != zlib.crc32(body):
        return 0, Count()
    sequence, *fields = _RECORD.unpack(body)
    return sequence, Count(*fields)
