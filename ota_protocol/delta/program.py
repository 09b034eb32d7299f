"""Owns a program under construction: ops beside their payloads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ota_protocol.delta.coders.registry import program_memory
from ota_protocol.delta.format import Kind, Op, Range, write_delta
from ota_protocol.digest import sha256_hex


@dataclass(slots=True)
class Program:
    """Ops and payloads, in order."""

    ops: list[Op] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)

    def add(self, op: Op, payload: bytes = b"") -> None:
        """Add an op at the end, or join it with the last one where both copy, or emit from one pool."""
        joined = _join(self.ops[-1], op) if self.ops else None
        if joined is not None:
            self.ops[-1] = joined
            return
        self.ops.append(replace(op, payload_length=len(payload)))
        self.payloads.append(payload)

    def to_bytes(self, base: bytes | None, result: bytes) -> bytes:
        """Return the delta file."""
        known = None if base is None else (sha256_hex(base), len(base))
        memory = program_memory(self.ops)
        return write_delta(known, (sha256_hex(result), len(result)), memory, self.ops, self.payloads)


def _join(last: Op, op: Op) -> Op | None:
    """Return one op that does the work of two; None where there is none."""
    length = last.length + op.length
    if last.kind == op.kind == Kind.EMIT and last.parameters == op.parameters:
        return replace(last, length=length)
    if last.kind == op.kind == Kind.COPY:
        *before, tail = last.ranges
        head, *after = op.ranges
        if tail.offset + tail.length == head.offset:
            middle = [Range(tail.offset, tail.length + head.length)]
        else:
            middle = [tail, head]
        return replace(last, length=length, ranges=(*before, *middle, *after))
    return None
