"""Owns the delta file: its header, its program, and how both are written and read. `docs/delta-format.md` is the norm.

::

    header   "SQD" version flags · base digest, base length · result digest, result length · memory · program lengths
    program  packed; one record an op
    payloads of all ops in their order, nothing after them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ota_protocol.delta.limits import DEFAULT_LIMITS, Limits
from ota_protocol.delta.packing import pack, unpack
from ota_protocol.delta.source import Source
from ota_protocol.delta.varint import Cursor, write_signed, write_unsigned
from ota_protocol.digest import DigestHex
from ota_protocol.errors import DeltaError

MAGIC: Final = b"SQD"
VERSION: Final = 1
_HAS_BASE: Final = 1
MAX_HEADER_BYTES: Final = 5 + 2 * 32 + 5 * 9

OUTPUT: Final = 0
"""The destination that is the result; every other destination is a pool, numbered from 1."""


class Kind(IntEnum):
    """What an op does. A kind below 16 moves bytes, the others decode numbers."""

    COPY = 1
    """Ranges of the base, unchanged."""
    EMIT = 2
    """The next bytes of a pool."""
    INSERT = 3
    """Packed bytes, with ranges of the base as their dictionary."""
    ADD = 4
    """Ranges of the base plus packed differences, byte by byte modulo 256."""
    WEAVE = 5
    """Stretches of the base and packed bytes, in turn: text whose parts moved."""
    CODES = 16
    """Small integers, entropy-coded, with a base's as context."""
    MAGNITUDES = 17
    """Numbers that moved a little: steps in the ordered view, their size coded with the expected size as context."""
    PLANES = 18
    """Numbers without a counterpart: their first bytes, second bytes, ... packed apart."""
    PALETTE = 19
    """Numbers of few different values: the values, and which one each element has."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of the base."""

    offset: int
    length: int


_MOVES: Final[dict[int, int]] = {Kind.COPY: 0, Kind.EMIT: 1}
"""Kinds without a payload, and their number of parameters."""


def take(data: bytes, ranges: Sequence[Range]) -> bytes:
    """Return the bytes of the ranges, one after the other."""
    return b"".join(data[part.offset : part.offset + part.length] for part in ranges)


@dataclass(frozen=True, slots=True)
class Op:
    """One step of the program: it makes `length` bytes for its destination."""

    kind: int
    length: int
    destination: int = OUTPUT
    ranges: tuple[Range, ...] = ()
    parameters: tuple[int, ...] = ()
    payload_length: int = 0

    @property
    def reference_length(self) -> int:
        """Bytes of the base that the op names."""
        return sum(part.length for part in self.ranges)


@dataclass(frozen=True, slots=True)
class DeltaHeader:
    """What a delta says of itself before anything is done."""

    base_digest: DigestHex | None
    base_length: int
    result_digest: DigestHex
    result_length: int
    memory_bytes: int
    """Most working memory that an op together with the pools needs."""
    program_length: int
    packed_program_length: int
    header_length: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Delta:
    """A header and its program."""

    header: DeltaHeader
    ops: tuple[Op, ...]


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_delta(
    base: tuple[DigestHex, int] | None,
    result: tuple[DigestHex, int],
    memory_bytes: int,
    ops: Sequence[Op],
    payloads: Sequence[bytes],
) -> bytes:
    """Return the delta file.

    Args:
        base, result: digest and length; base is None for a compressed full.
        ops, payloads: of equal length.
    """
    program = _write_program(ops)
    packed = pack(program)
    head = bytearray(MAGIC + bytes([VERSION, _HAS_BASE if base else 0]))
    if base:
        head += bytes.fromhex(base[0]) + write_unsigned(base[1])
    head += bytes.fromhex(result[0]) + write_unsigned(result[1])
    head += write_unsigned(memory_bytes) + write_unsigned(len(program)) + write_unsigned(len(packed))
    return b"".join([bytes(head), packed, *payloads])


