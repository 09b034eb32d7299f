"""Owns the coder of numbers that moved a little: the step in the ordered view, from the base's number to the result's.

A step is coded as a symbol (its sign, its bit length, its second highest bit) and its lower bits as they are. The
symbol's context is how large a step is to be expected: a scale for the row and one for the column of the element, in
half octaves, less the exponent of the base's number, since a change of the same size is a larger step where the
number is smaller.

Parameters: form of the result, form of the base, then rows and columns of each tensor. Payload: length and packed
bytes of the scales, length and coded symbols, plain bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.bits import FieldReader, write_fields
from ota_protocol.delta.coders.job import Coder, Job
from ota_protocol.delta.elements import Form, read_form
from ota_protocol.delta.entropy import decode_symbols, encode_symbols
from ota_protocol.delta.format import Op
from ota_protocol.delta.ordered import FORMS, cast, disorder, exponents, order, patterns, to_bytes
from ota_protocol.delta.packing import pack, unpack
from ota_protocol.delta.varint import Cursor, write_unsigned
from ota_protocol.errors import DeltaError

N_CONTEXTS: Final = 64
ALPHABET: Final = 128
_CHUNK: Final = 1 << 16
"""Elements that are put together at a time."""
_BYTES_AN_ELEMENT: Final = 12
"""Context, symbol, and what decoding the symbols takes, for all elements of the op at once."""
_FIXED_BYTES: Final = 8 << 20
"""Tables, and the work on one chunk."""
_MAX_SIDE: Final = 1 << 30

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Scales:
    """Expected size of the steps of one tensor, in half octaves: ``offset + rows[i] + columns[j]``."""

    offset: int
    rows: NDArray[np.int8]
    columns: NDArray[np.int8]

    def of(self, first: int, count: int) -> NDArray[np.int32]:
        """Return the (count,) scales of the elements from `first`, row by row."""
        index = np.arange(first, first + count)
        row, column = np.divmod(index, self.columns.size)
        scale: NDArray[np.int32] = self.rows[row].astype(np.int32) + self.columns[column] + np.int32(self.offset)
        return scale


# ── steps and symbols ───────────────────────────────────────────────────────────────────────────────────────────────


def split_steps(steps: NDArray[np.int32]) -> tuple[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint8]]:
    """Return symbols, lower bits and their widths."""
    magnitude = np.abs(steps.astype(np.int64)).astype(np.uint32)
    length = np.frexp(magnitude.astype(np.float64))[1].astype(np.uint8)
    widths = np.where(length > 2, length - np.uint8(2), np.uint8(0)).astype(np.uint8)
    top = magnitude >> widths.astype(np.uint32)
    label = np.where(length > 1, 2 * length.astype(np.uint32) - 4 + top, magnitude)
    symbols = (label * 2 + (steps < 0)).astype(np.uint8)
    return symbols, magnitude - (top << widths.astype(np.uint32)), widths


def symbol_widths(symbols: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return how many lower bits follow each symbol."""
    widths: NDArray[np.uint8] = _WIDTHS[symbols]
    return widths


def join_steps(symbols: NDArray[np.uint8], lower: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the steps, negative ones modulo 2**32."""
    magnitude = _TOPS[symbols] + lower
    return np.where(symbols & 1, np.uint32(0) - magnitude, magnitude)


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    widths, tops = np.zeros(256, np.uint8), np.zeros(256, np.uint32)
    for symbol in range(256):
        label = symbol // 2
        length = label // 2 + 1
        width = max(0, length - 2)
        top = label if label < 2 else (label % 2 + 2) << width
        widths[symbol], tops[symbol] = width, top & 0xFFFFFFFF
    return widths, tops


_WIDTHS, _TOPS = _tables()


def contexts_of(base: NDArray[np.uint32], form: Form, scale: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the context of each element, given the base's pattern and the scale."""
    expected: NDArray[np.int32] = np.clip(scale - 2 * exponents(base, form), 0, N_CONTEXTS - 1)
    return expected.astype(np.uint8)


# ── encoding ────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode(
    form: Form, base_form: Form, shapes: Sequence[Shape], result: bytes, base: bytes
) -> tuple[tuple[int, ...], bytes]:
    """Return parameters and payload.

    Args:
        shapes: rows and columns of the tensors, whose elements follow each other in `result` and `base`.
    """
    known = cast(patterns(base, base_form), base_form, form)
    steps = measure_steps(patterns(result, form), known, form)
    scales = list(_fit_all(steps, exponents(known, form), shapes))
    scale = np.concatenate(
        [np.zeros(0, np.int32), *(part.of(0, part.rows.size * part.columns.size) for part in scales)]
    )
    symbols, lower, widths = split_steps(steps)
    coded = encode_symbols(symbols, contexts_of(known, form, scale), ALPHABET, N_CONTEXTS)
    packed = pack(_write_scales(scales))
    head = write_unsigned(len(packed)) + packed + write_unsigned(len(coded))
    flat = [side for shape in shapes for side in shape]
    return (form, base_form, *flat), head + coded + write_fields(lower, widths)


def measure_steps(result: NDArray[np.uint32], base: NDArray[np.uint32], form: Form) -> NDArray[np.int32]:
    """Return the (n,) steps from base to result in the ordered view; modulo 2**32 for 32-bit forms."""
    return (order(result, form) - order(base, form)).view(np.int32)


def _fit_all(steps: NDArray[np.int32], exponent: NDArray[np.int32], shapes: Sequence[Shape]) -> Iterator[Scales]:
    first = 0
    for rows, columns in shapes:
        span = slice(first, first + rows * columns)
        yield _fit(steps[span].reshape(rows, columns), exponent[span].reshape(rows, columns))
        first = span.stop


