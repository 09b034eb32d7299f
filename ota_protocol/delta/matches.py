"""Owns the search for what two byte strings share: exact matches, and stretches that agree in most bytes.

Windows of the base are hashed at every few bytes, those of the text at every byte (Rabin 1981 in spirit; here a hash
of three 64-bit words, many positions at once in numpy). What agrees is extended both ways; then stretches between
matches are aligned with one neighbour or the other where that makes most bytes equal, as bsdiff does (Percival,
"Naive Differences of Executable Code", 2003).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_WINDOW: Final = 24
_MAX_HASHES: Final = 1 << 21
"""Hashes kept of the base: one every 8 bytes up to 16 MB, fewer above."""
_MIN_STEP: Final = 8
_FILTER_BITS: Final = 24
_CHUNK: Final = 1 << 20
_REACH: Final = 1 << 16
"""How far a stretch that is not equal is looked at for approximate agreement."""
_BRIDGE: Final = 32
"""Neighbours of one shift are joined over this many bytes even if none agrees: two more ops would cost as much."""
_MIX: Final = tuple(np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))
"""Odd constants of the golden ratio and of xxHash."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Match:
    """Bytes of the text that stand for bytes of the base."""

    text: int
    base: int
    length: int

    @property
    def end(self) -> int:
        """End in the text."""
        return self.text + self.length

    @property
    def shift(self) -> int:
        """How far the base's bytes lie from the text's."""
        return self.base - self.text


def find_matches(base: bytes, text: bytes, seeds: Sequence[Match], *, search: bool) -> list[Match]:
    """Return exact matches in the order of the text, none overlapping.

    Args:
        seeds: matches known beforehand, in order; they are extended first.
        search: whether the rest of the text is searched for, too.
    """
    old, new = np.frombuffer(base, np.uint8), np.frombuffer(text, np.uint8)
    found = list(_extend_all(old, new, seeds))
    if not search or min(old.size, new.size) < _WINDOW:
        return found
    index = _Index(old)
    complete: list[Match] = []
    position = 0
    for match in [*found, Match(new.size, old.size, 0)]:
        complete += index.search(new, position, match.text)
        if match.length:
            complete.append(match)
        position = match.end
    return complete


def _extend_all(old: Bytes, new: Bytes, seeds: Sequence[Match]) -> Iterator[Match]:
    """Yield the seeds extended both ways; one that another has grown over is left out."""
    end = 0
    for seed in seeds:
        if seed.end > end:
            start = max(seed.text, end)
            grown = _extend(old, new, Match(start, start + seed.shift, seed.end - start), end, new.size)
            end = grown.end
            yield grown


def _extend(old: Bytes, new: Bytes, match: Match, first: int, last: int) -> Match:
    """Return the match extended both ways within [first, last) of the text."""
    room = min(match.text - first, match.base)
    back = _run(old[match.base - room : match.base][::-1], new[match.text - room : match.text][::-1])
    ahead = min(last - match.end, old.size - match.base - match.length)
    end = match.base + match.length
    on = _run(old[end : end + ahead], new[match.end : match.end + ahead])
    return Match(match.text - back, match.base - back, back + match.length + on)


def _run(left: Bytes, right: Bytes) -> int:
    """Return how many bytes agree from the start."""
    position, size = 0, 256
    while position < left.size:
        unequal = left[position : position + size] != right[position : position + size]
        if unequal.any():
            return position + int(unequal.argmax())
        position += size
        size = min(4 * size, _CHUNK)
    return int(left.size)


class _Index:
    """Where windows of the base lie."""

    def __init__(self, old: Bytes) -> None:
        self._old = old
        step = max(_MIN_STEP, old.size // _MAX_HASHES)
        places = np.arange(0, old.size - _WINDOW + 1, step)
        hashes = np.concatenate([_hash(old, places[first : first + _CHUNK]) for first in range(0, places.size, _CHUNK)])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._places = hashes[order], places[order]
        self._filter = np.zeros(1 << _FILTER_BITS, np.bool_)
        self._filter[hashes >> np.uint64(64 - _FILTER_BITS)] = True

    def search(self, new: Bytes, first: int, last: int) -> Iterator[Match]:
        """Yield matches within [first, last) of the text, greedily from its start."""
        done, shift = first, 0
        for text, base in self._candidates(new, first, last):
            if text < done:
                continue
            near = text + shift
            start = near if 0 <= near <= self._old.size - _WINDOW and self._agree(new, text, near) else base
            if not self._agree(new, text, start):
                continue
            match = _extend(self._old, new, Match(text, start, _WINDOW), done, last)
            done, shift = match.end, match.shift
            yield match

    def _agree(self, new: Bytes, text: int, base: int) -> bool:
        return bool(np.array_equal(self._old[base : base + _WINDOW], new[text : text + _WINDOW]))

    def _candidates(self, new: Bytes, first: int, last: int) -> Iterator[tuple[int, int]]:
        for start in range(first, last - _WINDOW + 1, _CHUNK):
            places = np.arange(start, min(start + _CHUNK, last - _WINDOW + 1))
            hashes = _hash(new, places)
            likely = np.flatnonzero(self._filter[hashes >> np.uint64(64 - _FILTER_BITS)])
            at = np.minimum(np.searchsorted(self._hashes, hashes[likely]), self._hashes.size - 1)
            sure = self._hashes[at] == hashes[likely]
            yield from zip(places[likely[sure]].tolist(), self._places[at[sure]].tolist(), strict=True)


def _hash(data: Bytes, places: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a hash of the window at each place."""
    words = np.ndarray(data.size - 7, "<u8", data, strides=(1,))
    mixed = words[places] * _MIX[0]
    for number in (1, 2):
        mixed ^= mixed >> np.uint64(29)
        mixed += words[places + 8 * number] * _MIX[number]
    mixed *= _MIX[0]
    return mixed


# ── approximate agreement ───────────────────────────────────────────────────────────────────────────────────────────


def approximate(base: bytes, text: bytes, matches: Sequence[Match]) -> list[Match]:
    """Return the matches grown over bytes that agree in most places, neighbours of one shift joined."""
    old, new = np.frombuffer(base, np.uint8), np.frombuffer(text, np.uint8)
    grown: list[Match] = []
    for number, match in enumerate(matches):
        back = _agreeing(old, new, match, match.text - (grown[-1].end if grown else 0), ahead=False)
        start = Match(match.text - back, match.base - back, match.length + back)
        limit = matches[number + 1].text if number + 1 < len(matches) else new.size
        on = _agreeing(old, new, start, limit - start.end, ahead=True)
        start = Match(start.text, start.base, start.length + on)
        if grown and start.text - grown[-1].end <= _BRIDGE and grown[-1].shift == start.shift:
            before = grown.pop()
            start = Match(before.text, before.base, start.end - before.text)
        grown.append(start)
    return grown


def _agreeing(old: Bytes, new: Bytes, match: Match, room: int, *, ahead: bool) -> int:
    """Return how far to grow: where agreeing bytes outnumber the others by most."""
    if ahead:
        base, text = match.base + match.length, match.end
        size = min(room, old.size - base, _REACH)
        equal = old[base : base + size] == new[text : text + size]
    else:
        size = min(room, match.base, _REACH)
        equal = (old[match.base - size : match.base] == new[match.text - size : match.text])[::-1]
    if size <= 0:
        return 0
    score = np.cumsum(np.where(equal, 1, -1))
    best = int(score.argmax())
    return best + 1 if score[best] > 0 else 0
