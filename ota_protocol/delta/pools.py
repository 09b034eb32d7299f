"""Owns the pools: byte strings that some ops fill and others take from, so that many small things are coded as one."""

from __future__ import annotations

from ota_protocol.errors import DeltaError


class Pools:
    """All pools of one delta while it is applied: first in, first out."""

    def __init__(self) -> None:
        self._data: dict[int, bytearray] = {}

    def append(self, number: int, data: bytes) -> None:
        """Add bytes to the end of a pool."""
        self._data.setdefault(number, bytearray()).extend(data)

    def emit(self, number: int, length: int, part: str) -> bytes:
        """Take the next `length` bytes from a pool.

        Raises:
            DeltaError: the pool has fewer.
        """
        held = self._data.get(number, bytearray())
        if length > len(held):
            raise DeltaError(f"{length:,} bytes of pool {number}, which has {len(held):,}", op=part)
        taken = bytes(memoryview(held)[:length])
        del held[:length]
        return taken