def _fit(steps: NDArray[np.int32], exponent: NDArray[np.int32]) -> Scales:
    """Return the scales that explain the sizes: means of the logarithm over rows and over columns."""
    rows, columns = steps.shape
    size = 2 * np.log2(np.abs(steps.astype(np.float32)) + 0.5) + 2 * exponent
    offset = float(size.mean()) if size.size else 0.0
    row = _steady(size.mean(axis=1) - offset, columns) if columns > 1 else np.zeros(rows)
    column = _steady(size.mean(axis=0) - offset, rows) if rows > 1 else np.zeros(columns)
    return Scales(round(offset) + _HEADROOM, _halves(row), _halves(column))


_HEADROOM: Final = 6
"""Contexts begin three octaves below a step of one, so that rows without a change have a context of their own."""


def _steady(scale: NDArray[np.floating], count: int) -> NDArray[np.floating]:
    """Return scales, or none where they are no more than the noise of their own estimate.

    The logarithm of a Gaussian's magnitude has a standard deviation of π/√8/ln 2 octaves: 3.2 half octaves.
    """
    noise = 3.2 / np.sqrt(count)
    return scale if float(scale.std()) > 1.5 * noise else np.zeros_like(scale)


def _halves(scale: NDArray[np.floating]) -> NDArray[np.int8]:
    bounded: NDArray[np.floating] = np.clip(np.rint(scale), -127, 127)
    return bounded.astype(np.int8)


def _write_scales(scales: Sequence[Scales]) -> bytes:
    offsets = np.array([part.offset for part in scales], "<i2").tobytes()
    return offsets + b"".join(part.rows.tobytes() for part in scales) + b"".join(p.columns.tobytes() for p in scales)


# ── decoding ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _memory(op: Op) -> int:
    form = Form(op.parameters[0]) if op.parameters and op.parameters[0] in set(Form) else Form.INT8
    elements = op.length * 8 // form.bits
    sides = sum(min(side, _MAX_SIDE) for side in op.parameters[2:])
    return op.payload_length + _BYTES_AN_ELEMENT * elements + 4 * sides + _FIXED_BYTES


def _decode(job: Job) -> Iterator[bytes]:
    form, base_form, shapes = _parameters(job)
    known = _Known(job.reference, base_form, form)
    cursor = Cursor(job.payload, job.part)
    scales = _read_scales(cursor, shapes, job.part)
    coded = cursor.take(cursor.unsigned())
    plain = FieldReader(cursor.take(cursor.remaining))
    count = sum(rows * columns for rows, columns in shapes)
    contexts = np.empty(count, np.uint8)
    for first, scale in _chunks(scales):
        contexts[first : first + scale.size] = contexts_of(known.read(first, scale.size), form, scale)
    symbols = decode_symbols(coded, count, contexts, ALPHABET, N_CONTEXTS)
    mask = np.uint32(2**form.bits - 1)
    for first in range(0, count, _CHUNK):
        part = symbols[first : first + _CHUNK]
        steps = join_steps(part, plain.read(symbol_widths(part)))
        view = (order(known.read(first, part.size), form) + steps) & mask
        yield to_bytes(disorder(view, form), form)
    plain.finish()


@dataclass(frozen=True, slots=True)
class _Known:
    """The base's numbers in the result's form."""

    reference: bytes
    base_form: Form
    form: Form

    def read(self, first: int, count: int) -> NDArray[np.uint32]:
        """Return the (count,) patterns from element `first`."""
        width = self.base_form.bits // 8
        part = memoryview(self.reference)[first * width : (first + count) * width]
        return cast(patterns(part, self.base_form), self.base_form, self.form)


def _parameters(job: Job) -> tuple[Form, Form, list[Shape]]:
    numbers = job.op.parameters
    if len(numbers) < 2 or len(numbers) % 2 or max(numbers) > _MAX_SIDE:
        raise DeltaError("its parameters are out of range", op=job.part)
    form, base_form = read_form(numbers[0], job.part), read_form(numbers[1], job.part)
    if not {form, base_form} <= FORMS or (form is not base_form and not (form.is_float and base_form.is_float)):
        raise DeltaError(f"no way from {base_form.name} to {form.name}", op=job.part)
    shapes = list(zip(numbers[2::2], numbers[3::2], strict=True))
    count = sum(rows * columns for rows, columns in shapes)
    if not form.fits(count, job.op.length) or not base_form.fits(count, len(job.reference)):
        raise DeltaError(f"{count:,} elements do not fit its lengths", op=job.part)
    return form, base_form, shapes


def _read_scales(cursor: Cursor, shapes: Sequence[Shape], part: str) -> list[Scales]:
    n_rows, n_columns = sum(rows for rows, _ in shapes), sum(columns for _, columns in shapes)
    length = 2 * len(shapes) + n_rows + n_columns
    data = unpack(cursor.take(cursor.unsigned()), length, part, memory_bytes=max(1 << 16, 2 * length))
    offsets = np.frombuffer(data, "<i2", len(shapes))
    rows = np.frombuffer(data, np.int8, n_rows, 2 * len(shapes))
    columns = np.frombuffer(data, np.int8, n_columns, 2 * len(shapes) + n_rows)
    scales, row, column = [], 0, 0
    for offset, (height, width) in zip(offsets.tolist(), shapes, strict=True):
        scales.append(Scales(offset, rows[row : row + height], columns[column : column + width]))
        row, column = row + height, column + width
    return scales


def _chunks(scales: Sequence[Scales]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield the number of the first element and the scales, of all tensors in order, piece by piece."""
    start = 0
    for part in scales:
        count = part.rows.size * part.columns.size
        for first in range(0, count, _CHUNK):
            yield start + first, part.of(first, min(_CHUNK, count - first))
        start += count


MAGNITUDES = Coder(_memory, _decode)
