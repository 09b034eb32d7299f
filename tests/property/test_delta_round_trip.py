"""Every delta gives the result back, bit for bit, whatever base and result are, and is never above the full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ota_protocol.delta.apply import apply_bytes
from ota_protocol.delta.bits import FieldReader, write_fields
from ota_protocol.delta.coders.magnitudes import join_steps, split_steps, symbol_widths
from ota_protocol.delta.elements import SMALL_INTEGERS, Form, from_integers, to_integers
from ota_protocol.delta.encode import encode
from ota_protocol.delta.ordered import FORMS, disorder, order, patterns, to_bytes
from ota_protocol.delta.packing import pack, unpack
from ota_protocol.delta.varint import Cursor, write_signed, write_unsigned
from tests.support.delta_files import model, pairs

SLOW = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", pairs())
def test_each_kind_of_change_comes_back(name: str) -> None:
    base, result = pairs()[name]
    delta = encode(base, result)
    assert apply_bytes(base, delta) == result
    assert len(delta) <= len(encode(None, result)) or base is None


@given(st.binary(max_size=3000), st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=40)), max_size=5))
@SLOW
def test_edited_bytes_come_back(base: bytes, edits: list[tuple[int, bytes]]) -> None:
    result = base
    for place, inserted in edits:
        result = result[:place] + inserted + result[place + len(inserted) // 2 :]
    delta = encode(base, result)
    assert apply_bytes(base, delta) == result
    assert len(delta) <= len(encode(None, result))


FLOATS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=60), elements=st.floats(width=32))


@given(FLOATS, st.integers(0, 2**32))
@SLOW
def test_strange_floats_come_back(values: np.ndarray, seed: int) -> None:
    """NaN with payloads, infinities, −0 and subnormal numbers are patterns like any others."""
    generator = np.random.default_rng(seed)
    words = values.view(np.uint32) + generator.integers(0, 3, values.shape, np.uint32)
    base, result = model({"w": values}), model({"w": words.view(np.float32)})
    assert apply_bytes(base, encode(base, result)) == result


@given(st.sampled_from(sorted(FORMS)), st.binary(min_size=0, max_size=64))
def test_the_ordered_view_has_an_inverse(form: Form, data: bytes) -> None:
    whole = data[: len(data) // 4 * 4]
    found = patterns(whole, form)
    assert to_bytes(disorder(order(found, form), form), form) == whole


@given(hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(allow_nan=False, width=32)))
def test_the_ordered_view_keeps_order(values: np.ndarray) -> None:
    ordered = order(patterns(values.tobytes(), Form.FLOAT32), Form.FLOAT32)
    sorted_by_view = values[np.argsort(ordered, kind="stable")]
    assert np.all(sorted_by_view[:-1] <= sorted_by_view[1:])


@given(hnp.arrays(np.int32, st.integers(0, 200)))
def test_steps_come_back_from_symbols_and_lower_bits(steps: np.ndarray) -> None:
    symbols, lower, widths = split_steps(steps)
    np.testing.assert_array_equal(symbol_widths(symbols), widths)
    reader = FieldReader(write_fields(lower, widths))
    np.testing.assert_array_equal(join_steps(symbols, reader.read(widths)).view(np.int32), steps)
    reader.finish()


@given(st.sampled_from(sorted(SMALL_INTEGERS)), st.lists(st.integers(-128, 127), max_size=70))
def test_integers_come_back_from_every_form(form: Form, numbers: list[int]) -> None:
    low, high = {4: (-8, 7), 8: (-128, 127)}.get(form.bits, (-128, 127))
    shift = -low if form in (Form.UINT4, Form.UINT8, Form.UINT8_VARINTS) else 0
    values = np.clip(np.array(numbers, np.int32), low, high) + np.int32(shift)
    data = from_integers(values, form)
    assert form.fits(values.size, len(data))
    np.testing.assert_array_equal(to_integers(data, form, values.size), values)


@given(st.binary(max_size=2000), st.binary(max_size=2000), st.integers(1, 20), st.booleans())
@SLOW
def test_packed_bytes_come_back(data: bytes, dictionary: bytes, repeats: int, numbers: bool) -> None:
    whole = data * repeats
    packed = pack(whole, dictionary, numbers=numbers)
    assert len(packed) <= len(whole) + 1
    assert unpack(packed, len(whole), "test", dictionary=dictionary, memory_bytes=1 << 22) == whole


@given(st.lists(st.integers(0, 2**63 - 1)), st.lists(st.integers(-(2**62), 2**62 - 1)))
def test_integers_of_the_program_come_back(unsigned: list[int], signed: list[int]) -> None:
    cursor = Cursor(b"".join([*map(write_unsigned, unsigned), *map(write_signed, signed)]), "test")
    assert [cursor.unsigned() for _ in unsigned] == unsigned
    assert [cursor.signed() for _ in signed] == signed
    assert cursor.remaining == 0
