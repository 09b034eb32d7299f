"""What `ota-delta show` prints is true and never fails, whatever the parameters are."""

from __future__ import annotations

import numpy as np

from ota_protocol.delta.describe import describe_kinds, describe_ops
from ota_protocol.delta.encode import encode
from ota_protocol.delta.format import Delta, Kind, Op, read_delta
from ota_protocol.delta.source import BytesSource
from tests.support.delta_files import codes, model, moved, weights


def test_every_byte_of_the_payloads_is_accounted_for() -> None:
    arrays = codes(weights())
    delta = encode(model(arrays), model(codes(moved(weights(), share=0.02))))
    program = read_delta(BytesSource(delta))
    spent = len(delta) - program.header.header_length - program.header.packed_program_length
    assert sum(line.payload_bytes for line in describe_ops(program)) == spent
    assert sum(line.payload_bytes for line in describe_kinds(program)) == spent
    made = sum(line.makes_bytes for line in describe_ops(program) if line.destination == "result")
    assert made == program.header.result_length


def test_numbers_are_named_by_form_and_tensors() -> None:
    generator = np.random.default_rng(0)
    spread = np.geomspace(0.2, 20, 64).reshape(64, 1, 1, 1)
    arrays = {name: np.rint(generator.laplace(0, spread, (64, 32, 3, 3))).clip(-127, 127) for name in "ab"}
    arrays = {name: array.astype(np.int8) for name, array in arrays.items()}
    lines = describe_ops(read_delta(BytesSource(encode(None, model(arrays)))))
    assert "int8, 2 tensors" in [line.note for line in lines]


def test_strange_parameters_are_shown_as_they_are() -> None:
    header = read_delta(BytesSource(encode(None, b""))).header
    ops = (Op(Kind.CODES, 1, parameters=(99,)), Op(Kind.MAGNITUDES, 1), Op(77, 1), Op(Kind.EMIT, 1))
    assert [line.kind for line in describe_ops(Delta(header, ops))] == ["codes", "magnitudes", "kind 77", "emit"]
