"""Owns one adaptive yes-or-no decision: three predictions by context, mixed in the logistic domain.

After the context mixing of PAQ (Mahoney 2005, "Adaptive weighing of context models for lossless data compression",
TR CS-2005-16), with two changes for many lanes at once: the counts of a whole round enter the tables together, and
the mixing weights follow the summed gradient of a whole step. Counts are never forgotten: weights do not drift.

Floats here hold whole numbers below 2**53 only, so that sums come out the same in whatever order they are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.fixed_log import CHANCE_BITS, ODDS_LIMIT, chance_table, log2_units

_WEIGHT_UNIT: Final = 1 << 20
_FIRST_WEIGHT: Final = 36 * _WEIGHT_UNIT // 100
_LEARNING_RATE: Final = 3600
"""In 2**-20 of (log odds × error) by the square root of the number of flags; 0.02 in natural units."""
_PRIOR: Final = 3
_COUNT: Final = 5
"""A context starts with 0.6 of either answer; Krichevsky and Trofimov would say 0.5."""

Index = NDArray[np.intp]
Flags = NDArray[np.bool_]


class Decision:
    """One decision, such as "is this code zero?", over any number of lanes."""

    def __init__(self, sizes: Sequence[int], groups: int) -> None:
        """Prepare a table of each of `sizes` contexts, and mixing weights for each of `groups` groups of lanes."""
        self._counts = [np.full(2 * size, float(_PRIOR)) for size in sizes]
        self._weights = [[_FIRST_WEIGHT] * len(sizes) for _ in range(groups)]
        self._odds = [np.zeros(size) for size in sizes]
        self._seen: list[tuple[Sequence[Index], Flags]] = []

    def refresh(self) -> None:
        """Let what was learnt since the last refresh enter the predictions."""
        if not self._seen:
            return
        flags = np.concatenate([flags for _, flags in self._seen])
        for number, (counts, odds) in enumerate(zip(self._counts, self._odds, strict=True)):
            places = np.concatenate([contexts[number] for contexts, _ in self._seen])
            places <<= 1
            places += flags
            found = np.bincount(places, minlength=counts.size)
            touched = found.nonzero()[0]
            counts[touched] += _COUNT * found[touched]
            pairs = touched >> 1
            odds[pairs] = log2_units(counts[2 * pairs + 1]) - log2_units(counts[2 * pairs])
        self._seen.clear()

    def predict(self, contexts: Sequence[Index], ends: Sequence[int]) -> NDArray[np.uint32]:
        """Return the (n,) chances, in 2**-CHANCE_BITS, that the flags are set.

        Args:
            contexts: for each table the (n,) contexts of the lanes.
            ends: where each group of lanes ends; lanes of a group lie together.
        """
        count = contexts[0].size
        inputs = np.empty((len(contexts), count))
        for odds, context, row in zip(self._odds, contexts, inputs, strict=True):
            odds.take(context, out=row, mode="clip")
        mixed = np.empty(count)
        first = 0
        for weights, end in zip(np.array(self._weights) * (1 / _WEIGHT_UNIT), ends, strict=True):
            if end > first:
                np.dot(weights, inputs[:, first:end], out=mixed[first:end])
            first = end
        mixed += ODDS_LIMIT
        chances = chance_table().take(mixed.astype(np.intp), mode="clip")
        self._asked = contexts, ends, inputs, chances
        return chances

    def learn(self, flags: Flags) -> None:
        """Take note of what the flags of the last `predict` were."""
        contexts, ends, inputs, chances = self._asked
        errors = flags * float(1 << CHANCE_BITS)
        errors -= chances
        first = 0
        for group, end in enumerate(ends):
            if end > first:
                gradient = np.dot(inputs[:, first:end], errors[first:end]).tolist()
                divisor = isqrt(end - first + 1) << 20
                self._weights[group] = [
                    weight + int(slope) * _LEARNING_RATE // divisor
                    for weight, slope in zip(self._weights[group], gradient, strict=True)
                ]
            first = end
        self._seen.append((contexts, flags))
