"""Owns a program under construction: ops beside their payloads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ota_protocol.delta.coders.registry import program_memory
from ota_protocol.delta.format import Op, write_delta
from ota_protocol.digest import sha256_hex


@dataclass(slots=True)
class Program:
    """Ops and payloads, in order."""

    ops: list[Op] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)

    def add(self, op: Op, payload: bytes = b"") -> None:
        """Add an op at the end; its payload's length is filled in."""
        self.ops.append(replace(op, payload_length=len(payload)))
        self.payloads.append(payload)

    def to_bytes(self, base: bytes | None, result: bytes) -> bytes:
        """Return the delta file."""
        known = None if base is None else (sha256_hex(base), len(base))
        memory = program_memory(self.ops)
        return write_delta(known, (sha256_hex(result), len(result)), memory, self.ops, self.payloads)
