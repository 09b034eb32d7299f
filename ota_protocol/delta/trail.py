"""Owns the mean of the codes that lanes came by last: neighbours in the longer side, where its order means something.

The classes of a classifier are often listed by kind, so that neighbours have like weights. Lanes move from channel to
channel of the longer side; for each channel of the shorter side they leave a running mean behind.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.surroundings import MEAN_LIMIT, MEAN_UNIT
from ota_protocol.delta.traversal import LaneGroup, Places

_FADE: Final = 3
"""A new code has the weight 2**-3 in the running mean."""


class Trail:
    """The running means of one lane group."""

    def __init__(self, group: LaneGroup) -> None:
        self._means = np.zeros(group.strands, np.int64)

    def means(self, places: Places) -> NDArray[np.int64]:
        """Return the running mean that leads to each place, (n,), in 1 / MEAN_UNIT."""
        return self._means.take(places.strand)

    def note(self, places: Places, codes: NDArray[np.int32]) -> None:
        """Take note of the (n,) codes at these places, no two of them on one strand."""
        before = self._means.take(places.strand)
        new = np.minimum(np.maximum(codes, -MEAN_LIMIT), MEAN_LIMIT) * MEAN_UNIT
        self._means[places.strand] = before + ((new - before) >> _FADE)
