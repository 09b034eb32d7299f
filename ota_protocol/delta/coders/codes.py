"""Owns the coder of small integers, such as quantised weights: all tensors of an op in one entropy-coded stream.

Parameters: element form, mode, centre (subtracted before coding), element form of the base, then per tensor its rank
and dimensions. Where the base holds floats, codes are predicted from them, and the payload begins with the length and
the packed rates of that prediction, one a row, as float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.coders import steps
from ota_protocol.delta.coders.job import Coder, Job
from ota_protocol.delta.elements import SMALL_INTEGERS, Form, from_integers, read_form, to_integers
from ota_protocol.delta.entropy import decode_many, encode_many
from ota_protocol.delta.format import Op
from ota_protocol.delta.ordered import to_floats
from ota_protocol.delta.packing import pack, unpack
from ota_protocol.delta.varint import Cursor, write_unsigned
from ota_protocol.errors import DeltaError

_BYTES_AN_ELEMENT: Final = 32
"""The coder's working state, codes, base codes and their copies while they are decoded."""
_FIXED_BYTES: Final = 2 << 20
_CHUNK: Final = 1 << 15
"""Codes that are written at a time; even, since two of four bits share a byte."""
_MAX_RANK: Final = 8
_MAX_CODE: Final = 2**31 - 1
_UNSIGNED: Final = frozenset({Form.UINT8, Form.UINT4, Form.UINT8_VARINTS})

Shapes = Sequence[tuple[int, ...]]
Integers = NDArray[np.int32]
Floats = NDArray[np.float32]


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
    return _parameters_of(form, Mode.ALONE, centre, form, shapes), _encode(values - centre, shapes, None)


def encode_changed(
    form: Form, base_form: Form, shapes: Shapes, result: bytes, base: bytes
) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Yield parameters and payload of both ways to code integers whose counterparts are in the base.

    Args:
        form, base_form: element forms of result and base.
        shapes: of the tensors, whose elements follow each other in `result` and `base`.
    """
    values = to_integers(result, form, _count(shapes))
    centre = max(0, int(np.median(values))) if form in _UNSIGNED else 0
    head = b""
    if base_form.is_float:
        head, known = _fit_steps(values - centre, to_floats(base, base_form), shapes)
    else:
        known = to_integers(base, base_form, _count(shapes)) - centre
    for mode, target in ((Mode.GIVEN, values - centre), (Mode.CHANGE, values - centre - known)):
        yield _parameters_of(form, mode, centre, base_form, shapes), head + _encode(target, shapes, known)


def _fit_steps(codes: Integers, floats: Floats, shapes: Shapes) -> tuple[bytes, Integers]:
    """Return the rates as the payload carries them, and the predicted codes."""
    rates = [steps.fit(own, known) for own, known in zip(_rows(codes, shapes), _rows(floats, shapes), strict=True)]
    packed = pack(np.concatenate(rates).astype("<f4").tobytes())
    return write_unsigned(len(packed)) + packed, _predict(floats, rates, shapes)


def _predict(floats: Floats, rates: Sequence[Floats], shapes: Shapes) -> Integers:
    parts = [steps.predict(part, rate).ravel() for part, rate in zip(_rows(floats, shapes), rates, strict=True)]
    return np.concatenate(parts)


def _rows(values: NDArray[Any], shapes: Shapes) -> list[NDArray[Any]]:
    """Return each tensor as (rows, columns)."""
    return [part.reshape(_n_rows(part.shape), -1) for part in _split(values, shapes)]


def _n_rows(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 1 else 1


def _count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _parameters_of(form: Form, mode: Mode, centre: int, base_form: Form, shapes: Shapes) -> tuple[int, ...]:
    return (form, mode, centre, base_form, *(number for shape in shapes for number in (len(shape), *shape)))


def _encode(codes: Integers, shapes: Shapes, context: Integers | None) -> bytes:
    return encode_many(_split(codes, shapes), contexts=None if context is None else _split(context, shapes))


def _split(values: NDArray[Any], shapes: Shapes) -> list[NDArray[Any]]:
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), shapes, strict=True)]


def _memory(op: Op) -> int:
    return _FIXED_BYTES + _BYTES_AN_ELEMENT * _claimed(op.parameters)


def _claimed(numbers: tuple[int, ...]) -> int:
    """Return the elements that the shapes claim; malformed shapes are refused when the op is run."""
    total, position = 0, 4
    while position < len(numbers):
        rank = numbers[position]
        total += math.prod(numbers[position + 1 : position + 1 + min(rank, _MAX_RANK)])
        position += 1 + rank
    return total


def _decode(job: Job) -> Iterator[bytes]:
    given = _parameters(job.op.parameters, job.part)
    count = _count(given.shapes)
    if given.form not in SMALL_INTEGERS or not given.form.fits(count, job.op.length):
        raise DeltaError(f"{count:,} elements of {given.form.name} do not make {job.op.length:,} bytes", op=job.part)
    cursor = Cursor(job.payload, job.part)
    known = None if given.mode is Mode.ALONE else _known(job, given, cursor)
    contexts = None if known is None else _split(known, given.shapes)
    coded = cursor.take(cursor.remaining)
    tensors = decode_many(coded, given.shapes, contexts=contexts, max_abs=_MAX_CODE)
    codes = np.concatenate([np.zeros(0, np.int32), *(tensor.ravel() for tensor in tensors)])
    del tensors
    if given.mode is Mode.CHANGE and known is not None:
        codes += known
    for first in range(0, codes.size, _CHUNK):
        yield from_integers(codes[first : first + _CHUNK] + np.int32(given.centre), given.form)


@dataclass(frozen=True, slots=True)
class _Given:
    """The parameters, checked."""

    form: Form
    mode: Mode
    centre: int
    base_form: Form
    shapes: Shapes


def _known(job: Job, given: _Given, cursor: Cursor) -> Integers:
    """Return the base's codes, less the centre: read, or predicted from floats."""
    count = _count(given.shapes)
    if not given.base_form.fits(count, len(job.reference)):
        raise DeltaError(f"{len(job.reference):,} bytes of the base for {count:,} elements", op=job.part)
    if not given.base_form.is_float:
        return to_integers(job.reference, given.base_form, count) - np.int32(given.centre)
    heights = [_n_rows(shape) for shape in given.shapes]
    packed = cursor.take(cursor.unsigned())
    data = unpack(packed, 4 * sum(heights), job.part, memory_bytes=job.memory_bytes)
    rates = np.split(np.frombuffer(data, "<f4"), np.cumsum(heights)[:-1])
    return _predict(to_floats(job.reference, given.base_form), rates, given.shapes)


def _parameters(numbers: tuple[int, ...], part: str) -> _Given:
    if len(numbers) < 5 or numbers[1] > max(Mode) or numbers[2] > 255:
        raise DeltaError("its parameters are out of range", op=part)
    shapes, position = [], 4
    while position < len(numbers):
        rank = numbers[position]
        shape = numbers[position + 1 : position + 1 + rank]
        if rank > _MAX_RANK or len(shape) < rank or not all(0 < side < _MAX_CODE for side in shape):
            raise DeltaError("a tensor's shape is out of range", op=part)
        shapes.append(shape)
        position += 1 + rank
    base_form = read_form(numbers[3], part)
    if not base_form.is_float and base_form not in SMALL_INTEGERS:
        raise DeltaError(f"no way from {base_form.name} to codes", op=part)
    return _Given(read_form(numbers[0], part), Mode(numbers[1]), numbers[2], base_form, shapes)


CODES = Coder(_memory, _decode)
