"""Owns the coder of text that is woven from stretches of the base and bytes of its own (WEAVE).

Parameters: number of covers, length of the unpacked payload. The payload is one packed string: how many literals come
before each cover (unsigned), how far each cover begins from the end of the cover before (signed), the length of each
(unsigned), then the literals, those after the last cover included.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ota_protocol.delta.coders.job import Coder, Job
from ota_protocol.delta.covers import LEAST_COVER, MAX_BYTES, find_covers
from ota_protocol.delta.format import Op
from ota_protocol.delta.packing import pack, unpack, unpack_memory
from ota_protocol.delta.varint import Cursor, write_signed, write_unsigned
from ota_protocol.errors import DeltaError

_MOST_COVERS: Final = MAX_BYTES // LEAST_COVER
"""Each is read and run by itself; more would take seconds."""
_BYTES_A_COVER: Final = 192
"""Three integers, and the lists that hold them."""


def encode(text: bytes, known: bytes) -> tuple[tuple[int, int], bytes] | None:
    """Return parameters and payload of a text; None where they are too long or share nothing."""
    if len(text) + len(known) >= MAX_BYTES:
        return None
    covers = find_covers(known, text)
    if not covers:
        return None
    places = [0, *(cover.end for cover in covers)]
    sources = [0, *(cover.base + cover.length for cover in covers)]
    literals = [text[end : cover.text] for end, cover in zip(places, covers, strict=False)]
    columns = (
        *(write_unsigned(len(part)) for part in literals),
        *(write_signed(cover.base - end) for end, cover in zip(sources, covers, strict=False)),
        *(write_unsigned(cover.length) for cover in covers),
    )
    data = b"".join([*columns, *literals, text[places[-1] :]])
    return (len(covers), len(data)), pack(data)


def _memory(op: Op) -> int:
    covers, length = _parameters(op)
    return unpack_memory(length) + 2 * length + op.length + _BYTES_A_COVER * covers


def _parameters(op: Op) -> tuple[int, int]:
    """Return them as they are, or none; what is out of range is refused when the op is run."""
    return (op.parameters[0], op.parameters[1]) if len(op.parameters) == 2 else (0, 0)


def _decode(job: Job) -> Iterator[bytes]:
    covers, length = _parameters(job.op)
    if len(job.op.parameters) != 2 or covers > _MOST_COVERS:
        raise DeltaError("its parameters are out of range", op=job.part)
    data = unpack(job.payload, length, job.part, memory_bytes=job.memory_bytes)
    cursor = Cursor(data, job.part)
    literals = [cursor.unsigned() for _ in range(covers)]
    gaps = [cursor.signed() for _ in range(covers)]
    lengths = [cursor.unsigned() for _ in range(covers)]
    end = 0
    for literal, gap, cover in zip(literals, gaps, lengths, strict=True):
        start = end + gap
        end = start + cover
        if start < 0 or cover < LEAST_COVER or end > len(job.reference):
            raise DeltaError(f"bytes {start:,} to {end:,} lie outside its {len(job.reference):,}", op=job.part)
        yield cursor.take(literal)
        yield job.reference[start:end]
    yield cursor.take(cursor.remaining)


WEAVE = Coder(_memory, _decode)
