"""Owns the coders of plain bytes: packed text (INSERT) and byte-wise differences from the base (ADD)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ota_protocol.delta.coders.job import Coder, Job
from ota_protocol.delta.format import Op
from ota_protocol.delta.packing import unpack_memory, unpack_stream
from ota_protocol.errors import DeltaError


def _memory(op: Op) -> int:
    return unpack_memory(op.length, op.reference_length)


def _insert(job: Job) -> Iterator[bytes]:
    return unpack_stream(job.payload, job.op.length, job.part, dictionary=job.reference, memory_bytes=job.memory_bytes)


def _add(job: Job) -> Iterator[bytes]:
    if len(job.reference) != job.op.length:
        raise DeltaError(f"{len(job.reference):,} bytes of the base for {job.op.length:,}", op=job.part)
    position = 0
    for chunk in unpack_stream(job.payload, job.op.length, job.part, memory_bytes=job.memory_bytes):
        known = np.frombuffer(job.reference, np.uint8, len(chunk), position)
        position += len(chunk)
        yield (known + np.frombuffer(chunk, np.uint8)).tobytes()


INSERT = Coder(_memory, _insert)
ADD = Coder(_memory, _add)
