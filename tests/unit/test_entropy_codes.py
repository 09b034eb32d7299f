"""The coder of weight codes: its edges, its efficiency, and that its format stays what it is."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from ota_protocol.delta.entropy import decode_codes, decode_many, encode_codes, encode_many
from ota_protocol.errors import DeltaError, RequestError
from tests.support.code_audit import audit

Codes = NDArray[np.int32]
NETWORK = ((24, 3, 3, 3), (32, 24, 1, 1), (48, 32, 3, 3), (40, 48), (40,))


def codes_of(shape: tuple[int, ...], seed: int, spread: int = 6) -> Codes:
    """Return codes around zero, made by integers alone; each output channel has a width of its own."""
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, spread, (4, *shape)).astype(np.int32)
    divisor = (np.arange(shape[0]) % 3 + 1).reshape(-1, *[1] * (len(shape) - 1))
    codes: Codes = ((draws[0] + draws[1] - draws[2] - draws[3]) // divisor).astype(np.int32)
    return codes


def network(spread: int = 6) -> list[Codes]:
    return [codes_of(shape, seed, spread) for seed, shape in enumerate(NETWORK)]


@pytest.mark.parametrize("shape", [(0,), (4, 0), (3, 0, 3, 3), ()])
def test_no_codes_or_one(shape: tuple[int, ...]) -> None:
    codes = np.full(shape, 3, np.int32)
    payload = encode_codes(codes)
    assert len(payload) == (0 if codes.size == 0 else 9)
    np.testing.assert_array_equal(decode_codes(payload, shape, max_abs=3), codes)


def test_no_tensors() -> None:
    assert encode_many([]) == b""
    assert decode_many(b"", [], max_abs=1) == []


@pytest.mark.parametrize("value", [0, 1, -1])
def test_a_constant_tensor_takes_next_to_nothing(value: int) -> None:
    codes = np.full((64, 32, 3, 3), value, np.int32)
    payload = encode_codes(codes)
    assert len(payload) < 400
    np.testing.assert_array_equal(decode_codes(payload, codes.shape, max_abs=1), codes)


@pytest.mark.parametrize("value", [40, -127, 100_000, 2**31 - 1, -(2**31) + 1])
def test_large_codes_come_back(value: int) -> None:
    codes = codes_of((16, 16, 3, 3), 1)
    codes[::5, ::3, 1] = value
    payload = encode_codes(codes)
    np.testing.assert_array_equal(decode_codes(payload, codes.shape, max_abs=2**31 - 1), codes)


def test_a_small_tensor_pays_no_large_header() -> None:
    codes = codes_of((20, 15), 0)
    values, counts = np.unique(codes, return_counts=True)
    order0_bytes = float(-(counts * np.log2(counts / codes.size)).sum()) / 8
    assert values.size > 8
    assert len(encode_codes(codes)) < order0_bytes + 32


def test_joint_coding_beats_tensor_by_tensor() -> None:
    tensors = network()
    assert len(encode_many(tensors)) < sum(len(encode_codes(tensor)) for tensor in tensors) - 40


def test_a_base_is_made_use_of() -> None:
    base = codes_of((96, 80), 5)
    codes = base.copy()
    codes[::7, ::9] += 1
    alone, given = encode_codes(codes), encode_codes(codes, context=base)
    assert len(given) < 0.5 * len(alone)
    np.testing.assert_array_equal(decode_codes(given, codes.shape, context=base, max_abs=99), codes)


def test_smooth_kernels_are_predicted() -> None:
    level = codes_of((64, 64), 1)[:, :, np.newaxis, np.newaxis]
    codes = level + codes_of((64, 64, 3, 3), 2) // 2
    shuffled = np.random.default_rng(0).permuted(codes.ravel()).reshape(codes.shape)
    assert len(encode_codes(codes)) < 0.8 * len(encode_codes(shuffled))


@pytest.mark.parametrize("spread", [3, 60])
def test_decisions_cost_what_their_contexts_allow(spread: int) -> None:
    tensors = [codes_of((128, 96, 3, 3), 7, spread), codes_of((256, 256), 8, spread)]
    scales, entropy_bits = audit(tensors)
    assert scales.decision_bits < 1.02 * entropy_bits
    payload_bits = 8 * len(encode_many(tensors))
    assert payload_bits < 1.01 * (scales.decision_bits + scales.other_bits)


def test_channels_of_different_width_cost_what_their_widths_allow() -> None:
    generator = np.random.default_rng(3)
    rows, columns = generator.uniform(0.3, 3, (512, 1)), generator.uniform(0.5, 1.5, (1, 384))
    scale = rows * columns
    codes = np.round(generator.laplace(0, scale)).astype(np.int32)
    magnitude = np.abs(codes)
    zero, decay = 1 - np.exp(-0.5 / scale), np.exp(-1 / scale)
    chance = np.where(magnitude == 0, zero, (1 - zero) / 2 * (1 - decay) * decay ** (magnitude - 1.0))
    assert 8 * len(encode_codes(codes)) < 1.02 * float(-np.log2(chance).sum())


def test_what_has_no_magnitude_is_refused() -> None:
    with pytest.raises(RequestError, match="-2147483648"):
        encode_codes(np.array([-(2**31)], np.int32))


def test_a_code_beyond_what_is_admitted_is_refused() -> None:
    payload = encode_codes(np.array([[1, -5], [0, 2]], np.int32))
    with pytest.raises(DeltaError, match="beyond ±4"):
        decode_codes(payload, (2, 2), max_abs=4)


def test_the_format_has_not_drifted() -> None:
    """New digests here mean that vehicles in the field cannot read what is coded now."""
    digests = [
        hashlib.sha256(payload).hexdigest()[:16]
        for payload in (
            encode_many(network()),
            encode_many(network(spread=60)),
            encode_codes(codes_of((30, 20), 9), context=codes_of((30, 20), 9) + codes_of((30, 20), 10) // 4),
        )
    ]
    assert digests == ["e4617c30d14b3b4d", "2c307608523016e1", "e855b1a81068dcd4"]


def test_a_payload_of_old_is_still_read() -> None:
    expected = codes_of((6, 5), 4)
    np.testing.assert_array_equal(
        decode_codes(bytes.fromhex("030000cc8095b9acb3b40e49cce5aeb14f86e995"), (6, 5), max_abs=12), expected
    )
