"""Owns the integers of the format: unsigned LEB128 of at most nine bytes, signed ones in zigzag."""

from __future__ import annotations

from typing import Final

from ota_protocol.errors import DeltaError

MAX_BYTES: Final = 9
"""Nine bytes hold 63 bits, more than any length or offset of a file."""


def write_unsigned(value: int) -> bytes:
    """Return `value` (0 to 2⁶³ − 1) as LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_signed(value: int) -> bytes:
    """Return `value` (−2⁶² to 2⁶² − 1) as LEB128 of its zigzag form."""
    return write_unsigned((value << 1) ^ (value >> 63))


class Cursor:
    """Reads a byte string from its start to its end, and never beyond.

    Args:
        data: what is read.
        part: name of the part of the delta, for errors.
    """

    def __init__(self, data: bytes, part: str) -> None:
        self._data = data
        self._part = part
        self.position = 0

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self.position

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes.

        Raises:
            DeltaError: fewer are left.
        """
        if length > self.remaining:
            raise DeltaError(f"ends {length - self.remaining} bytes early", op=self._part, remedy="fetch it again")
        self.position += length
        return self._data[self.position - length : self.position]

    def unsigned(self) -> int:
        """Return the next unsigned integer.

        Raises:
            DeltaError: it is cut off, or longer than nine bytes.
        """
        value = 0
        for shift in range(0, 7 * MAX_BYTES, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise DeltaError(f"an integer has more than {MAX_BYTES} bytes", op=self._part)

    def signed(self) -> int:
        """Return the next signed integer.

        Raises:
            DeltaError: it is cut off, or longer than nine bytes.
        """
        zigzag = self.unsigned()
        return (zigzag >> 1) ^ -(zigzag & 1)
