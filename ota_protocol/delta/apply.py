"""Owns the running of a delta: base and program in, result out, piece by piece, within what was declared and allowed.

It knows nothing of ONNX, and trusts nothing: the base must have the digest that the header names, every op stays
within its bounds, and the result must have its digest. Whoever writes the pieces to a disk throws them away when an
error comes, since the digest of the result is known only at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ota_protocol.delta.coders.job import Job
from ota_protocol.delta.coders.registry import CODERS, op_memory, program_memory
from ota_protocol.delta.format import OUTPUT, Delta, DeltaHeader, Kind, Op, name_op, read_delta
from ota_protocol.delta.limits import DEFAULT_LIMITS, Limits
from ota_protocol.delta.packing import CHUNK_BYTES
from ota_protocol.delta.pools import Pools
from ota_protocol.delta.source import BytesSource, Source
from ota_protocol.errors import DeltaError

_FOREIGN: Final = (ValueError, IndexError, KeyError, OverflowError, MemoryError, EOFError)
"""What numpy and the standard library raise on numbers that no encoder writes."""


def apply(
    base: Source | None, delta: Source, write: Callable[[bytes], object], *, limits: Limits = DEFAULT_LIMITS
) -> DeltaHeader:
    """Run `delta` over `base` and hand the result to `write`, piece by piece.

    Args:
        base: the file that the delta was made for; None for a compressed full.
        write: called with consecutive pieces of the result; what it raises passes through.

    Raises:
        DeltaError: the delta is broken, hostile, needs more than `limits`, or is meant for another base.
    """
    plan = read_delta(delta, limits=limits)
    header = plan.header
    if program_memory(plan.ops) > header.memory_bytes:
        raise DeltaError("the ops need more memory than the header declares", op="program")
    checked_base = _require_base(base, header)
    hasher = hashlib.sha256()
    for piece in _Machine(checked_base, delta).run(plan):
        hasher.update(piece)
        write(piece)
    if hasher.hexdigest() != header.result_digest:
        raise DeltaError(
            "the result does not have the digest that the header names", op="trailer", remedy="fetch another candidate"
        )
    return header


def apply_bytes(base: bytes | None, delta: bytes, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the result of `delta` over `base`, all in memory.

    Raises:
        DeltaError: as `apply`.
    """
    pieces: list[bytes] = []
    apply(None if base is None else BytesSource(base), BytesSource(delta), pieces.append, limits=limits)
    return b"".join(pieces)


def _require_base(base: Source | None, header: DeltaHeader) -> Source:
    if header.base_digest is None:
        return BytesSource(b"")
    if base is None:
        raise DeltaError(f"it needs the base {header.base_digest[:16]}…", op="base", remedy="give the base file")
    hasher = hashlib.sha256()
    if base.length_bytes == header.base_length:
        for offset in range(0, base.length_bytes, CHUNK_BYTES):
            hasher.update(_read(base, offset, min(CHUNK_BYTES, base.length_bytes - offset), "base"))
    if hasher.hexdigest() != header.base_digest:
        raise DeltaError(
            f"it is meant for the base {header.base_digest[:16]}…, not for this file",
            op="base",
            remedy="take the delta for this base, or the compressed full",
        )
    return base


def _read(source: Source, offset: int, length: int, part: str) -> bytes:
    data = source.read(offset, length)
    if len(data) != length:
        raise DeltaError(f"{len(data):,} of {length:,} bytes could be read at {offset:,}", op=part)
    return data


@dataclass(frozen=True, slots=True)
class _Machine:
    """What ops work on."""

    base: Source
    delta: Source
    pools: Pools = field(default_factory=Pools)

    def run(self, plan: Delta) -> Iterator[bytes]:
        """Yield the pieces of the result."""
        position = plan.header.header_length + plan.header.packed_program_length
        for index, op in enumerate(plan.ops):
            part = name_op(index, op.kind)
            left = op.length
            for piece in self._pieces(op, part, position):
                left -= len(piece)
                if left < 0:
                    break
                if op.destination == OUTPUT:
                    yield piece
                else:
                    self.pools.append(op.destination, piece)
            if left:
                raise DeltaError(f"it does not make the {op.length:,} bytes that it declares", op=part)
            position += op.payload_length

    def _pieces(self, op: Op, part: str, position: int) -> Iterator[bytes]:
        if op.kind == Kind.COPY:
            yield from self._copy(op, part)
        elif op.kind == Kind.EMIT:
            yield self._emit(op, part)
        elif op.kind in CODERS:
            yield from self._decode(op, part, position)
        else:
            raise DeltaError("this kind of op is unknown", op=part, remedy="update the agent")

    def _copy(self, op: Op, part: str) -> Iterator[bytes]:
        for taken in op.ranges:
            for first in range(0, taken.length, CHUNK_BYTES):
                yield _read(self.base, taken.offset + first, min(CHUNK_BYTES, taken.length - first), part)

    def _emit(self, op: Op, part: str) -> bytes:
        if len(op.parameters) != 1:
            raise DeltaError("it names no pool", op=part)
        return self.pools.emit(op.parameters[0], op.length, part)

    def _decode(self, op: Op, part: str, position: int) -> Iterator[bytes]:
        reference = b"".join(_read(self.base, taken.offset, taken.length, part) for taken in op.ranges)
        payload = _read(self.delta, position, op.payload_length, part)
        try:
            yield from CODERS[op.kind].decode(Job(op, part, reference, payload, self.pools, op_memory(op)))
        except DeltaError as error:
            raise error if error.op == part else DeltaError(error.message, op=part, remedy=error.remedy) from error
        except _FOREIGN as error:
            raise DeltaError(f"its numbers make no sense ({type(error).__name__})", op=part) from error
