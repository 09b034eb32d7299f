"""Owns the making of deltas: finds what base and result share, and takes the cheapest op for each piece.

The result is cut into numbers and the text between them. Text is packed as one string with the base's text as
dictionary; numbers are copied, coded against their counterpart in the base, or coded alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ota_protocol.delta.format import OUTPUT, Kind, Op, Range, take
from ota_protocol.delta.groups import Group, Treatment, group_pieces, split_large, treat
from ota_protocol.delta.guess import guess_pieces
from ota_protocol.delta.layout import Tensor, find_tensors
from ota_protocol.delta.matches import Match, find_matches
from ota_protocol.delta.pairing import Piece, form_of, pair
from ota_protocol.delta.passive import BATCH_BYTES, FIRST_FREE_POOL, Memo, Passive, Stretch, exact, inexact
from ota_protocol.delta.program import Program

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
    memo: Memo = {}
    full = _encode(None, result, memo, lambda share: report(share / 2))
    if base is None:
        delta = full
    elif base == result:
        delta = _identical(result)
    else:
        delta = _encode(base, result, memo, lambda share: report((1 + share) / 2))
    report(1.0)
    return min(full, delta, key=len)


def _ignore(_share: float) -> None:
    pass


def _identical(result: bytes) -> bytes:
    program = Program()
    program.add(Op(Kind.COPY, len(result), ranges=(Range(0, len(result)),)))
    return program.to_bytes(result, result)


@dataclass(frozen=True, slots=True)
class _Split:
    """A result, cut into groups of numbers and passive bytes."""

    base: bytes | None
    result: bytes
    groups: tuple[Group, ...]
    seeds: tuple[Match, ...]
    """Numbers that are equal in the base: passive, in offsets of the text."""
    text: bytes
    dictionary: tuple[Range, ...]

    @property
    def known(self) -> bytes:
        """The base's bytes, or none."""
        return self.base or b""

    def passives(self) -> Iterator[list[Stretch]]:
        """Yield the ways to make the text that may be the shortest."""
        whole = find_matches(self.known, self.text, self.seeds, search=False)
        yield exact(whole, len(self.text))
        if self.base:
            found = find_matches(self.known, self.text, self.seeds, search=True)
            yield exact(found, len(self.text))
            yield inexact(self.known, self.text, found)


def _encode(base: bytes | None, result: bytes, memo: Memo, progress: Progress) -> bytes:
    """Return the shortest delta that was found."""
    split = _split(base, result)
    made = {}
    for done, group in enumerate(split.groups):
        pool = OUTPUT if len(group.pieces) == 1 else FIRST_FREE_POOL + done
        made[group.pieces[0].span.offset] = group.encode(split.known, result, pool)
        progress((done + 1) / (len(split.groups) + 1))
    return min((_write(split, made, stretches, memo) for stretches in split.passives()), key=len)


def _split(base: bytes | None, result: bytes) -> _Split:
    known = base or b""
    tensors = _coded_tensors(result)
    pairs = pair(known, _coded_tensors(known), result, tensors) if tensors else guess_pieces(known, result)
    treated = [treat(known, result, part) for piece in pairs for part in split_large(piece)]
    active = [(treatment, piece) for treatment, piece in treated if treatment is not Treatment.COPY]
    passive = _between(result, [piece.span for _, piece in active])
    seeds = tuple(_seeds(passive, [piece for treatment, piece in treated if treatment is Treatment.COPY]))
    dictionary = _between(known, [Range(tensor.offset, tensor.length) for tensor in _coded_tensors(known)])
    if sum(part.length for part in dictionary) > BATCH_BYTES:
        dictionary = ()
    return _Split(base, result, group_pieces(active), seeds, take(result, passive), dictionary)


def _coded_tensors(data: bytes) -> tuple[Tensor, ...]:
    return tuple(tensor for tensor in find_tensors(data) if tensor.length >= _MIN_BYTES and form_of(tensor) is not None)


def _between(data: bytes, spans: Sequence[Range]) -> tuple[Range, ...]:
    """Return what lies between the spans."""
    edges = [0, *(edge for span in spans for edge in (span.offset, span.offset + span.length)), len(data)]
    return tuple(Range(a, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a)


def _seeds(passive: Sequence[Range], copies: Sequence[Piece]) -> Iterator[Match]:
    """Yield the copies in offsets of the text that the passive ranges make up."""
    left = list(reversed(copies))
    start = 0
    for part in passive:
        while left and left[-1].span.offset < part.offset + part.length:
            piece = left.pop()
            if piece.base is not None:
                yield Match(start + piece.span.offset - part.offset, piece.base.offset, piece.span.length)
        start += part.length


def _write(split: _Split, made: Mapping[int, tuple[Op, bytes]], stretches: Sequence[Stretch], memo: Memo) -> bytes:
    """Return the delta with one way to make the text.

    Args:
        made: op and payload of each group, by the offset of its first piece.
    """
    program = Program()
    passive = Passive(split.known, split.text, stretches, split.dictionary, memo)
    members = [(piece.span, number) for number, group in enumerate(split.groups) for piece in group.pieces]
    position = 0
    for span, number in sorted(members, key=lambda member: member[0].offset):
        passive.emit(program, span.offset - position)
        if span.offset in made:
            program.add(*made[span.offset])
        if len(split.groups[number].pieces) > 1:
            program.add(Op(Kind.EMIT, span.length, parameters=(FIRST_FREE_POOL + number,)))
        position = span.offset + span.length
    passive.emit(program, len(split.result) - position)
    return program.to_bytes(split.base, split.result)
