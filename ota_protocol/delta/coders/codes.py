"""Owns the coder of small integers, such as quantised weights: all tensors of an op in one entropy-coded stream.

Parameters: element form, mode, centre (subtracted before coding), then per tensor its rank and dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.coders.job import Coder, Job
from ota_protocol.delta.elements import SMALL_INTEGERS, Form, from_integers, read_form, to_integers
from ota_protocol.delta.entropy import decode_many, encode_many
from ota_protocol.delta.format import Op
from ota_protocol.errors import DeltaError

_BYTES_AN_ELEMENT: Final = 40
"""Symbols, contexts, 64-bit codes and their copies while they are decoded."""
_TABLES_BYTES: Final = 1 << 20
_MAX_RANK: Final = 8
_MAX_CODE: Final = 2**31 - 1
_NIBBLES: Final = frozenset({Form.INT4, Form.UINT4})
_UNSIGNED: Final = frozenset({Form.UINT8, Form.UINT4})

Shapes = Sequence[tuple[int, ...]]
Integers = NDArray[np.int32]


class Mode(IntEnum):
    """What is coded."""

    ALONE = 0
    """The codes."""
    GIVEN = 1
    """The codes, with the base's as context."""
    CHANGE = 2
    """The difference from the base's codes, with those as context."""


def encode(form: Form, shapes: Shapes, result: bytes) -> tuple[tuple[int, ...], bytes]:
    """Return parameters and payload of the codes alone.

    Args:
        form: element form.
        shapes: of the tensors, whose elements follow each other in `result`.
    """
    values = to_integers(result, form, _count(shapes))
    centre = max(0, int(np.median(values))) if form in _UNSIGNED else 0
    return _parameters_of(form, Mode.ALONE, centre, shapes), _encode(values - centre, shapes, None)


def encode_changed(form: Form, shapes: Shapes, result: bytes, base: bytes) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Yield parameters and payload of both ways to code integers whose counterparts are in the base.

    Args:
        form: element form of result and base.
        shapes: of the tensors, whose elements follow each other in `result` and `base`.
    """
    values, known = to_integers(result, form, _count(shapes)), to_integers(base, form, _count(shapes))
    centre = max(0, int(np.median(known))) if form in _UNSIGNED else 0
    for mode, target in ((Mode.GIVEN, values - centre), (Mode.CHANGE, values - known)):
        yield _parameters_of(form, mode, centre, shapes), _encode(target, shapes, known - centre)


def _count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _parameters_of(form: Form, mode: Mode, centre: int, shapes: Shapes) -> tuple[int, ...]:
    return (form, mode, centre, *(number for shape in shapes for number in (len(shape), *shape)))


def _encode(codes: Integers, shapes: Shapes, context: Integers | None) -> bytes:
    return encode_many(_split(codes, shapes), contexts=None if context is None else _split(context, shapes))


def _split(values: Integers, shapes: Shapes) -> list[Integers]:
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), shapes, strict=True)]


def _memory(op: Op) -> int:
    elements = 2 * op.length if op.parameters and op.parameters[0] in _NIBBLES else op.length
    return op.reference_length + op.payload_length + _TABLES_BYTES + _BYTES_AN_ELEMENT * elements


def _decode(job: Job) -> Iterator[bytes]:
    form, mode, centre, shapes = _parameters(job.op.parameters, job.part)
    count = sum(math.prod(shape) for shape in shapes)
    if form.byte_length(count) != job.op.length or form not in SMALL_INTEGERS:
        raise DeltaError(f"{count:,} elements of {form.name} do not make {job.op.length:,} bytes", op=job.part)
    base = None
    if mode is not Mode.ALONE:
        if len(job.reference) != job.op.length:
            raise DeltaError(f"{len(job.reference):,} bytes of the base for {job.op.length:,}", op=job.part)
        base = to_integers(job.reference, form, count)
    contexts = None if base is None else _split(base - centre, shapes)
    tensors = decode_many(job.payload, shapes, contexts=contexts, max_abs=_MAX_CODE)
    codes = np.concatenate([tensor.ravel() for tensor in tensors])
    codes += base if mode is Mode.CHANGE and base is not None else centre
    yield from_integers(codes, form)


def _parameters(numbers: tuple[int, ...], part: str) -> tuple[Form, Mode, int, Shapes]:
    if len(numbers) < 4 or numbers[1] > max(Mode) or numbers[2] > 255:
        raise DeltaError("its parameters are out of range", op=part)
    shapes, position = [], 3
    while position < len(numbers):
        rank = numbers[position]
        shape = numbers[position + 1 : position + 1 + rank]
        if rank > _MAX_RANK or len(shape) < rank or max((0, *shape)) > _MAX_CODE:
            raise DeltaError("a tensor's shape is out of range", op=part)
        shapes.append(shape)
        position += 1 + rank
    return read_form(numbers[0], part), Mode(numbers[1]), numbers[2], shapes


CODES = Coder(_memory, _decode)
