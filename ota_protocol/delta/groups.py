"""Owns how pieces of numbers are coded: the treatment of each, and the groups that share one op.

Pieces of one treatment and form are coded together, so that they share statistics, up to a size that a vehicle can
hold; a group of several pieces fills a pool, from which each piece is emitted at its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import numpy as np
import zstandard

from ota_protocol.delta.coders import codes, magnitudes, palette, planes
from ota_protocol.delta.elements import SMALL_INTEGERS, Form
from ota_protocol.delta.format import OUTPUT, Kind, Op, Range
from ota_protocol.delta.ordered import FORMS as ORDERED
from ota_protocol.delta.ordered import cast, patterns
from ota_protocol.delta.packing import pack
from ota_protocol.delta.pairing import Piece

MAX_ELEMENTS: Final = 3 << 19
"""Elements in one group: a whole SqueezeNet, and some 20 MB to decode."""
_SMALL: Final = SMALL_INTEGERS - {Form.INT16, Form.INT32}
_FEW_BYTES: Final = 1 << 14
"""Below this, tables weigh as much as what they save, so that everything is tried."""
_SAMPLES: Final = 1 << 14
_CLEARLY: Final = 0.97
_MANY_ELEMENTS: Final = 1 << 12
"""Elements that are worth a palette of their own."""
_WORTH: Final = 0.85
"""Numbers alone cost some 85 % of their bits: a changed exponent costs less, the rest is noise."""


class Treatment(Enum):
    """How a piece is coded."""

    COPY = auto()
    CODES = auto()
    """Small integers, alone."""
    CHANGED_CODES = auto()
    """Small integers that have a counterpart."""
    MAGNITUDES = auto()
    PLANES = auto()
    PALETTE = auto()
    """Numbers of few values, such as those of a codebook of their own."""
    REPEATS = auto()
    """Numbers in which the same strings come again, such as the tables of a Fourier transform."""


@dataclass(frozen=True, slots=True)
class Group:
    """Pieces that share one op."""

    treatment: Treatment
    pieces: tuple[Piece, ...]

    @property
    def form(self) -> Form:
        """Element form of all pieces."""
        return self.pieces[0].form

    def encode(self, base: bytes, result: bytes, destination: int) -> tuple[Op, bytes]:
        """Return the op and its payload."""
        data = b"".join(cut(result, piece.span) for piece in self.pieces)
        ranges = tuple(piece.base for piece in self.pieces if piece.base is not None)
        reference = b"".join(cut(base, part) for part in ranges)
        forms = min(self._forms(data, ranges, reference), key=lambda entry: len(entry[1]))
        op, payload = forms
        return Op(op.kind, len(data), destination, op.ranges, op.parameters), payload

    def _forms(self, data: bytes, ranges: tuple[Range, ...], reference: bytes) -> Iterator[tuple[Op, bytes]]:
        """Yield the coded forms that may be the shortest."""
        shapes = [piece.shape for piece in self.pieces]
        if self.treatment is Treatment.CODES:
            yield _op(Kind.CODES, (), codes.encode(self.form, shapes, data))
        elif self.treatment is Treatment.CHANGED_CODES:
            base_form = self.pieces[0].base_form
            assert base_form is not None
            for coded in codes.encode_changed(self.form, base_form, shapes, data, reference):
                yield _op(Kind.CODES, ranges, coded)
        elif self.treatment is Treatment.MAGNITUDES:
            base_form = self.pieces[0].base_form
            assert base_form is not None
            sides = [piece.sides for piece in self.pieces]
            yield _op(Kind.MAGNITUDES, ranges, magnitudes.encode(self.form, base_form, sides, data, reference))
        if self.form.is_varints:
            return
        if len(reference) == len(data) and (self.treatment is not Treatment.MAGNITUDES or len(data) < _FEW_BYTES):
            yield _op(Kind.ADD, ranges, ((), _differences(data, reference)))
        if self.treatment is Treatment.PALETTE:
            yield from self._few_values(data)
            return
        if self.treatment is Treatment.REPEATS:
            yield _op(Kind.INSERT, (), ((), pack(data)))
        if not ranges or len(data) < _FEW_BYTES:
            yield from self._alone(data)

    def _few_values(self, data: bytes) -> Iterator[tuple[Op, bytes]]:
        """Yield the palette, and the packed bytes where a quick trial says that these repeat themselves."""
        coded = palette.encode(self.form.bits // 8, data)
        assert coded is not None
        yield _op(Kind.PALETTE, (), coded)
        if len(zstandard.ZstdCompressor(level=3).compress(data)) < len(coded[1]):
            yield _op(Kind.INSERT, (), ((), pack(data)))

    def _alone(self, data: bytes) -> Iterator[tuple[Op, bytes]]:
        width = max(1, self.form.bits // 8)
        yield _op(Kind.PLANES, (), planes.encode(width, int(self.form.is_float), data))
        few = palette.encode(width, data) if width > 1 else None
        if few is not None:
            yield _op(Kind.PALETTE, (), few)


def _op(kind: Kind, ranges: tuple[Range, ...], coded: tuple[tuple[int, ...], bytes]) -> tuple[Op, bytes]:
    return Op(kind, 0, OUTPUT, ranges, coded[0]), coded[1]


def _differences(data: bytes, reference: bytes) -> bytes:
    difference = np.frombuffer(data, np.uint8) - np.frombuffer(reference, np.uint8)
    return pack(difference.tobytes(), numbers=True)


def cut(data: bytes, span: Range) -> bytes:
    """Return the bytes of a span."""
    return data[span.offset : span.offset + span.length]


def treat(base: bytes, result: bytes, piece: Piece) -> tuple[Treatment, Piece]:
    """Return the treatment of a piece, and the piece without its counterpart where that does not help."""
    if piece.base is not None and piece.base_form is not None:
        if piece.form is piece.base_form and cut(base, piece.base) == cut(result, piece.span):
            return Treatment.COPY, piece
        if piece.form in _SMALL and (piece.base_form in _SMALL or piece.base_form.is_float):
            return Treatment.CHANGED_CODES, piece
        if _is_near(base, result, piece):
            return Treatment.MAGNITUDES, piece
    alone = Piece(piece.span, piece.form, piece.shape)
    if piece.form in _SMALL:
        return Treatment.CODES, alone
    if _has_few_values(cut(result, piece.span), piece.form):
        return Treatment.PALETTE, alone
    return (Treatment.REPEATS if _repeats(cut(result, piece.span), piece.form) else Treatment.PLANES), alone


def _has_few_values(data: bytes, form: Form) -> bool:
    words = np.frombuffer(data, f"<u{form.bits // 8}")
    if words.size < _MANY_ELEMENTS or np.unique(words[: 4 * palette.MAX_VALUES]).size > palette.MAX_VALUES:
        return False
    return np.unique(words).size <= palette.MAX_VALUES


def _repeats(data: bytes, form: Form) -> bool:
    """Tell whether a quick search for repeated strings finds more than the frequencies of bytes in each plane say."""
    width = form.bits // 8
    octets = np.frombuffer(data, np.uint8).reshape(-1, width)
    counts = [np.bincount(octets[:, plane], minlength=256) for plane in range(width)]
    bits = sum(float((own[own > 0] * np.log2(len(octets) / own[own > 0])).sum()) for own in counts)
    return 8 * len(zstandard.ZstdCompressor(level=3).compress(data)) < _CLEARLY * bits


def _is_near(base: bytes, result: bytes, piece: Piece) -> bool:
    """Tell whether the steps from the base's numbers take fewer bits than the numbers alone."""
    assert piece.base is not None and piece.base_form is not None
    both_floats = piece.form.is_float and piece.base_form.is_float
    if not {piece.form, piece.base_form} <= ORDERED or not (piece.form is piece.base_form or both_floats):
        return False
    stride = max(1, piece.count // _SAMPLES)
    wanted = patterns(cut(result, piece.span), piece.form)[::stride]
    known = cast(patterns(cut(base, piece.base), piece.base_form)[::stride], piece.base_form, piece.form)
    steps = magnitudes.measure_steps(wanted, known, piece.form).astype(np.float64)
    return float(np.log2(np.abs(steps) + 1).mean()) + 2 < _WORTH * piece.form.bits


def split_large(piece: Piece) -> Iterator[Piece]:
    """Yield a piece in parts of at most `MAX_ELEMENTS`, whole rows where they fit."""
    rows, columns = piece.sides
    if piece.count <= MAX_ELEMENTS or piece.form.bits < 8 or Form.INT8_VARINTS in (piece.form, piece.base_form):
        yield piece
        return
    if columns > MAX_ELEMENTS or rows == 1:
        rows, columns = piece.count, 1
    height = MAX_ELEMENTS // columns
    for first in range(0, rows, height):
        count = min(height, rows - first)
        shape = (count, *piece.shape[1:]) if columns > 1 else (count,)
        span = _part(piece.span, piece.form, first * columns, count * columns)
        base = None
        if piece.base is not None and piece.base_form is not None:
            base = _part(piece.base, piece.base_form, first * columns, count * columns)
        yield Piece(span, piece.form, shape, base, piece.base_form)


def _part(span: Range, form: Form, first: int, count: int) -> Range:
    width = form.bits // 8
    return Range(span.offset + first * width, count * width)


def group_pieces(treated: Sequence[tuple[Treatment, Piece]]) -> tuple[Group, ...]:
    """Return the groups, in the order of their first pieces."""
    groups: list[list[Piece]] = []
    treatments: list[Treatment] = []
    current: dict[tuple[Treatment, Form, Form | None], int] = {}
    for treatment, piece in treated:
        key = (treatment, piece.form, piece.base_form)
        number = current.get(key)
        full = number is None or sum(p.count for p in groups[number]) + piece.count > MAX_ELEMENTS
        if number is None or full or treatment in (Treatment.COPY, Treatment.PALETTE):
            number = len(groups)
            groups.append([])
            treatments.append(treatment)
            current[key] = number
        groups[number].append(piece)
    return tuple(Group(t, tuple(pieces)) for t, pieces in zip(treatments, groups, strict=True))
