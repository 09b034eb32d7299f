"""What is coded comes back exactly, whatever its shape, range and context."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ota_protocol.delta.entropy import (
    decode_codes,
    decode_many,
    decode_symbols,
    encode_codes,
    encode_many,
    encode_symbols,
)

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=9)


def codes_of(shape: tuple[int, ...], seed: int, spread: float) -> NDArray[np.int32]:
    return np.round(np.random.default_rng(seed).laplace(0, spread, shape)).astype(np.int32)


@given(SHAPES, st.integers(0, 2**32), st.sampled_from([0.1, 0.6, 3.0, 40.0, 1e6]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_codes_come_back(shape: tuple[int, ...], seed: int, spread: float, conditioned: bool) -> None:
    codes = codes_of(shape, seed, spread)
    context = codes + codes_of(shape, seed + 1, 0.3) if conditioned else None
    payload = encode_codes(codes, context=context)
    np.testing.assert_array_equal(decode_codes(payload, shape, context=context, max_abs=2**30), codes)


@given(st.lists(SHAPES, max_size=5), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_many_tensors_come_back(shapes: list[tuple[int, ...]], seed: int) -> None:
    tensors = [codes_of(shape, seed + index, 1.0 + index) for index, shape in enumerate(shapes)]
    found = decode_many(encode_many(tensors), shapes, max_abs=2**30)
    for expected, actual in zip(tensors, found, strict=True):
        np.testing.assert_array_equal(actual, expected)


@given(st.integers(0, 5000), st.integers(1, 256), st.integers(1, 300), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_symbols_come_back(count: int, alphabet: int, n_contexts: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    symbols = np.minimum(generator.geometric(0.2, count) - 1, alphabet - 1).astype(np.uint8)
    contexts = generator.integers(0, n_contexts, count)
    payload = encode_symbols(symbols, contexts, alphabet, n_contexts)
    np.testing.assert_array_equal(decode_symbols(payload, count, contexts, alphabet, n_contexts), symbols)
