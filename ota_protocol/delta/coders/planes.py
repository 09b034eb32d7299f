"""Owns the coder of numbers without a counterpart: byte planes, each packed by itself.

The bits of each element are rotated left first where asked, which brings a float's exponent together in the highest
byte and its sign to the lowest bit. Parameters: bytes of an element, bits to rotate by. Payload: length and packed
bytes of each plane, lowest bytes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.coders.job import Coder, Job
from ota_protocol.delta.format import Op
from ota_protocol.delta.packing import CHUNK_BYTES, pack, unpack, unpack_memory
from ota_protocol.delta.varint import Cursor, write_unsigned
from ota_protocol.errors import DeltaError

_WORDS: Final = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}
_FIXED_BYTES: Final = 1 << 20


def encode(width: int, rotation: int, data: bytes) -> tuple[tuple[int, ...], bytes]:
    """Return parameters and payload.

    Args:
        width: bytes of an element: 1, 2, 4 or 8.
        rotation: bits to rotate left by.
        data: whole elements.
    """
    planes = _rotate(np.frombuffer(data, _WORDS[width]), rotation, 8 * width).view(np.uint8).reshape(-1, width)
    payload = bytearray()
    for number in range(width):
        packed = pack(planes[:, number].tobytes(), numbers=True)
        payload += write_unsigned(len(packed)) + packed
    return (width, rotation), bytes(payload)


def _memory(op: Op) -> int:
    return op.payload_length + 3 * op.length + unpack_memory(op.length) + _FIXED_BYTES


def _decode(job: Job) -> Iterator[bytes]:
    width, rotation = _parameters(job)
    count = job.op.length // width
    cursor = Cursor(job.payload, job.part)
    planes = np.empty((count, width), np.uint8)
    for number in range(width):
        packed = cursor.take(cursor.unsigned())
        plane = unpack(packed, count, job.part, memory_bytes=job.memory_bytes)
        planes[:, number] = np.frombuffer(plane, np.uint8)
    if cursor.remaining:
        raise DeltaError("bytes follow its last plane", op=job.part)
    words = planes.reshape(-1).view(_WORDS[width])
    for first in range(0, count, CHUNK_BYTES):
        yield _rotate(words[first : first + CHUNK_BYTES], 8 * width - rotation, 8 * width).tobytes()


def _parameters(job: Job) -> tuple[int, int]:
    numbers = job.op.parameters
    if len(numbers) != 2 or numbers[0] not in _WORDS or numbers[1] > 8 * numbers[0] or job.op.length % numbers[0]:
        raise DeltaError("its parameters are out of range", op=job.part)
    return numbers[0], numbers[1]


def _rotate(words: NDArray[Any], left: int, bits: int) -> NDArray[Any]:
    left %= bits
    if left == 0:
        return words
    kind = words.dtype.type
    rotated: NDArray[Any] = words << kind(left) | words >> kind(bits - left)
    return rotated


PLANES = Coder(_memory, _decode)
