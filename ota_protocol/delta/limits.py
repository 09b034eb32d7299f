"""Owns what an applier allows a delta to cost."""

from __future__ import annotations

from dataclasses import dataclass

from ota_protocol.manifest import MAX_ARTIFACT_BYTES


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings that hold whatever a header says."""

    memory_bytes: int = 64 << 20
    """Working memory beside the interpreter; a 100 MB network needs about half of it."""
    result_bytes: int = MAX_ARTIFACT_BYTES
    control_bytes: int = 4 << 20
    """Unpacked program; 100 MB of tensors take some 20 kB."""
    ops: int = 100_000
    coded_ops: int = 4_000
    """Ops that decode something: each takes milliseconds, even for a single byte; 1 GiB of tensors has some 500."""
    ranges: int = 1_000_000
    """Ranges of the base that all ops together name."""


DEFAULT_LIMITS = Limits()
