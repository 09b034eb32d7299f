"""Broken deltas: bytes flipped, cut and doubled anywhere, and programs changed field by field and written anew."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from ota_protocol.delta.format import Delta, Kind, Op, Range, read_delta, write_delta
from ota_protocol.delta.source import BytesSource

INTERESTING = (0, 1, 2, 7, 8, 127, 128, 255, 256, 4095, 65535, 2**20, 2**31 - 1, 2**31, 2**32, 2**53, 2**61)


def payloads_of(delta: bytes, program: Delta) -> list[bytes]:
    """Return the payload of each op."""
    position = program.header.header_length + program.header.packed_program_length
    found = []
    for op in program.ops:
        found.append(delta[position : position + op.payload_length])
        position += op.payload_length
    return found


def rewrite(program: Delta, ops: list[Op], payloads: list[bytes], memory_bytes: int | None = None) -> bytes:
    """Return a delta with the header's digests and lengths, and other ops."""
    header = program.header
    base = (header.base_digest, header.base_length) if header.base_digest else None
    lengths = [replace(op, payload_length=len(payload)) for op, payload in zip(ops, payloads, strict=True)]
    memory = header.memory_bytes if memory_bytes is None else memory_bytes
    return write_delta(base, (header.result_digest, header.result_length), memory, lengths, payloads)


def mutate(delta: bytes, choice: random.Random) -> bytes:
    """Return a broken form of `delta`: of its bytes, or of its program."""
    return mutate_bytes(delta, choice) if choice.random() < 0.4 else mutate_program(delta, choice)


def mutate_bytes(data: bytes, choice: random.Random) -> bytes:
    """Return `data` with a few bytes changed, removed, inserted or doubled."""
    out = bytearray(data)
    for _ in range(choice.choice((1, 1, 2, 4, 16))):
        place = choice.randrange(len(out) + 1)
        action = choice.randrange(5)
        if action == 0 and place < len(out):
            out[place] ^= 1 << choice.randrange(8)
        elif action == 1 and place < len(out):
            out[place] = choice.randrange(256)
        elif action == 2:
            del out[place : place + choice.randrange(1, 9)]
        elif action == 3:
            out[place:place] = choice.randbytes(choice.randrange(1, 9))
        else:
            out[place:place] = out[place : place + choice.randrange(1, 65)]
    return bytes(out)


def mutate_program(delta: bytes, choice: random.Random) -> bytes:
    """Return `delta` with one to three fields of its ops changed, and a consistent header."""
    program = read_delta(BytesSource(delta))
    ops, payloads = list(program.ops), payloads_of(delta, program)
    for _ in range(choice.randint(1, 3)):
        if ops:
            number = choice.randrange(len(ops))
            choice.choice(_CHANGES)(ops, payloads, number, choice)
    memory = program.header.memory_bytes if choice.random() < 0.8 else choice.choice(INTERESTING)
    return rewrite(program, ops, payloads, memory)


Change = Callable[[list[Op], list[bytes], int, random.Random], None]


def _change_kind(ops: list[Op], payloads: list[bytes], number: int, choice: random.Random) -> None:
    kind = choice.choice([*Kind, 5, 99])
    payload = b"" if kind in (Kind.COPY, Kind.EMIT) else payloads[number]
    parameters = {Kind.COPY: (), Kind.EMIT: (1,)}.get(kind, ops[number].parameters)
    ranges = () if kind == Kind.EMIT else ops[number].ranges
    ops[number] = replace(ops[number], kind=kind, parameters=parameters, ranges=ranges)
    payloads[number] = payload


def _change_length(ops: list[Op], payloads: list[bytes], number: int, choice: random.Random) -> None:
    ops[number] = replace(ops[number], length=_near(ops[number].length, choice))


def _change_destination(ops: list[Op], payloads: list[bytes], number: int, choice: random.Random) -> None:
    ops[number] = replace(ops[number], destination=choice.randrange(4))


def _change_parameter(ops: list[Op], payloads: list[bytes], number: int, choice: random.Random) -> None:
    parameters = list(ops[number].parameters)
    if parameters:
        place = choice.randrange(len(parameters))
        parameters[place] = _near(parameters[place], choice)
        ops[number] = replace(ops[number], parameters=tuple(parameters))


def _change_parameters(ops: list[Op], payloads: list[bytes], number: int, choice: random.Random) -> None:
    if ops[number].kind not in (Kind.COPY, Kind.EMIT):
        parameters = ops[number].parameters
        kept = parameters[: choice.randrange(len(parameters) + 1)]
        ops[number] = replace(ops[number], parameters=(*kept, *choice.sample(INTERESTING, choice.randrange(3))))


def _change_ranges(ops: list[Op], payloads: list[bytes], number: int, choice: random.Random) -> None:
    ranges = list(ops[number].ranges)
    if ranges:
        place = choice.randrange(len(ranges))
        old = ranges[place]
        ranges[place] = Range(_near(old.offset, choice), _near(old.length, choice))
        ops[number] = replace(ops[number], ranges=tuple(ranges))


def _change_payload(ops: list[Op], payloads: list[bytes], number: int, choice: random.Random) -> None:
    if ops[number].kind not in (Kind.COPY, Kind.EMIT):
        payloads[number] = mutate_bytes(payloads[number], choice)


def _drop(ops: list[Op], payloads: list[bytes], number: int, choice: random.Random) -> None:
    del ops[number], payloads[number]


def _swap(ops: list[Op], payloads: list[bytes], number: int, choice: random.Random) -> None:
    other = choice.randrange(len(ops))
    ops[number], ops[other] = ops[other], ops[number]
    payloads[number], payloads[other] = payloads[other], payloads[number]


def _near(value: int, choice: random.Random) -> int:
    return choice.choice((max(0, value - 1), value + 1, value * 2, value // 2, choice.choice(INTERESTING)))


_CHANGES: tuple[Change, ...] = (
    _change_kind,
    _change_length,
    _change_destination,
    _change_parameter,
    _change_parameter,
    _change_parameters,
    _change_ranges,
    _change_payload,
    _change_payload,
    _change_payload,
    _drop,
    _swap,
)
