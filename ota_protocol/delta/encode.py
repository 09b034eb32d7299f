"""Owns the making of deltas: finds what base and result share, and takes the cheapest op for each piece.

The result is cut into numbers and the text between them. Text is packed as one string with the base's text as
dictionary; numbers are copied, coded against their counterpart in the base, or coded alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ota_protocol.delta.format import OUTPUT, Kind, Op, Range
from ota_protocol.delta.groups import Group, Treatment, group_pieces, split_large, treat
from ota_protocol.delta.layout import Tensor, find_tensors
from ota_protocol.delta.packing import pack
from ota_protocol.delta.pairing import FORMS, pair
from ota_protocol.delta.program import Program

_TEXT_POOL = 1
_MIN_BYTES = 64
"""A tensor below this length is left in the text: an op of its own costs more than it saves."""

Progress = Callable[[float], None]


def encode(base: bytes | None, result: bytes, *, progress: Progress | None = None) -> bytes:
    """Return a delta that turns `base` into `result`; without a base, the compressed full.

    Never longer than the compressed full: where a base does not help, that is what is returned.

    Args:
        progress: called with the share done, 0 to 1.
    """
    report = progress or _ignore
    if base is not None and base == result:
        return _identical(result)
    full = _encode_numbers(None, result, lambda share: report(share / 2))
    delta = full if base is None else _encode_numbers(base, result, lambda share: report((1 + share) / 2))
    report(1.0)
    return min(full, delta, key=len)


def _ignore(_share: float) -> None:
    pass


def _identical(result: bytes) -> bytes:
    program = Program()
    program.add(Op(Kind.COPY, len(result), ranges=(Range(0, len(result)),)))
    return program.to_bytes(result, result)


def _encode_numbers(base: bytes | None, result: bytes, progress: Progress) -> bytes:
    """Return a delta made of text and groups of numbers."""
    known = base or b""
    pairs = pair(known, _coded_tensors(known), result, _coded_tensors(result))
    pieces = [part for piece in pairs for part in split_large(piece)]
    groups = group_pieces([treat(known, result, piece) for piece in pieces])
    program = Program()
    text = _between(result, [piece.span for piece in pieces])
    _add_text(program, known, result, text)
    owners = {piece.span.offset: (number, group) for number, group in enumerate(groups) for piece in group.pieces}
    position = 0
    for done, piece in enumerate(pieces):
        number, group = owners[piece.span.offset]
        _emit(program, _TEXT_POOL, piece.span.offset - position)
        position = piece.span.offset + piece.span.length
        if piece.span == group.pieces[0].span:
            _open(program, known, result, group, _TEXT_POOL + 1 + number)
        if len(group.pieces) > 1:
            _emit(program, _TEXT_POOL + 1 + number, piece.span.length)
        progress((done + 1) / len(pieces))
    _emit(program, _TEXT_POOL, len(result) - position)
    return program.to_bytes(base, result)


def _coded_tensors(data: bytes) -> tuple[Tensor, ...]:
    return tuple(
        tensor
        for tensor in find_tensors(data)
        if tensor.length >= _MIN_BYTES and tensor.data_type in FORMS and not tensor.varints
    )


def _open(program: Program, base: bytes, result: bytes, group: Group, pool: int) -> None:
    """Add the op that makes a group's numbers: in a pool, or in place where there is one piece."""
    if group.treatment is Treatment.COPY:
        (piece,) = group.pieces
        assert piece.base is not None
        program.add(Op(Kind.COPY, piece.span.length, ranges=(piece.base,)))
    else:
        program.add(*group.encode(base, result, pool if len(group.pieces) > 1 else OUTPUT))


def _emit(program: Program, pool: int, length: int) -> None:
    if length:
        program.add(Op(Kind.EMIT, length, parameters=(pool,)))


def _add_text(program: Program, base: bytes, result: bytes, text: tuple[Range, ...]) -> None:
    """Add the op that fills the text pool."""
    if not text:
        return
    words = _take(result, text)
    ranges = _between(base, [Range(tensor.offset, tensor.length) for tensor in _coded_tensors(base)])
    dictionary = _take(base, ranges)
    packed = min(((pack(words, dictionary), ranges), (pack(words), ())), key=lambda form: len(form[0]))
    program.add(Op(Kind.INSERT, len(words), _TEXT_POOL, packed[1]), packed[0])


def _between(data: bytes, spans: Sequence[Range]) -> tuple[Range, ...]:
    """Return what lies between the spans."""
    edges = [0, *(edge for span in spans for edge in (span.offset, span.offset + span.length)), len(data)]
    return tuple(Range(a, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a)


def _take(data: bytes, ranges: tuple[Range, ...]) -> bytes:
    return b"".join(data[part.offset : part.offset + part.length] for part in ranges)
