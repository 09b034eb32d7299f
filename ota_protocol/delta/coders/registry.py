"""Owns the list of coders, and what a whole program needs of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ota_protocol.delta.coders.codes import CODES
from ota_protocol.delta.coders.insert import ADD, INSERT
from ota_protocol.delta.coders.job import Coder
from ota_protocol.delta.coders.magnitudes import MAGNITUDES
from ota_protocol.delta.coders.palette import PALETTE
from ota_protocol.delta.coders.planes import PLANES
from ota_protocol.delta.coders.weave import WEAVE
from ota_protocol.delta.format import OUTPUT, Kind, Op
from ota_protocol.delta.packing import CHUNK_BYTES

CODERS: Final[dict[int, Coder]] = {
    Kind.INSERT: INSERT,
    Kind.ADD: ADD,
    Kind.WEAVE: WEAVE,
    Kind.CODES: CODES,
    Kind.MAGNITUDES: MAGNITUDES,
    Kind.PLANES: PLANES,
    Kind.PALETTE: PALETTE,
}


def op_memory(op: Op) -> int:
    """Return the bytes that one op needs while it runs: reference, payload, and what its coder works with."""
    coder = CODERS.get(op.kind)
    return op.reference_length + op.payload_length + coder.memory(op) if coder else CHUNK_BYTES


def program_memory(ops: Sequence[Op]) -> int:
    """Return the most bytes that are alive at once: what the pools hold, and one op."""
    pools = most = 0
    for op in ops:
        pools += op.length if op.destination != OUTPUT else 0
        most = max(most, pools + op_memory(op))
        pools -= op.length if op.kind == Kind.EMIT else 0
    return most
