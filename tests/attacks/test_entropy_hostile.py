"""Broken and hostile payloads: always a `DeltaError` that names the coder, or other codes; never anything else."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ota_protocol.delta.code_stream import decode_stream
from ota_protocol.delta.entropy import (
    decode_codes,
    decode_many,
    decode_symbols,
    encode_codes,
    encode_many,
    encode_symbols,
)
from ota_protocol.errors import DeltaError

SHAPES = [(12, 9, 3, 3), (20, 12)]
GENERATOR = np.random.default_rng(0)
TENSORS = [GENERATOR.integers(-6, 7, shape).astype(np.int32) for shape in SHAPES]
PAYLOAD = encode_many(TENSORS)
SMOOTH = np.repeat(GENERATOR.integers(-9, 10, (40, 20, 1, 1)), 9, axis=2).reshape(40, 20, 3, 3).astype(np.int32)
FITTED = encode_codes(SMOOTH)
SYMBOLS = GENERATOR.integers(0, 12, 4000).astype(np.uint8)
CODED_SYMBOLS = encode_symbols(SYMBOLS, None, 12, 1)


def decode_or_refuse(payload: bytes) -> None:
    """Decode as a vehicle would; anything but codes of the right shape or a `DeltaError` of the coder fails."""
    try:
        found = decode_many(payload, SHAPES, max_abs=127)
    except DeltaError as error:
        assert error.op == "entropy"
    else:
        assert [tensor.shape for tensor in found] == SHAPES


def test_the_fitted_payload_has_parameters() -> None:
    assert FITTED[0] & 0x80


@pytest.mark.parametrize("length", range(0, len(PAYLOAD), 29))
def test_truncated(length: int) -> None:
    with pytest.raises(DeltaError) as caught:
        decode_many(PAYLOAD[:length], SHAPES, max_abs=127)
    assert caught.value.op == "entropy"


@pytest.mark.parametrize("length", [3, 4, 5, 6, 9, 20, len(FITTED) - 1])
def test_truncated_in_the_parameters(length: int) -> None:
    with pytest.raises(DeltaError):
        decode_codes(FITTED[:length], SMOOTH.shape, max_abs=127)


@pytest.mark.parametrize("extra", [b"\0", b"\0\0", b"\xff" * 7])
def test_bytes_left_over(extra: bytes) -> None:
    with pytest.raises(DeltaError, match="left over"):
        decode_many(PAYLOAD + extra, SHAPES, max_abs=127)
    with pytest.raises(DeltaError, match="no symbols"):
        decode_symbols(CODED_SYMBOLS + extra, SYMBOLS.size, None, 12, 1)


def test_bytes_for_no_codes() -> None:
    with pytest.raises(DeltaError, match="no codes"):
        decode_codes(b"x", (0, 3), max_abs=1)
    with pytest.raises(DeltaError, match="no symbols"):
        decode_symbols(b"x", 0, None, 2, 1)


@pytest.mark.parametrize(
    "head", [(0, 9, 0, 1, 1, 1), (125, 9, 0, 1, 1, 1), (4, 11, 0, 1, 1, 1), (4, 0, 0, 1, 1, 1), (4, 9, 0, 1, 0, 1)]
)
def test_a_head_out_of_range(head: tuple[int, ...]) -> None:
    with pytest.raises(DeltaError, match="head is out of range"):
        decode_codes(bytes(head) + bytes(4000), (300, 300), max_abs=127)


def test_parameters_within_parameters() -> None:
    with pytest.raises(DeltaError, match="parameters of their own"):
        decode_stream(b"\x81\x00\x00\x01\x01\x01" + bytes(40), [(4, 4)], [None], 127, fitted=False)


def test_too_few_lanes_would_take_for_ever() -> None:
    with pytest.raises(DeltaError, match="head is out of range"):
        decode_codes(bytes([20, 2, 0, 9, 9, 9]) + b"\xff" * 100_000, (4096, 4096), max_abs=127)


def test_thousands_of_tiny_tensors_take_no_more_than_large_ones() -> None:
    shapes = [(1,)] * 20_000
    tensors = [np.full(1, number % 3, np.int32) for number in range(20_000)]
    payload = encode_many(tensors)
    started = time.process_time()
    found = decode_many(payload, shapes, max_abs=2)
    assert [int(tensor[0]) for tensor in found] == [number % 3 for number in range(20_000)]
    assert time.process_time() - started < 5


def test_kernels_of_many_sizes() -> None:
    shapes = [(2, 2, height, width) for height in range(1, 8) for width in range(1, 8)]
    tensors = [np.full(shape, number % 5 - 2, np.int32) for number, shape in enumerate(shapes)]
    for expected, found in zip(tensors, decode_many(encode_many(tensors), shapes, max_abs=2), strict=True):
        np.testing.assert_array_equal(found, expected)


@given(st.binary(max_size=400))
@settings(max_examples=40, deadline=None)
def test_random_bytes(data: bytes) -> None:
    decode_or_refuse(data)


@given(st.binary(max_size=400))
@settings(max_examples=40, deadline=None)
def test_random_bytes_after_a_right_head(data: bytes) -> None:
    decode_or_refuse(PAYLOAD[:6] + data)


@given(st.integers(0, len(PAYLOAD) - 1), st.integers(1, 255))
@settings(max_examples=40, deadline=None)
def test_a_byte_changed(place: int, change: int) -> None:
    broken = bytearray(PAYLOAD)
    broken[place] ^= change
    decode_or_refuse(bytes(broken))


@given(st.integers(0, len(FITTED) - 1), st.integers(1, 255))
@settings(max_examples=25, deadline=None)
def test_a_byte_changed_where_there_are_parameters(place: int, change: int) -> None:
    broken = bytearray(FITTED)
    broken[place] ^= change
    try:
        assert decode_codes(bytes(broken), SMOOTH.shape, max_abs=127).shape == SMOOTH.shape
    except DeltaError as error:
        assert error.op == "entropy"


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda data: CODED_SYMBOLS[:40] + data)))
@settings(max_examples=100, deadline=None)
def test_random_bytes_as_symbols(data: bytes) -> None:
    try:
        assert decode_symbols(data, SYMBOLS.size, None, 12, 1).size == SYMBOLS.size
    except DeltaError as error:
        assert error.op == "entropy"
