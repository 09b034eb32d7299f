"""The coder of symbols in given contexts: its edges, its efficiency, and that its format stays what it is."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from ota_protocol.delta.entropy import decode_symbols, encode_symbols
from ota_protocol.delta.frequencies import SCALE, count_table, pack_slots, read_table, write_table


def symbols_of(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Return (count,) symbols below 16 and the 9 contexts on which their spread depends, by integers alone."""
    generator = np.random.default_rng(seed)
    contexts = generator.integers(0, 9, count)
    draws = generator.integers(0, 1 << 15, count, dtype=np.uint32)
    return np.minimum(np.bitwise_count(draws) >> (contexts // 3).astype(np.uint8), 15).astype(np.uint8), contexts


def entropy_bits(symbols: NDArray[np.uint8], contexts: NDArray[np.intp]) -> float:
    counts = np.bincount(contexts * 16 + symbols, minlength=9 * 16).reshape(9, 16).astype(float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    return float(-(counts * np.log2(np.where(counts > 0, shares, 1))).sum())


@pytest.mark.parametrize("count", [50_000, 400_000])
def test_within_two_percent_of_the_conditional_entropy(count: int) -> None:
    symbols, contexts = symbols_of(count, 1)
    payload = encode_symbols(symbols, contexts, 16, 9)
    assert 8 * len(payload) < 1.02 * entropy_bits(symbols, contexts)
    np.testing.assert_array_equal(decode_symbols(payload, count, contexts, 16, 9), symbols)


def test_without_contexts() -> None:
    symbols, _ = symbols_of(3000, 2)
    payload = encode_symbols(symbols, None, 16, 1)
    np.testing.assert_array_equal(decode_symbols(payload, 3000, None, 16, 1), symbols)


def test_no_symbols() -> None:
    assert encode_symbols(np.zeros(0, np.uint8), None, 256, 1) == b""
    assert decode_symbols(b"", 0, None, 256, 1).size == 0


def test_one_symbol_repeated_takes_a_table_and_a_lane() -> None:
    symbols = np.full(500, 200, np.uint8)
    payload = encode_symbols(symbols, None, 256, 1)
    assert len(payload) < 48
    np.testing.assert_array_equal(decode_symbols(payload, 500, None, 256, 1), symbols)


def test_a_rare_symbol_keeps_a_place_in_the_table() -> None:
    symbols = np.zeros(100_000, np.uint8)
    symbols[5] = 1
    table = count_table(symbols, np.zeros(100_000, np.intp), 1, 3)
    assert table.tolist() == [[SCALE - 1, 1, 0]]


def test_tables_come_back() -> None:
    symbols, contexts = symbols_of(5000, 3)
    table = count_table(symbols, contexts, 9, 16)
    written = write_table(table)
    found, used_bytes = read_table(written + b"rest", 9, 16)
    assert used_bytes == len(written)
    np.testing.assert_array_equal(found, table)


def test_packed_slots_say_symbol_frequency_and_offset() -> None:
    packed = pack_slots(np.array([[1000, 3096]], np.uint32))
    entry = int(packed[1500])
    assert (entry >> 24, (entry >> 12 & 0xFFF) + 1, entry & 0xFFF) == (1, 3096, 500)


def test_the_format_has_not_drifted() -> None:
    """A new digest here means that vehicles in the field cannot read what is coded now."""
    symbols, contexts = symbols_of(70_000, 4)
    assert hashlib.sha256(encode_symbols(symbols, contexts, 16, 9)).hexdigest()[:16] == "f46c45cc827997da"