def _write_program(ops: Sequence[Op]) -> bytes:
    """Return the program field by field, not op by op: equal things lie together, which packs best."""
    out = bytearray(write_unsigned(len(ops)))
    coded = [op for op in ops if op.kind not in _MOVES]
    ranges = [part for op in ops for part in op.ranges]
    ends = [0, *(part.offset + part.length for part in ranges)]
    for value in (
        *(op.kind for op in ops),
        *(op.destination for op in ops),
        *(len(op.ranges) for op in ops if op.kind != Kind.EMIT),
        *(len(op.parameters) for op in coded),
        *(number for op in ops for number in op.parameters),
        *(op.payload_length for op in coded),
    ):
        out += write_unsigned(value)
    for value in (
        *(op.length for op in ops if op.kind != Kind.COPY),
        *(part.offset - end for part, end in zip(ranges, ends, strict=False)),
        *(part.length for part in ranges),
    ):
        out += write_signed(value)
    return bytes(out)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_header(delta: Source) -> DeltaHeader:
    """Read and check the header.

    Raises:
        DeltaError: ``header``; it is no delta, of another version, or cut off.
    """
    cursor = Cursor(delta.read(0, min(delta.length_bytes, MAX_HEADER_BYTES)), "header")
    if cursor.take(len(MAGIC)) != MAGIC:
        raise DeltaError("this is no delta file", op="header", remedy="check which file was given")
    version, flags = cursor.take(2)
    if version != VERSION:
        raise DeltaError(f"format version {version} is not {VERSION}", op="header", remedy="update the agent")
    if flags & ~_HAS_BASE:
        raise DeltaError(f"flags {flags:#04x} are unknown", op="header", remedy="update the agent")
    base_digest, base_length = (cursor.take(32).hex(), cursor.unsigned()) if flags & _HAS_BASE else (None, 0)
    return DeltaHeader(
        base_digest=base_digest,
        base_length=base_length,
        result_digest=cursor.take(32).hex(),
        result_length=cursor.unsigned(),
        memory_bytes=cursor.unsigned(),
        program_length=cursor.unsigned(),
        packed_program_length=cursor.unsigned(),
        header_length=cursor.position,
    )


def read_delta(delta: Source, *, limits: Limits = DEFAULT_LIMITS) -> Delta:
    """Read header and program, and check every bound that can be checked before work begins.

    Raises:
        DeltaError: ``header``, ``program``, ``op n (kind)`` or ``trailer``.
    """
    header = read_header(delta)
    _check_header(header, delta.length_bytes, limits)
    packed = delta.read(header.header_length, header.packed_program_length)
    program = unpack(packed, header.program_length, "program", memory_bytes=limits.control_bytes)
    ops = tuple(_read_program(Cursor(program, "program"), header, limits))
    _check_lengths(header, ops, delta.length_bytes)
    return Delta(header, ops)


def _check_header(header: DeltaHeader, delta_length: int, limits: Limits) -> None:
    for what, value, ceiling in (
        ("a result of", header.result_length, limits.result_bytes),
        ("working memory of", header.memory_bytes, limits.memory_bytes),
        ("a program of", header.program_length, limits.control_bytes),
    ):
        if value > ceiling:
            raise DeltaError(f"{what} {value:,} bytes is above the limit of {ceiling:,}", op="header")
    if header.header_length + header.packed_program_length > delta_length:
        raise DeltaError("the file ends within its program", op="program", remedy="fetch it again")


