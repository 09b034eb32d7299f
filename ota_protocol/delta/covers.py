"""Owns the search for stretches of a text that another text holds too, with every byte of both considered.

Where graph text was renamed or cut, hundreds of short stretches move together. The longest match at every place comes
from the sorted suffixes of both texts (Manber and Myers, "Suffix arrays: a new method for on-line string searches",
1993; sorted by doubling, many at once in numpy). Which matches are taken is decided from the end of the text to its
start, by what literals and covers cost; a match is always taken whole, since what follows never costs less for
starting earlier.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.matches import Match

MAX_BYTES: Final = 1 << 19
"""Both texts together; sorting the suffixes of more takes seconds."""
LEAST_COVER: Final = 5
"""Shorter stretches cost less as literals."""
_LITERAL_BITS: Final = 4
_COVER_BITS: Final = 16
"""What a literal byte and a cover cost, packed, as measured on graph text."""
_CANDIDATES: Final = 128
"""Places of the known text, to either side in the order of suffixes, that a cover is taken from."""

Index = NDArray[np.int64]


def find_covers(known: bytes, text: bytes) -> list[Match]:
    """Return stretches of `text` that lie in `known` too, in order, none overlapping.

    Args:
        known, text: at most `MAX_BYTES` together.
    """
    if not known or not text:
        return []
    suffixes = _Suffixes(known, text)
    lengths = _chosen_lengths(suffixes.longest())
    return list(_placed(suffixes, lengths, known, text))


def _chosen_lengths(longest: Index) -> list[int]:
    """Return at each place of the text the length of the cover that begins there, if the text before ends there."""
    count = longest.size
    costs, chosen = [0] * (count + 1), [0] * count
    for place, length in zip(range(count - 1, -1, -1), longest[::-1].tolist(), strict=True):
        costs[place] = costs[place + 1] + _LITERAL_BITS
        if length >= LEAST_COVER and costs[place + length] + _COVER_BITS < costs[place]:
            costs[place], chosen[place] = costs[place + length] + _COVER_BITS, length
    return chosen


def _placed(suffixes: _Suffixes, lengths: list[int], known: bytes, text: bytes) -> Iterator[Match]:
    """Yield the covers, each from the place that is told in the fewest bits.

    What counts is the gap from the end of the cover before: one that was told before packs best, then a small one.
    """
    place = end = 0
    told: set[int] = set()
    while place < len(text):
        length = lengths[place]
        if not length:
            place += 1
            continue
        gaps = [source - end for source in suffixes.sources(place, text[place : place + length], known)]
        gap = min(gaps, key=lambda gap: (gap not in told, abs(gap)))
        told.add(gap)
        yield Match(place, end + gap, length)
        end += gap + length
        place += length


class _Suffixes:
    """All suffixes of two texts in order."""

    def __init__(self, known: bytes, text: bytes) -> None:
        self._first = len(known) + 1
        """Where the text begins; a byte of its own lies between both."""
        symbols = np.frombuffer(known + b"\0" + text, np.uint8).astype(np.int64) + 1
        symbols[len(known)] = 0
        self._ranks = list(_ranks(symbols))
        order = np.argsort(self._ranks[-1][:-1])
        self._known = order[order < len(known)]
        before = np.cumsum(order < len(known))
        self._place = np.empty(order.size, np.int64)
        self._place[order] = before
        """For each suffix, how many suffixes of the known text come before it (or are it)."""

    def longest(self) -> Index:
        """Return for each place of the text how long the longest match in the known text is."""
        places = np.arange(self._first, self._place.size)
        after = self._place[places]
        above = self._known[np.maximum(after - 1, 0)]
        below = self._known[np.minimum(after, self._known.size - 1)]
        return np.maximum(self._common(places, above), self._common(places, below))

    def sources(self, place: int, part: bytes, known: bytes) -> list[int]:
        """Return where the known text holds `part`, which begins at `place` of the text."""
        middle = int(self._place[self._first + place])
        found = []
        for near in (self._known[max(0, middle - _CANDIDATES) : middle][::-1], self._known[middle:][:_CANDIDATES]):
            for source in near.tolist():
                if known[source : source + len(part)] != part:
                    break
                found.append(source)
        return found

    def _common(self, left: Index, right: Index) -> Index:
        """Return how many symbols each two suffixes have in common."""
        length = np.zeros(left.size, np.int64)
        for level in range(len(self._ranks) - 1, -1, -1):
            ranks = self._ranks[level]
            length += (ranks[left + length] == ranks[right + length]) << level
        return length


def _ranks(symbols: Index) -> Iterator[Index]:
    """Yield the rank of every suffix by its first 1, 2, 4, … symbols, until all differ; one entry stands for the end.

    Suffixes that are shorter have unequal ends, so that equal ranks mean equal symbols.
    """
    rank, reach = symbols, 1
    while True:
        yield np.append(rank, -1).astype(np.int32)
        if reach > 1 and int(rank.max()) == rank.size - 1:
            return
        second = np.zeros(rank.size, np.int64)
        second[:-reach] = rank[reach:] + 1
        keys = rank * (rank.size + 257) + second
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        rank = np.empty(rank.size, np.int64)
        rank[order] = np.cumsum(np.concatenate([[False], ordered[1:] != ordered[:-1]]))
        reach *= 2
