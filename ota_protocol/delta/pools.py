"""Owns the pools: byte strings that some ops fill and others take from, so that many small things are coded as one."""

from __future__ import annotations

from ota_protocol.errors import DeltaError


class Pools:
    """All pools of one delta while it is applied."""

    def __init__(self) -> None:
        self._data: dict[int, bytearray] = {}
        self._emitted: dict[int, int] = {}

    def append(self, number: int, data: bytes) -> None:
        """Add bytes to the end of a pool."""
        self._data.setdefault(number, bytearray()).extend(data)

    def emit(self, number: int, length: int, part: str) -> bytes:
        """Return the next `length` bytes of a pool that were not emitted yet.

        Raises:
            DeltaError: fewer are left.
        """
        first = self._emitted.get(number, 0)
        self._emitted[number] = first + length
        return self.read(number, first, length, part)

    def read(self, number: int, offset: int, length: int, part: str) -> bytes:
        """Return `length` bytes of a pool from `offset`.

        Raises:
            DeltaError: the pool does not have them.
        """
        held = self._data.get(number, bytearray())
        if offset + length > len(held):
            raise DeltaError(
                f"bytes {offset:,} to {offset + length:,} of pool {number}, which has {len(held):,}", op=part
            )
        return bytes(held[offset : offset + length])
