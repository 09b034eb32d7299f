"""Owns the coder of numbers of few different values, such as weights that share a codebook.

Parameters: bytes of an element, number of values. Payload: length and packed bytes of the values, then the coded
numbers of the elements' values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ota_protocol.delta.coders.job import Coder, Job
from ota_protocol.delta.entropy import decode_symbols, encode_symbols
from ota_protocol.delta.format import Op
from ota_protocol.delta.packing import CHUNK_BYTES, pack, unpack
from ota_protocol.delta.varint import Cursor, write_unsigned
from ota_protocol.errors import DeltaError

MAX_VALUES: Final = 256
_WORDS: Final = {2: "<u2", 4: "<u4", 8: "<u8"}
_FIXED_BYTES: Final = 1 << 20


def encode(width: int, data: bytes) -> tuple[tuple[int, ...], bytes] | None:
    """Return parameters and payload; None where there are too many different values.

    Args:
        width: bytes of an element: 2, 4 or 8.
        data: whole elements.
    """
    words = np.frombuffer(data, _WORDS[width])
    if np.unique(words[: 4 * MAX_VALUES]).size > MAX_VALUES:
        return None
    values, numbers = np.unique(words, return_inverse=True)
    if values.size > MAX_VALUES:
        return None
    packed = pack(values.tobytes())
    coded = encode_symbols(numbers.astype(np.uint8), None, int(values.size), 1)
    return (width, int(values.size)), write_unsigned(len(packed)) + packed + coded


def _memory(op: Op) -> int:
    return 4 * op.length + _FIXED_BYTES


def _decode(job: Job) -> Iterator[bytes]:
    numbers = job.op.parameters
    if len(numbers) != 2 or numbers[0] not in _WORDS or not 1 <= numbers[1] <= MAX_VALUES:
        raise DeltaError("its parameters are out of range", op=job.part)
    width, n_values = numbers
    cursor = Cursor(job.payload, job.part)
    packed = cursor.take(cursor.unsigned())
    values = np.frombuffer(unpack(packed, width * n_values, job.part, memory_bytes=1 << 16), _WORDS[width])
    coded = cursor.take(cursor.remaining)
    chosen = decode_symbols(coded, job.op.length // width, None, n_values, 1)
    for first in range(0, chosen.size, CHUNK_BYTES):
        yield values[chosen[first : first + CHUNK_BYTES]].tobytes()


PALETTE = Coder(_memory, _decode)
