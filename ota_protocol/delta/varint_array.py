"""Owns arrays of small integers as protobuf writes them: sign-extended to 64 bits, then LEB128.

Covers −8,192 to 8,191, which every 8-bit number is within: one byte, two, or ten where negative.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LONGEST_VARINT: Final = 10
_LIMIT: Final = 1 << 13
_CHUNK_BYTES: Final = 1 << 17
"""Bytes that are read at a time; far longer than a varint."""


def to_varints(values: NDArray[np.int32]) -> bytes:
    """Return (n,) values of −8,192 to 8,191 as LEB128."""
    lengths = np.where(values < 0, LONGEST_VARINT, np.where(values < 0x80, 1, 2))
    ends = np.cumsum(lengths)
    starts = ends - lengths
    out = np.full(int(ends[-1]) if ends.size else 0, 0xFF, np.uint8)
    out[starts] = (values & 0x7F) | np.where(lengths > 1, 0x80, 0)
    two, ten = lengths == 2, lengths == LONGEST_VARINT
    out[starts[two] + 1] = values[two] >> 7
    out[starts[ten] + 1] = values[ten] >> 7 & 0x7F | 0x80
    out[ends[ten] - 1] = 1
    return out.tobytes()


def from_varints(data: bytes, count: int) -> NDArray[np.int32]:
    """Return the (count,) values that `to_varints` wrote, taking little memory beside them.

    Raises:
        ValueError: `data` is anything else.
    """
    values = np.empty(count, np.int32)
    octets = memoryview(data)
    position = done = 0
    while position < len(octets):
        found, length = _read_some(octets[position : position + _CHUNK_BYTES])
        if done + found.size > count:
            raise ValueError(f"more varints than {count:,} values")
        values[done : done + found.size] = found
        position, done = position + length, done + found.size
    if done != count:
        raise ValueError(f"{done:,} varints for {count:,} values")
    return values


def _read_some(data: memoryview) -> tuple[NDArray[np.int32], int]:
    """Return the values of the varints that are whole in `data`, and how many bytes those take."""
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    if not ends.size:
        raise ValueError("a varint does not end")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    second = octets[np.minimum(starts + 1, ends)].astype(np.int32) & 0x7F
    values: NDArray[np.int32] = (octets[starts].astype(np.int32) & 0x7F) | np.where(lengths > 1, second << 7, 0)
    values -= np.where(lengths == LONGEST_VARINT, 2 * _LIMIT, 0).astype(np.int32)
    length = int(ends[-1]) + 1
    if to_varints(values) != data[:length]:
        raise ValueError("these varints are not those of small numbers")
    return values, length
