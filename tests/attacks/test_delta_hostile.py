"""Deltas that lie, one attack a test: always a DeltaError that names the part, before memory or time is spent."""

from __future__ import annotations

import lzma
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import zstandard

from ota_protocol.delta.apply import apply, apply_bytes
from ota_protocol.delta.coders.codes import Mode
from ota_protocol.delta.elements import Form
from ota_protocol.delta.encode import encode
from ota_protocol.delta.format import MAGIC, Delta, Kind, Op, Range, read_delta, write_delta
from ota_protocol.delta.limits import Limits
from ota_protocol.delta.packing import LZMA, PLAIN, ZSTD
from ota_protocol.delta.source import BytesSource
from ota_protocol.delta.varint import Cursor, write_signed, write_unsigned
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import DeltaError
from tests.support.delta_files import pairs
from tests.support.delta_mutations import payloads_of, rewrite

BASE = bytes(range(256)) * 8
RESULT = BASE[:1000] + b"between" + BASE[1000:]
MIB = 1 << 20


def refuse(delta: bytes, base: bytes | None = BASE, limits: Limits | None = None) -> DeltaError:
    with pytest.raises(DeltaError) as caught:
        apply_bytes(base, delta, limits=limits or Limits())
    return caught.value


def forge(*steps: tuple[Op, bytes], result: bytes = RESULT, memory_bytes: int = 32 * MIB) -> bytes:
    """Return a delta of these ops and payloads over BASE."""
    ops = [replace(op, payload_length=len(payload)) for op, payload in steps]
    known, wanted = (sha256_hex(BASE), len(BASE)), (sha256_hex(result), len(result))
    return write_delta(known, wanted, memory_bytes, ops, [payload for _, payload in steps])


def insert(length: int, packed: bytes, ranges: tuple[Range, ...] = ()) -> tuple[Op, bytes]:
    return Op(Kind.INSERT, length, ranges=ranges), packed


def copy(*ranges: Range) -> tuple[Op, bytes]:
    return Op(Kind.COPY, sum(part.length for part in ranges), ranges=ranges), b""


GENUINE = forge(copy(Range(0, 1000)), insert(7, bytes([PLAIN]) + b"between"), copy(Range(1000, len(BASE) - 1000)))


def test_the_genuine_delta_works() -> None:
    assert apply_bytes(BASE, GENUINE) == RESULT


# ── files that are cut, longer, or something else ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["float", "int8", "text", "full int8", "float to int8", "one more class"])
def test_truncated_at_every_op(name: str) -> None:
    base, result = pairs()[name]
    delta = encode(base, result)
    program = read_delta(BytesSource(delta))
    edges = [0, 3, 4, 5, 40, program.header.header_length]
    position = program.header.header_length + program.header.packed_program_length
    for op in program.ops:
        edges += [position, position + op.payload_length // 2]
        position += op.payload_length
    for edge in {*edges, len(delta) - 1} - {len(delta)}:
        assert refuse(delta[:edge], base).op in ("header", "program", "trailer")


def test_trailing_bytes() -> None:
    assert refuse(GENUINE + b"\0").op == "trailer"


@pytest.mark.parametrize("data", [b"", b"SQ", b"PK\x03\x04" + bytes(100), RESULT])
def test_no_delta_at_all(data: bytes) -> None:
    assert refuse(data).op == "header"


def test_another_version() -> None:
    error = refuse(MAGIC + bytes([2]) + GENUINE[4:])
    assert error.op == "header" and "version 2" in str(error) and "update the agent" in str(error)


def test_unknown_flags() -> None:
    assert refuse(MAGIC + bytes([1, 0x81]) + GENUINE[5:]).op == "header"


# ── bases and results that are not those named ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("base", [None, b"", BASE[:-1], BASE + b"\0", BASE[:-1] + b"\0"])
def test_wrong_base(base: bytes | None) -> None:
    written: list[bytes] = []
    with pytest.raises(DeltaError) as caught:
        apply(None if base is None else BytesSource(base), BytesSource(GENUINE), written.append)
    assert caught.value.op == "base" and not written


def test_result_with_another_digest() -> None:
    steps = copy(Range(0, 1000)), insert(7, bytes([PLAIN]) + b"BETWEEN"), copy(Range(1000, len(BASE) - 1000))
    assert refuse(forge(*steps)).op == "trailer"


# ── sizes that lie ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_result_above_the_limit() -> None:
    assert refuse(GENUINE, limits=Limits(result_bytes=len(RESULT) - 1)).op == "header"


def test_memory_above_the_limit() -> None:
    assert refuse(GENUINE, limits=Limits(memory_bytes=MIB)).op == "header"


def test_memory_below_what_the_ops_need() -> None:
    steps = copy(Range(0, 1000)), insert(7, bytes([PLAIN]) + b"between"), copy(Range(1000, len(BASE) - 1000))
    assert refuse(forge(*steps, memory_bytes=1000)).op == "program"


def test_ops_that_make_more_or_less_than_the_header_says() -> None:
    assert refuse(forge(copy(Range(0, 1000)))).op == "program"
    assert refuse(forge(copy(Range(0, len(BASE))), copy(Range(0, len(BASE))))).op == "program"


@pytest.mark.parametrize("length", [6, 8, 2**40])
def test_op_that_declares_another_length_than_it_makes(length: int) -> None:
    steps = [insert(length, bytes([PLAIN]) + b"between"), copy(Range(0, 100))]
    error = refuse(forge(*steps, result=bytes(min(length, MIB) + 100)))
    assert error.op in ("op 0 (insert)", "program")


def test_packed_program_that_unpacks_to_more_or_less() -> None:
    program = read_delta(BytesSource(GENUINE))
    for claimed in (program.header.program_length - 1, program.header.program_length + 1, 2**40):
        head = bytearray(MAGIC + bytes([1, 1]) + bytes.fromhex(sha256_hex(BASE)) + write_unsigned(len(BASE)))
        head += bytes.fromhex(sha256_hex(RESULT)) + write_unsigned(len(RESULT)) + write_unsigned(32 * MIB)
        head += write_unsigned(claimed) + write_unsigned(program.header.packed_program_length)
        assert refuse(bytes(head) + GENUINE[program.header.header_length :]).op in ("program", "header")


# ── ranges, pools, kinds ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "bad", [Range(len(BASE) - 10, 11), Range(len(BASE), 1), Range(2**61, 5), Range(0, 2**61), Range(2**50, 2**50)]
)
def test_range_outside_the_base(bad: Range) -> None:
    assert refuse(forge(copy(Range(0, 5)), copy(bad), result=b"?" * 100)).op == "op 1 (copy)"


