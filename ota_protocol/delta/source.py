"""Owns how the codec reads a file it does not open: random access to a known number of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Source(Protocol):
    """A readable file of known length; whoever does I/O implements it."""

    @property
    def length_bytes(self) -> int:
        """Length of the whole file."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; the caller keeps within `length_bytes`."""
        ...


@dataclass(frozen=True, slots=True)
class BytesSource:
    """A file that is in memory already."""

    data: bytes

    @property
    def length_bytes(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]
