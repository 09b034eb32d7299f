"""Owns the passive bytes of a result: everything that no group of numbers makes.

They are one text, cut by the numbers between them. Stretches of it are copied from the base, taken from there with
byte-wise differences, or packed with the base's own text as dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

import numpy as np

from ota_protocol.delta.coders import weave
from ota_protocol.delta.format import Kind, Op, Range, take
from ota_protocol.delta.matches import Match, approximate
from ota_protocol.delta.packing import pack
from ota_protocol.delta.program import Program

TEXT_POOL: Final = 1
CHANGED_POOL: Final = 2
FIRST_FREE_POOL: Final = 3

BATCH_BYTES: Final = 8 << 20
"""Text that is packed at once: more would pack a little better and cost the vehicle as much memory."""
_MIN_COPY: Final = 32
"""An op costs some eight bytes, packed; shorter stretches are left to the text's dictionary."""
_BYTES_A_RANGE: Final = 2
"""What a range of the dictionary costs in the packed program."""
_MIN_PLAIN_COPY: Final = 1 << 12
"""Within a stretch with differences, equal bytes of at least this length are copied instead."""


Form = tuple[Op, bytes]
"""An op and its payload."""
Memo = dict[tuple[Kind, bytes, tuple[Range, ...]], Form | None]
"""Kind of op, text, and the ranges that are its dictionary → that op; None where it does not fit the text."""


class Way(Enum):
    """Where a stretch comes from."""

    TEXT = auto()
    COPY = auto()
    CHANGED = auto()


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive bytes of the text that come one way."""

    way: Way
    text: int
    length: int
    base: int = 0
    """Offset in the base, of bytes that are copied or changed."""

    def split(self, length: int) -> tuple[Stretch, Stretch]:
        """Return the first `length` bytes, and the others."""
        rest = replace(self, text=self.text + length, length=self.length - length, base=self.base + length)
        return replace(self, length=length), rest


def exact(matches: Sequence[Match], length: int) -> list[Stretch]:
    """Return stretches that are copied or packed, for a text of `length` bytes."""
    return list(_stretches([match for match in matches if match.length >= _MIN_COPY], length, Way.COPY))


def inexact(base: bytes, text: bytes, matches: Sequence[Match]) -> list[Stretch]:
    """Return stretches that are copied, changed or packed."""
    grown = [match for match in approximate(base, text, matches) if match.length >= _MIN_COPY]
    return [part for stretch in _stretches(grown, len(text), Way.CHANGED) for part in _sort_out(base, text, stretch)]


def _stretches(matches: Sequence[Match], length: int, way: Way) -> Iterator[Stretch]:
    position = 0
    for match in matches:
        if match.text > position:
            yield Stretch(Way.TEXT, position, match.text - position)
        yield Stretch(way, match.text, match.length, match.base)
        position = match.end
    if length > position:
        yield Stretch(Way.TEXT, position, length - position)


def _sort_out(base: bytes, text: bytes, stretch: Stretch) -> Iterator[Stretch]:
    """Yield a stretch with differences in parts: long equal ones to be copied, and the others."""
    if stretch.way is not Way.CHANGED:
        yield stretch
        return
    old = np.frombuffer(base, np.uint8, stretch.length, stretch.base)
    new = np.frombuffer(text, np.uint8, stretch.length, stretch.text)
    edges = np.concatenate([[-1], np.flatnonzero(old != new), [stretch.length]])
    done = 0
    for edge in np.flatnonzero(np.diff(edges) > _MIN_PLAIN_COPY).tolist():
        start, end = int(edges[edge]) + 1, int(edges[edge + 1])
        if start > done:
            changed, stretch = stretch.split(start - done)
            yield changed
        copied, stretch = stretch.split(end - start)
        yield replace(copied, way=Way.COPY)
        done = end
    if stretch.length:
        yield stretch


class Passive:
    """Gives out the text, stretch by stretch, as ops of a program.

    Args:
        dictionary: ranges of the base that the text resembles.
        memo: what was packed for other ways to make the same result; it is added to.
    """

    def __init__(
        self, base: bytes, text: bytes, stretches: Sequence[Stretch], dictionary: tuple[Range, ...], memo: Memo
    ) -> None:
        self._base, self._text = base, text
        self._dictionary, self._memo = dictionary, memo
        self._left = list(reversed(stretches))
        self._plain = [stretch for stretch in stretches if stretch.way is Way.TEXT]
        self._changed = [stretch for stretch in stretches if stretch.way is Way.CHANGED]
        self._pooled = {TEXT_POOL: 0, CHANGED_POOL: 0}

    def emit(self, program: Program, length: int) -> None:
        """Add the ops that make the next `length` bytes of the text."""
        while length:
            stretch = self._left.pop()
            if stretch.length > length:
                stretch, rest = stretch.split(length)
                self._left.append(rest)
            length -= stretch.length
            if stretch.way is Way.COPY:
                program.add(Op(Kind.COPY, stretch.length, ranges=(Range(stretch.base, stretch.length),)))
            elif stretch.way is Way.TEXT:
                self._emit_pooled(program, TEXT_POOL, stretch.length)
            else:
                self._emit_pooled(program, CHANGED_POOL, stretch.length)

    def _emit_pooled(self, program: Program, pool: int, length: int) -> None:
        while length:
            if not self._pooled[pool]:
                op, payload = self._next_text() if pool == TEXT_POOL else self._next_changes()
                program.add(op, payload)
                self._pooled[pool] = op.length
            part = min(length, self._pooled[pool])
            self._pooled[pool] -= part
            length -= part
            program.add(Op(Kind.EMIT, part, parameters=(pool,)))

    def _next_text(self) -> Form:
        batch = _take_batch(self._plain)
        data = b"".join(self._text[part.text : part.text + part.length] for part in batch)
        forms = [self._form(Kind.INSERT, data, ())]
        if self._dictionary:
            forms += [self._form(kind, data, self._dictionary) for kind in (Kind.INSERT, Kind.WEAVE)]
        found = [form for form in forms if form is not None]
        return min(found, key=lambda form: len(form[1]) + _BYTES_A_RANGE * len(form[0].ranges))

    def _form(self, kind: Kind, data: bytes, dictionary: tuple[Range, ...]) -> Form | None:
        """Return the op of a kind that makes `data`."""
        key = kind, data, dictionary
        if key not in self._memo:
            known = take(self._base, dictionary)
            coded = ((), pack(data, known)) if kind is Kind.INSERT else weave.encode(data, known)
            self._memo[key] = coded and (Op(kind, len(data), TEXT_POOL, dictionary, coded[0]), coded[1])
        return self._memo[key]

    def _next_changes(self) -> Form:
        batch = _take_batch(self._changed)
        ranges = tuple(Range(part.base, part.length) for part in batch)
        new = b"".join(self._text[part.text : part.text + part.length] for part in batch)
        difference = np.frombuffer(new, np.uint8) - np.frombuffer(take(self._base, ranges), np.uint8)
        return Op(Kind.ADD, len(new), CHANGED_POOL, ranges), pack(difference.tobytes())


def _take_batch(stretches: list[Stretch]) -> list[Stretch]:
    """Take stretches from the front, at most `BATCH_BYTES`."""
    batch, room = [], BATCH_BYTES
    while stretches and room:
        stretch = stretches.pop(0)
        if stretch.length > room:
            stretch, rest = stretch.split(room)
            stretches.insert(0, rest)
        room -= stretch.length
        batch.append(stretch)
    return batch
