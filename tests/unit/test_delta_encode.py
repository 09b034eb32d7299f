"""What the encoder finds, shown by the ops that it chooses and the bytes that they take."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ota_protocol.delta.apply import apply, apply_bytes
from ota_protocol.delta.describe import describe_kinds
from ota_protocol.delta.encode import encode
from ota_protocol.delta.format import read_delta
from ota_protocol.delta.source import BytesSource
from tests.support.delta_files import blob, codes, model, moved, pairs


def kinds(delta: bytes) -> set[str]:
    return {line.kind for line in describe_kinds(read_delta(BytesSource(delta)))}


def layers(count: int = 4, side: int = 48) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(2)
    return {f"w{number}": generator.normal(0, 0.05, (side, side, 3, 3)).astype(np.float32) for number in range(count)}


def test_an_unchanged_file_is_one_copy() -> None:
    data = model(layers(1))
    delta = encode(data, data)
    assert kinds(delta) == {"copy"} and len(delta) < 120


def test_changed_metadata_costs_little() -> None:
    arrays = layers(2)
    delta = encode(model(arrays), model(arrays, producer="another producer"))
    assert "copy" in kinds(delta) and len(delta) < 200


@pytest.mark.parametrize("names", [str, lambda name: f"onnx::Conv_{ord(name[-1]) * 7}"])
def test_moved_floats_are_steps_whatever_their_name(names) -> None:  # type: ignore[no-untyped-def]
    arrays = layers(2)
    delta = encode(model(arrays), model(moved(arrays), names=names))
    assert "magnitudes" in kinds(delta)
    assert len(delta) < 0.65 * len(encode(None, model(arrays)))


def test_reordered_tensors_are_copied() -> None:
    arrays = layers(3)
    delta = encode(model(arrays), model(dict(reversed(arrays.items()))))
    assert kinds(delta) <= {"copy", "insert", "emit", "add", "weave"} and len(delta) < 300


def test_floats_of_another_precision_are_predicted() -> None:
    arrays = layers(2)
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    assert len(encode(model(arrays), model(half))) < 1500


def test_codes_are_predicted_from_floats() -> None:
    arrays = layers(2)
    result = model(codes(arrays))
    assert len(encode(model(arrays), result)) < 0.1 * len(encode(None, result))


def test_raw_data_and_lists_hold_the_same_numbers() -> None:
    arrays = codes(layers(2))
    assert len(encode(model(arrays), model(arrays, lists=True))) < 1500
    assert len(encode(model(arrays, lists=True), model(arrays))) < 1500


def test_one_more_class_costs_one_row() -> None:
    arrays = layers(1)
    extended = {"w0": np.concatenate([arrays["w0"], arrays["w0"][:1] * np.float32(0.3)])}
    row = arrays["w0"][0].nbytes
    assert len(encode(model(arrays), model(extended))) < row + 250


def test_numbers_without_a_layout_are_found() -> None:
    arrays = {"w": np.random.default_rng(3).normal(0, 1, 100_000).astype(np.float32)}
    delta = encode(blob(arrays), blob(moved(arrays)))
    assert "magnitudes" in kinds(delta) and len(delta) < 0.65 * len(blob(arrays))


def test_an_unrelated_base_is_ignored() -> None:
    result = model(layers(1))
    delta = encode(np.random.default_rng(1).bytes(50_000), result)
    assert len(delta) <= len(encode(None, result))


def test_progress_goes_from_nothing_to_all() -> None:
    shares: list[float] = []
    encode(*pairs()["float"], progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize("name", ["float", "int8", "full int8", "full float", "half", "text"])
def test_memory_stays_below_what_the_header_declares(name: str) -> None:
    base, result = pairs()[name]
    delta = encode(base, result)
    known = None if base is None else BytesSource(base)
    tracemalloc.start()
    header = apply(known, BytesSource(delta), lambda piece: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < header.memory_bytes


@pytest.mark.slow
def test_memory_of_a_large_delta_does_not_grow_with_the_file() -> None:
    arrays = layers(12, 256)
    base, result = model(arrays), model(moved(arrays))
    delta = encode(base, result)
    tracemalloc.start()
    header = apply(BytesSource(base), BytesSource(delta), lambda piece: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(result) > 28_000_000
    assert peak < header.memory_bytes < 64 << 20


def test_bytes_that_are_nothing_known_are_copied_and_changed() -> None:
    generator = np.random.default_rng(4)
    base = generator.bytes(60_000)
    changed = bytearray(base[:20_000] + generator.bytes(500) + base[20_000:])
    for place in range(30_000, 31_000, 40):
        changed[place] ^= 1
    delta = encode(base, bytes(changed))
    assert apply_bytes(base, delta) == bytes(changed)
    assert kinds(delta) & {"copy", "add", "weave"} and len(delta) < 900


def test_few_values_are_a_palette() -> None:
    generator = np.random.default_rng(6)
    arrays = {f"w{n}": generator.choice(generator.normal(0, 1, 200).astype(np.float32), (80, 80)) for n in range(3)}
    delta = encode(None, model(arrays))
    assert "palette" in kinds(delta) and len(delta) < 3 * (80 * 80 + 200 * 4 + 300)
    assert apply_bytes(None, delta) == model(arrays)


def test_numbers_that_repeat_themselves_are_packed_as_strings() -> None:
    row = np.random.default_rng(7).normal(0, 1, 3000).astype(np.float32)
    result = model({"w": np.tile(row, 10)})
    assert len(encode(None, result)) < 1.2 * row.nbytes


@pytest.mark.parametrize("lists_first", [True, False])
def test_memory_of_protobuf_lists_stays_below_what_the_header_declares(lists_first: bool) -> None:
    arrays = codes(layers(2, 128))
    base, result = model(arrays, lists=lists_first), model(arrays, lists=not lists_first)
    delta = encode(base, result)
    tracemalloc.start()
    header = apply(BytesSource(base), BytesSource(delta), lambda piece: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < header.memory_bytes
