"""Owns the lossless coding of integers: symbols in given contexts, and the integer codes of quantised weights.

What is coded carries neither its length nor its shape: whoever decodes knows both from elsewhere, and has bounded
them. All bytes are the same on every machine. Every fault of a payload is a `DeltaError` whose op is ``entropy``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.code_stream import decode_stream, encode_stream
from ota_protocol.delta.frequencies import PRECISION, count_table, pack_slots, read_table, write_table
from ota_protocol.delta.rans import FEW_LANES, LAST_LANES, LaneDecoder, LaneEncoder
from ota_protocol.errors import DeltaError

MAX_ALPHABET: Final = 256
MAX_CONTEXTS: Final = 1024

_SYMBOLS_A_LANE: Final = 1024
_MAX_LANES: Final = 1024
_RETIRE_STEPS: Final = 2
_LAST_SYMBOLS_A_LANE: Final = 12
"""Twelve symbols of 1.3 bits or more fill the 16 bits that a lane starts from."""

Codes = NDArray[np.int32]
Symbols = NDArray[np.uint8]


def encode_symbols(symbols: Symbols, contexts: NDArray[np.integer] | None, alphabet: int, n_contexts: int) -> bytes:
    """Code symbols with one static table a context: quick to decode, and right where contexts are known beforehand.

    Args:
        symbols: (n,) below `alphabet` (at most 256).
        contexts: (n,) below `n_contexts` (at most 1,024); None where all share one.
    """
    if symbols.size == 0:
        return b""
    context = np.zeros(symbols.size, np.int64) if contexts is None else contexts.astype(np.int64)
    table = count_table(symbols, context, n_contexts, alphabet)
    starts = np.cumsum(table, axis=1, dtype=np.uint32) - table
    encoder = LaneEncoder(PRECISION)
    lanes = _lanes(symbols.size)
    for part in _parts(symbols.size, lanes):
        encoder.begin_step(0)
        encoder.push(starts[context[part], symbols[part]], table[context[part], symbols[part]])
    return write_table(table) + encoder.finish(lanes, _RETIRE_STEPS)


def decode_symbols(
    payload: bytes | memoryview, count: int, contexts: NDArray[np.integer] | None, alphabet: int, n_contexts: int
) -> Symbols:
    """Return the (count,) symbols that `encode_symbols` coded with the same contexts.

    Raises:
        DeltaError: the payload is not what was coded.
    """
    if count == 0:
        _require_empty(payload)
        return np.zeros(0, np.uint8)
    table, table_bytes = read_table(payload, n_contexts, alphabet)
    packed = pack_slots(table)
    lanes = _lanes(count)
    decoder = LaneDecoder(payload[table_bytes:], lanes, PRECISION, _RETIRE_STEPS)
    rows = None if contexts is None else contexts.astype(np.uint32) << np.uint32(PRECISION)
    symbols = np.empty(count, np.uint8)
    for left, part in zip((3, 2, 1), _parts(count, lanes), strict=True):
        decoder.begin_step(left)
        decoder.look_up(rows if rows is None else rows[part], packed, symbols[part])
    _require_empty(decoder.finish())
    return symbols


def encode_codes(codes: Codes, *, context: Codes | None = None) -> bytes:
    """Code the integer codes of one tensor of any shape.

    Args:
        codes: int32, any shape; a weight tensor is (O, I, kh, kw).
        context: int32 of the same shape, known to both ends; the base release's codes.
    """
    return encode_many([codes], contexts=[context])


def decode_codes(
    payload: bytes | memoryview, shape: tuple[int, ...], *, context: Codes | None = None, max_abs: int
) -> Codes:
    """Return the codes of `shape` that `encode_codes` coded with the same context.

    Raises:
        DeltaError: the payload is not what was coded, or a code lies beyond ±`max_abs`.
    """
    return decode_many(payload, [shape], contexts=[context], max_abs=max_abs)[0]


def encode_many(tensors: Sequence[Codes], *, contexts: Sequence[Codes | None] | None = None) -> bytes:
    """Code the tensors of one network in one stream: they share lanes and statistics, so this beats one by one.

    Args:
        tensors: int32 codes, any shapes, in the network's order.
        contexts: per tensor None, or codes of the same shape that both ends know.
    """
    return encode_stream(tensors, [None] * len(tensors) if contexts is None else contexts)


def decode_many(
    payload: bytes | memoryview,
    shapes: Sequence[tuple[int, ...]],
    *,
    contexts: Sequence[Codes | None] | None = None,
    max_abs: int,
) -> list[Codes]:
    """Return the tensors that `encode_many` coded with the same contexts.

    Raises:
        DeltaError: the payload is not what was coded, or a code lies beyond ±`max_abs`.
    """
    return decode_stream(payload, shapes, [None] * len(shapes) if contexts is None else contexts, max_abs)


def _lanes(count: int) -> int:
    return max(1, min(_MAX_LANES, count // _SYMBOLS_A_LANE))


def _parts(count: int, lanes: int) -> tuple[slice, slice, slice]:
    """Return what all lanes code, what the few, and what the last: as much as the retired need to start from."""
    last = 0 if lanes <= LAST_LANES else _LAST_SYMBOLS_A_LANE * min(FEW_LANES, lanes)
    few = 0 if lanes <= FEW_LANES else _LAST_SYMBOLS_A_LANE * lanes
    return slice(0, count - few - last), slice(count - few - last, count - last), slice(count - last, count)


def _require_empty(payload: bytes | memoryview) -> None:
    if len(payload):
        raise DeltaError("there are bytes for no symbols", op="entropy")