def test_negative_range() -> None:
    assert refuse(forge(copy(Range(-5, 10)))).op == "op 0 (copy)"
    assert refuse(forge(copy(Range(10, -5)))).op == "op 0 (copy)"


@pytest.mark.parametrize("pool", [1, 7, 2**40])
def test_emit_from_a_pool_that_has_too_little(pool: int) -> None:
    fill = Op(Kind.INSERT, 7, destination=1), bytes([PLAIN]) + b"between"
    steps = fill, (Op(Kind.EMIT, 8, parameters=(pool,)), b"")
    assert refuse(forge(*steps, result=b"12345678")).op == "op 1 (emit)"


def test_unknown_kind() -> None:
    assert refuse(forge((Op(77, 7), b"between"), result=b"between")).op == "op 0 (kind 77)"


def test_unknown_packing_method() -> None:
    assert refuse(forge(insert(7, b"\x63between"), result=b"between")).op == "op 0 (insert)"


@pytest.mark.parametrize("form", [0, 13, 255])
@pytest.mark.parametrize("kind", [Kind.CODES, Kind.MAGNITUDES])
def test_unknown_element_form(kind: Kind, form: int) -> None:
    given = (form, Mode.ALONE, 0, Form.INT8, 1, 7) if kind is Kind.CODES else (form, form, 1, 7)
    op = Op(kind, 7, parameters=given)
    assert refuse(forge((op, bytes(20)), result=b"between")).op == f"op 0 ({kind.name.lower()})"


# ── bombs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def peak_of(delta: bytes, limits: Limits) -> int:
    tracemalloc.start()
    try:
        refuse(delta, limits=limits)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_zstd_that_goes_on_for_a_gigabyte() -> None:
    compressor = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(
            format=zstandard.FORMAT_ZSTD1_MAGICLESS, window_log=17, write_content_size=False
        )
    ).compressobj()
    bomb = b"".join([compressor.compress(bytes(MIB)) for _ in range(1024)]) + compressor.flush()
    delta = forge(insert(7, bytes([ZSTD]) + bomb), result=b"between")
    assert peak_of(delta, Limits()) < 4 * MIB


def test_zstd_with_a_window_of_a_gigabyte() -> None:
    parameters = zstandard.ZstdCompressionParameters(
        format=zstandard.FORMAT_ZSTD1_MAGICLESS, window_log=30, write_content_size=False
    )
    bomb = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = bomb.compress(b"between") + bomb.flush()
    refuse(forge(insert(8, bytes([ZSTD]) + packed), result=b"between!"), limits=Limits())


def test_lzma_that_goes_on_for_64_mib() -> None:
    compressor = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20}])
    bomb = b"".join([compressor.compress(bytes(MIB)) for _ in range(64)]) + compressor.flush()
    delta = forge(insert(7, bytes([LZMA, 93, 20]) + bomb), result=b"between")
    assert peak_of(delta, Limits()) < 4 * MIB


@pytest.mark.parametrize("log", [27, 31, 255])
def test_lzma_with_a_huge_dictionary(log: int) -> None:
    assert refuse(forge(insert(7, bytes([LZMA, 93, log, 0]) + bytes(50)), result=b"between")).op == "op 0 (insert)"


