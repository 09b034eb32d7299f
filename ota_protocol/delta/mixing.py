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
_LARGEST_WEIGHT: Final = 16 * _WEIGHT_UNIT
_LEARNING_RATE: Final = 3600
"""In 2**-20 of (log odds × error) by the square root of the number of flags; 0.02 in natural units."""
_COUNT: Final = 1024
_PRIOR: Final = 1230
"""A context starts as if it had seen 1.2 flags, set as often as those of all contexts so far."""
SHARE_UNIT: Final = 256
_SHARE_COUNT: Final = 4
"""What is expected at first counts as so many flags."""

Index = NDArray[np.intp]
Flags = NDArray[np.bool_]


class Decision:
    """One decision, such as "is this code zero?", over any number of lanes."""

    def __init__(self, sizes: Sequence[int], groups: int, share: int = SHARE_UNIT // 2) -> None:
        """Prepare the tables and the mixing weights.

        Args:
            sizes: how many contexts each table has.
            groups: groups of lanes, which have mixing weights of their own.
            share: how often to expect the flag to be set, above 0 and below SHARE_UNIT.
        """
        self._share = share
        self._counts = [np.zeros((size, 2), np.int64) for size in sizes]
        self._weights = [[_FIRST_WEIGHT] * len(sizes) for _ in range(groups)]
        self._odds = [np.full(size, self._log_odds(np.zeros((1, 2), np.int64), self._prior(0))) for size in sizes]
        self._seen: list[tuple[Index, Flags]] = []
        self._refreshes = 0

    def refresh(self) -> None:
        """Let what was learnt since the last refresh enter the predictions."""
        if not self._seen:
            return
        self._refreshes += 1
        all_anew = self._refreshes & (self._refreshes - 1) == 0
        flags = np.concatenate([flags for _, flags in self._seen])
        for number, odds in enumerate(self._odds):
            counts = self._counts[number]
            places = np.concatenate([contexts[number] for contexts, _ in self._seen])
            places <<= 1
            places += flags
            found = np.bincount(places, minlength=counts.size).reshape(counts.shape)
            counts += found
            chosen = np.arange(odds.size) if all_anew else np.flatnonzero(found.any(axis=1))
            odds[chosen] = self._log_odds(counts[chosen], self._prior(number))
        self._seen.clear()

    def _prior(self, number: int) -> NDArray[np.int64]:
        """Return the weights, of unset and of set, that each context of a table starts with."""
        clear, is_set = self._counts[number].sum(axis=0).tolist()
        of_all = is_set * SHARE_UNIT + _SHARE_COUNT * self._share
        share = 1 + (_PRIOR - 2) * of_all // ((clear + is_set + _SHARE_COUNT) * SHARE_UNIT)
        return np.array([_PRIOR - share, share])

    @staticmethod
    def _log_odds(counts: NDArray[np.int64], prior: NDArray[np.int64]) -> NDArray[np.float64]:
        logs = log2_units((_COUNT * counts + prior).astype(np.float64))
        odds: NDArray[np.float64] = logs[:, 1] - logs[:, 0]
        return odds

    def predict(self, contexts: Index, ends: Sequence[int]) -> NDArray[np.uint32]:
        """Return the (n,) chances, in 2**-CHANCE_BITS, that the flags are set.

        Args:
            contexts: (tables, n) contexts of the lanes.
            ends: where each group of lanes ends; lanes of a group lie together.
        """
        count = contexts.shape[1]
        inputs = np.empty((len(self._odds), count))
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

    def learn(self, flags: Flags, *, keep: bool = True) -> None:
        """Take note of what the flags of the last `predict` were, or, unless they are to `keep`, pass over them."""
        if not keep:
            return
        contexts, ends, inputs, chances = self._asked
        errors = flags * float(1 << CHANCE_BITS)
        errors -= chances
        first = 0
        for group, end in enumerate(ends):
            if end > first:
                gradient = np.dot(inputs[:, first:end], errors[first:end]).tolist()
                divisor = isqrt(end - first + 1) << 20
                moved = [
                    weight + int(slope) * _LEARNING_RATE // divisor
                    for weight, slope in zip(self._weights[group], gradient, strict=True)
                ]
                self._weights[group] = [min(max(weight, -_LARGEST_WEIGHT), _LARGEST_WEIGHT) for weight in moved]
            first = end
        self._seen.append((contexts, flags))
