"""Owns the choice among magnitude classes: what is left to tell of a code once it is known to be large.

A class is one excess, or, from `DIRECT` on, a quarter of an octave of excesses whose lower bits travel plain (an
Exp-Golomb code of order 2, Teuhola 1978, whose prefix is adaptive).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.fixed_log import CHANCE_BITS

DIRECT: Final = 16
"""Excesses below this are classes of their own."""
MAX_CLASSES: Final = DIRECT + 4 * 27
"""Excesses stay below 2**31."""

_OCTAVE: Final = 4
_FIRST_COUNTS: Final = (16, 9, 5, 3)
_COUNT: Final = 32
_SHARED: Final = 64

Index = NDArray[np.intp]
U32 = NDArray[np.uint32]


class MagnitudeChoice:
    """Adaptive frequencies of the classes in each context of each layer.

    A layer's own counts add to what all layers found in that context, as if that had been seen `_SHARED` times.
    """

    def __init__(self, layers: int, contexts: int, classes: int) -> None:
        self._classes = classes
        self._counts = np.zeros((layers, contexts, classes), np.int64)
        first = np.ones((contexts, classes), np.int64)
        first[:, : len(_FIRST_COUNTS)] = _FIRST_COUNTS[:classes]
        self._first = first
        self._seen: list[Index] = []
        self._set_ends()

    def refresh(self) -> None:
        """Let what was learnt since the last refresh enter the frequencies."""
        if self._seen:
            found = np.bincount(np.concatenate(self._seen), minlength=self._counts.size)
            self._counts += found.reshape(self._counts.shape)
            self._seen.clear()
            self._set_ends()

    def _set_ends(self) -> None:
        shared = _COUNT * self._counts.sum(axis=0) + self._first
        prior = shared * (_COUNT * _SHARED) // shared.sum(axis=1, keepdims=True) + 1
        ends = np.cumsum(_COUNT * self._counts + prior, axis=2).reshape(-1, self._classes)
        scaled = ends * ((1 << CHANCE_BITS) - self._classes) // ends[:, -1:]
        self._ends: U32 = (scaled + np.arange(1, self._classes + 1)).astype(np.uint32)

    def intervals(self, contexts: Index) -> U32:
        """Return the (n, classes) ends of the classes' intervals, of 2**CHANCE_BITS."""
        return self._ends.take(contexts, axis=0)

    def learn(self, contexts: Index, classes: Index) -> None:
        """Take note of the classes that were found in these contexts."""
        self._seen.append(contexts * self._classes + classes)


def split(excess: NDArray[np.int64]) -> tuple[Index, U32, Index]:
    """Return each excess's class, the plain bits below it, and how many they are."""
    octave = np.frexp(np.maximum(excess, 1).astype(np.float64))[1] - 1
    width = np.where(excess < DIRECT, 0, octave - 2)
    label = np.where(excess < DIRECT, excess, DIRECT + 4 * (octave - _OCTAVE) + ((excess >> width) & 3))
    return label.astype(np.intp), (excess & ((1 << width) - 1)).astype(np.uint32), width.astype(np.intp)


def least(classes: Index) -> tuple[NDArray[np.int64], Index]:
    """Return the smallest excess of each class, and how many plain bits follow."""
    octave, quarter = np.divmod(classes - DIRECT, 4)
    width = np.where(classes < DIRECT, 0, octave + _OCTAVE - 2)
    return np.where(classes < DIRECT, classes, (4 + quarter) << np.maximum(width, 0)), width