def _read_program(cursor: Cursor, header: DeltaHeader, limits: Limits) -> list[Op]:
    count = cursor.unsigned()
    if count > limits.ops:
        raise DeltaError(f"{count:,} ops are above the limit of {limits.ops:,}", op="program")
    kinds = [cursor.unsigned() for _ in range(count)]
    coded = sum(kind not in _MOVES for kind in kinds)
    if coded > limits.coded_ops:
        raise DeltaError(f"{coded:,} ops to decode are above the limit of {limits.coded_ops:,}", op="program")
    destinations = [cursor.unsigned() for _ in kinds]
    n_ranges = [0 if kind == Kind.EMIT else cursor.unsigned() for kind in kinds]
    n_parameters = [_MOVES.get(kind, -1) for kind in kinds]
    n_parameters = [cursor.unsigned() if number < 0 else number for number in n_parameters]
    _check_counts(kinds, n_ranges, n_parameters, cursor, limits)
    parameters = [tuple(cursor.unsigned() for _ in range(number)) for number in n_parameters]
    payloads = [0 if kind in _MOVES else cursor.unsigned() for kind in kinds]
    lengths = [None if kind == Kind.COPY else cursor.signed() for kind in kinds]
    ranges = _read_ranges(cursor, kinds, n_ranges, header.base_length)
    if cursor.remaining:
        raise DeltaError(f"{cursor.remaining} bytes follow its last op", op="program")
    made = [sum(p.length for p in own) if n is None else n for n, own in zip(lengths, ranges, strict=True)]
    fields = zip(kinds, made, destinations, ranges, parameters, payloads, strict=True)
    return [Op(*field) for field in fields]


def _check_counts(
    kinds: Sequence[int], n_ranges: Sequence[int], n_parameters: Sequence[int], cursor: Cursor, limits: Limits
) -> None:
    """A count of integers that follow cannot be larger than the bytes that follow."""
    ranges_left, bytes_left = limits.ranges, cursor.remaining
    for index, (kind, own_ranges, own_parameters) in enumerate(zip(kinds, n_ranges, n_parameters, strict=True)):
        ranges_left -= own_ranges
        bytes_left -= 2 * own_ranges + own_parameters
        if ranges_left < 0 or bytes_left < 0:
            part = name_op(index, kind)
            raise DeltaError(f"it has {own_ranges:,} ranges and {own_parameters:,} parameters, too many", op=part)


def _read_ranges(
    cursor: Cursor, kinds: Sequence[int], counts: Sequence[int], base_length: int
) -> list[tuple[Range, ...]]:
    total = sum(counts)
    gaps = [cursor.signed() for _ in range(total)]
    lengths = [cursor.signed() for _ in range(total)]
    ranges: list[tuple[Range, ...]] = []
    position = done = 0
    for index, (kind, count) in enumerate(zip(kinds, counts, strict=True)):
        own = []
        for gap, length in zip(gaps[done : done + count], lengths[done : done + count], strict=True):
            offset = position + gap
            position = offset + length
            if offset < 0 or length < 0 or position > base_length:
                raise DeltaError(
                    f"bytes {offset:,} to {position:,} lie outside the base of {base_length:,}",
                    op=name_op(index, kind),
                )
            own.append(Range(offset, length))
        ranges.append(tuple(own))
        done += count
    return ranges


def _check_lengths(header: DeltaHeader, ops: Sequence[Op], delta_length: int) -> None:
    for index, op in enumerate(ops):
        if op.length < 0:
            raise DeltaError("its length is negative", op=name_op(index, op.kind))
    produced = sum(op.length for op in ops if op.destination == OUTPUT)
    if produced != header.result_length:
        raise DeltaError(f"the ops make {produced:,} bytes, the header says {header.result_length:,}", op="program")
    end = header.header_length + header.packed_program_length + sum(op.payload_length for op in ops)
    if end != delta_length:
        raise DeltaError(
            f"the file has {delta_length:,} bytes, its ops need {end:,}", op="trailer", remedy="fetch it again"
        )


def name_op(index: int, kind: int) -> str:
    """Return how errors name op `index`: ``op 3 (insert)``."""
    try:
        return f"op {index} ({Kind(kind).name.lower()})"
    except ValueError:
        return f"op {index} (kind {kind})"
