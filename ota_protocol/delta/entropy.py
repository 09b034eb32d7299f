"""Owns the lossless coding of integers: symbols in given contexts, and the integer codes of quantised weights.

What is coded carries neither its length nor its shape: whoever decodes knows both from elsewhere, and has bounded
them. All bytes are the same on every machine. Every fault of a payload is a `DeltaError` whose op is ``entropy``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.frequencies import PRECISION, count_table, pack_slots, read_table, write_table
from ota_protocol.delta.rans import LaneDecoder, LaneEncoder
from ota_protocol.errors import DeltaError

MAX_ALPHABET: Final = 256
MAX_CONTEXTS: Final = 1024

_SYMBOLS_A_LANE: Final = 1024
_MAX_LANES: Final = 1024
_ESCAPE: Final = 62
"""Symbol of every code whose zigzag value is 62 or more; the excess follows as four plain bytes."""
_CONTEXT_REACH: Final = 7

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
    lanes = _lanes(symbols.size)
    encoder = LaneEncoder(lanes, PRECISION)
    encoder.push(starts[context, symbols], table[context, symbols])
    return write_table(table) + encoder.finish(np.zeros(lanes, np.uint16))


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
    decoder = LaneDecoder(payload[table_bytes:], _lanes(count), PRECISION)
    rows = None if contexts is None else contexts.astype(np.uint32) << np.uint32(PRECISION)
    symbols = decoder.looked_up(rows, count, packed)
    decoder.finish()
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
    flat = _flatten(tensors)
    zigzag = (flat.astype(np.int64) << 1) ^ (flat.astype(np.int64) >> 63)
    escaped = zigzag >= _ESCAPE
    extra = (zigzag[escaped] - _ESCAPE).astype("<u4").tobytes()
    symbols = np.where(escaped, _ESCAPE, zigzag).astype(np.uint8)
    sizes = [tensor.size for tensor in tensors]
    body = encode_symbols(symbols, _quantise_contexts(sizes, contexts), _ESCAPE + 1, 2 * _CONTEXT_REACH + 2)
    return len(extra).to_bytes(4, "little") + extra + body


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
    sizes = [math.prod(shape) for shape in shapes]
    extra_bytes = int.from_bytes(payload[:4], "little")
    if len(payload) < 4 + extra_bytes or extra_bytes % 4:
        raise DeltaError("coded data ended early", op="entropy")
    quantised = _quantise_contexts(sizes, contexts)
    symbols = decode_symbols(payload[4 + extra_bytes :], sum(sizes), quantised, _ESCAPE + 1, 2 * _CONTEXT_REACH + 2)
    zigzag = symbols.astype(np.int64)
    escaped = np.flatnonzero(symbols == _ESCAPE)
    if 4 * escaped.size != extra_bytes:
        raise DeltaError("the number of large codes does not match", op="entropy")
    zigzag[escaped] += np.frombuffer(payload[4 : 4 + extra_bytes], "<u4")
    codes = (zigzag >> 1) ^ -(zigzag & 1)
    if codes.size and int(np.abs(codes).max()) > max_abs:
        raise DeltaError(f"a code lies beyond ±{max_abs}", op="entropy")
    ends = np.cumsum(sizes)
    return [
        codes[end - size : end].astype(np.int32).reshape(shape)
        for end, size, shape in zip(ends, sizes, shapes, strict=True)
    ]


def _lanes(count: int) -> int:
    return max(1, min(_MAX_LANES, count // _SYMBOLS_A_LANE))


def _flatten(tensors: Sequence[Codes]) -> Codes:
    return np.concatenate([np.zeros(0, np.int32), *(tensor.ravel() for tensor in tensors)])


def _quantise_contexts(sizes: Sequence[int], contexts: Sequence[Codes | None] | None) -> NDArray[np.int64]:
    """Return for each code of all tensors its table: 0 without a context, else 1 + the clipped base code."""
    table = np.zeros(sum(sizes), np.int64)
    first = 0
    for size, context in zip(sizes, contexts or [None] * len(sizes), strict=True):
        if context is not None:
            table[first : first + size] = np.clip(context.ravel(), -_CONTEXT_REACH, _CONTEXT_REACH) + _CONTEXT_REACH + 1
        first += size
    return table


def _require_empty(payload: bytes | memoryview) -> None:
    if len(payload):
        raise DeltaError("coded data for no symbols", op="entropy")