def test_packed_program_that_is_a_bomb() -> None:
    head = MAGIC + bytes([1, 0]) + bytes.fromhex(sha256_hex(b"")) + write_unsigned(0) + write_unsigned(MIB)
    bomb = bytes([ZSTD]) + _zstd_of(bytes(3 * MIB))
    delta = head + write_unsigned(3 * MIB) + write_unsigned(len(bomb)) + bomb
    assert refuse(delta, None).op in ("program", "op 0 (kind 0)")
    tight = Limits(control_bytes=MIB)
    assert refuse(delta, None, tight).op == "header"


def _zstd_of(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(
            format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
        )
    ).compress(data)


def test_more_ops_than_allowed() -> None:
    ops = [Op(Kind.EMIT, 0, parameters=(1,))] * 2000
    delta = write_delta(None, (sha256_hex(b""), 0), MIB, ops, [b""] * len(ops))
    assert refuse(delta, None, Limits(ops=1000)).op == "program"


def test_more_ops_to_decode_than_allowed() -> None:
    steps = [insert(0, bytes([PLAIN]))] * 101
    assert refuse(forge(*steps, result=b""), BASE, Limits(coded_ops=100)).op == "program"


@pytest.mark.parametrize(
    "kind", [Kind.PLANES, Kind.PALETTE, Kind.CODES, Kind.MAGNITUDES, Kind.INSERT, Kind.ADD, Kind.WEAVE]
)
def test_a_reference_that_is_the_base_a_thousand_times(kind: Kind) -> None:
    many = tuple(Range(0, len(BASE)) for _ in range(9000))
    delta = forge((Op(kind, 7, ranges=many, parameters=(4, 1)), bytes(40)), result=b"between", memory_bytes=16 * MIB)
    assert refuse(delta).op == "program"


@pytest.mark.parametrize(
    "covers",
    [[(0, 2042, 7)], [(0, -1, 7)], [(0, 0, 4), (0, 0, 3)], [(8, 0, 7)], [(0, 0, 2**40)], [(0, 0, 7), (0, 0, 7)], []],
    ids=["after the end", "before the start", "too short", "no literals left", "huge", "too many", "too few"],
)
def test_covers_that_are_not_there(covers: list[tuple[int, int, int]]) -> None:
    columns = [write_unsigned(literal) for literal, _, _ in covers]
    columns += [write_signed(gap) for _, gap, _ in covers] + [write_unsigned(length) for _, _, length in covers]
    data = b"".join(columns)
    op = Op(Kind.WEAVE, 7, ranges=(Range(0, len(BASE)),), parameters=(len(covers), len(data)))
    assert refuse(forge((op, bytes([PLAIN]) + data), result=BASE[:7])).op == "op 0 (weave)"


def test_more_ranges_than_allowed() -> None:
    many = tuple(Range(0, 1) for _ in range(2000))
    delta = forge(copy(*many), result=BASE[:1] * 2000)
    assert refuse(delta, BASE, Limits(ranges=1000)).op == "op 0 (copy)"


@pytest.mark.parametrize("side", [2**20, 2**31 - 2, 2**40, 2**62])
def test_shapes_that_claim_more_than_there_is(side: int) -> None:
    for kind, given in (
        (Kind.CODES, (Form.INT8, Mode.ALONE, 0, Form.INT8, 2, side, side)),
        (Kind.CODES, (Form.INT8, Mode.ALONE, 0, Form.INT8, 1, side)),
        (Kind.MAGNITUDES, (Form.FLOAT32, Form.FLOAT32, side, side)),
        (Kind.MAGNITUDES, (Form.FLOAT32, Form.FLOAT32, side, 0)),
        (Kind.PALETTE, (4, side)),
        (Kind.PLANES, (side, 0)),
        (Kind.WEAVE, (side, 8)),
        (Kind.WEAVE, (1, side)),
    ):
        delta = forge((Op(kind, 8, parameters=given), bytes(64)), result=b"between!")
        assert peak_of(delta, Limits()) < 8 * MIB


def test_integer_of_ten_bytes() -> None:
    with pytest.raises(DeltaError):
        Cursor(b"\xff" * 10 + b"\x01", "header").unsigned()
    head = MAGIC + bytes([1, 0]) + bytes(32) + b"\xff" * 10
    assert refuse(head, None).op == "header"


# ── numbers that make no sense ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["float", "int8", "full int8", "full float", "full palette", "float to int8", "half"])
def test_payloads_of_zeros_ones_and_noise(name: str) -> None:
    base, result = pairs()[name]
    delta = encode(base, result)
    program = read_delta(BytesSource(delta))
    noise = np.random.default_rng(0)
    for number, op in enumerate(program.ops):
        for fill in (bytes(op.payload_length), b"\xff" * op.payload_length, noise.bytes(op.payload_length), b""):
            if op.payload_length:
                assert _refusal(program, delta, number, fill, base) in (_name(number, op), "trailer")


def _refusal(program: Delta, delta: bytes, number: int, payload: bytes, base: bytes | None) -> str:
    payloads = payloads_of(delta, program)
    payloads[number] = payload
    return refuse(rewrite(program, list(program.ops), payloads), base).op


def _name(number: int, op: Op) -> str:
    return f"op {number} ({Kind(op.kind).name.lower()})"
