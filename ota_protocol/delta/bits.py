"""Owns strings of bit fields whose widths both ends know: field after field, lowest bit first, no gaps."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_WIDTH: Final = 32
_SPILL: Final = 5
"""A field of 32 bits touches at most five bytes."""


def write_fields(values: NDArray[np.uint32], widths: NDArray[np.uint8]) -> bytes:
    """Return the fields as bytes, the last one padded with zero bits.

    Args:
        values: (n,) each below 2**width.
        widths: (n,) 0 to 32.
    """
    ends = np.cumsum(widths, dtype=np.int64)
    if not ends.size:
        return b""
    starts = ends - widths
    first = starts >> 3
    shifted = values.astype(np.uint64) << (starts & 7).astype(np.uint64)
    length = int(ends[-1] + 7) // 8
    out = np.zeros(length + _SPILL, np.uint8)
    for byte in range(_SPILL):
        # Fields share bytes but no bits, so that adding them up is joining them.
        part = ((shifted >> np.uint64(8 * byte)) & np.uint64(0xFF)).astype(np.float64)
        out[byte:] += np.bincount(first, part, length + _SPILL)[: out.size - byte].astype(np.uint8)
    return out[:length].tobytes()


class FieldReader:
    """Reads fields from the first to the last; beyond the end there are zeros, which `finish` finds out.

    Args:
        data: what `write_fields` returned.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._length = len(data)
        padded = np.frombuffer(bytes(data) + bytes(8), np.uint8)
        self._windows = np.ndarray(len(data) + 1, "<u8", padded, strides=(1,))
        self._position = 0

    def read(self, widths: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Return the next (n,) fields.

        Raises:
            ValueError: the data ends before them.
        """
        ends = np.cumsum(widths, dtype=np.int64)
        ends += self._position
        if ends.size and int(ends[-1]) > 8 * self._length:
            raise ValueError("the plain bits end early")
        starts = ends - widths
        self._position = int(ends[-1]) if ends.size else self._position
        fields: NDArray[np.uint64] = self._windows[starts >> 3]
        fields >>= (starts & 7).astype(np.uint64)
        fields &= (np.uint64(1) << widths.astype(np.uint64)) - np.uint64(1)
        return fields.astype(np.uint32)

    def finish(self) -> None:
        """Check that everything was read.

        Raises:
            ValueError: bytes are left over.
        """
        if (self._position + 7) // 8 != self._length:
            raise ValueError("plain bits are left over")
