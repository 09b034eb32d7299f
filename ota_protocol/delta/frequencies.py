"""Owns frequency tables: how often each symbol comes in each context, scaled, written, and read back.

A table row holds the frequencies of one context's symbols; it sums to 2**12, and every symbol that occurs has at least
one. Rows of contexts that never occur are empty.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.errors import DeltaError

PRECISION: Final = 12
"""Probabilities are multiples of 2**-12: one packed 32-bit entry holds symbol, frequency and offset."""
SCALE: Final = 1 << PRECISION

_GAMMA_PREFIX: Final = 13
"""Most zero bits before the first one in a table: frequencies + 1 stay below 2**13."""

Table = NDArray[np.uint32]


def count_table(symbols: NDArray[np.integer], contexts: NDArray[np.integer], n_contexts: int, alphabet: int) -> Table:
    """Return the (n_contexts, alphabet) table that codes `symbols` in `contexts` best."""
    joint = contexts.astype(np.int64) * alphabet + symbols
    counts = np.bincount(joint, minlength=n_contexts * alphabet).reshape(n_contexts, alphabet)
    return np.stack([_scale_row(row) for row in counts]) if n_contexts else counts.astype(np.uint32)


def _scale_row(counts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Scale one row to sum 2**12, at least 1 where a symbol occurs; the largest entry takes the rounding error."""
    total = int(counts.sum())
    if total == 0:
        return counts.astype(np.uint32)
    scaled = np.where(counts > 0, np.maximum(1, (2 * counts * SCALE + total) // (2 * total)), 0)
    while (excess := int(scaled.sum()) - SCALE) != 0:
        largest = int(scaled.argmax())
        scaled[largest] -= min(excess, int(scaled[largest]) // 2) if excess > 0 else excess
    return scaled.astype(np.uint32)


def write_table(table: Table) -> bytes:
    """Write a table as Elias gamma codes of its entries plus one (Elias 1975), zero-padded to a byte."""
    pieces = [format(int(value) + 1, "b") for value in table.ravel()]
    text = "".join("0" * (len(piece) - 1) + piece for piece in pieces)
    bits = np.frombuffer(text.encode(), np.uint8) - ord("0")
    return np.packbits(bits).tobytes()


def read_table(payload: bytes | memoryview, n_contexts: int, alphabet: int) -> tuple[Table, int]:
    """Return the table at the head of `payload` and the number of bytes that it took.

    Raises:
        DeltaError: it ends early, or a row does not sum to 2**12 or to nothing.
    """
    limit = (n_contexts * alphabet * (2 * _GAMMA_PREFIX + 1) + 7) // 8
    bits = np.unpackbits(np.frombuffer(payload[:limit], np.uint8))
    ones = np.append(np.flatnonzero(bits), bits.size + _GAMMA_PREFIX).tolist()
    values, position, next_one = [], 0, 0
    text = (bits + ord("0")).tobytes().decode()
    for _ in range(n_contexts * alphabet):
        while ones[next_one] < position:
            next_one += 1
        width = ones[next_one] - position + 1
        end = ones[next_one] + width
        if width > _GAMMA_PREFIX or end > bits.size:
            raise DeltaError("a frequency table is cut short or malformed", op="entropy")
        values.append(int(text[ones[next_one] : end], 2) - 1)
        position = end
    table = np.array(values, np.uint32).reshape(n_contexts, alphabet)
    sums = table.sum(axis=1)
    if not bool(np.all((sums == SCALE) | (sums == 0))):
        raise DeltaError("a frequency table does not sum to its scale", op="entropy")
    return table, -(-position // 8)


def pack_slots(table: Table) -> NDArray[np.uint32]:
    """Return for each (context, slot) ``symbol << 24 | (frequency - 1) << 12 | offset``, (n_contexts × 2**12,).

    Slots of an empty row belong to a symbol of frequency 1, so that broken data cannot reach out of the table.
    """
    n_contexts, alphabet = table.shape
    packed = np.zeros((n_contexts, SCALE), np.uint32)
    starts = np.cumsum(table, axis=1, dtype=np.uint32) - table
    labels = np.arange(alphabet, dtype=np.uint32) << np.uint32(24)
    for row in np.flatnonzero(table.any(axis=1)):
        own = table[row]
        entry = labels | ((own - np.uint32(1)) << np.uint32(12)) & np.uint32(0xFFF000)
        packed[row] = np.repeat(entry, own) + np.arange(SCALE, dtype=np.uint32) - np.repeat(starts[row], own)
    return packed.ravel()
