"""Owns the price of a code: how many bits an integer code costs, for whoever chooses codes by error and rate.

Does not code anything; `ota_protocol.delta.entropy` does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def code_lengths(codes: NDArray[np.int32], reach: int) -> NDArray[np.float64]:
    """Return the bits that each value of -reach … reach costs under the statistics of `codes`.

    Each value's count is smoothed with its neighbours' and with a little of everything, so that values that do not
    occur yet are dear but possible, and dearer the farther out they lie.

    Args:
        codes: int32, any shape: the codes of a tensor as they stand.
        reach: largest magnitude priced; larger codes count as `reach`.

    Returns:
        (2 * reach + 1,) bits; entry ``v + reach`` belongs to value `v`.
    """
    clipped = np.clip(codes.ravel(), -reach, reach) + reach
    counts = np.bincount(clipped, minlength=2 * reach + 1).astype(np.float64)
    distance = np.abs(np.arange(-reach, reach + 1, dtype=np.float64))
    spread = max(float(np.abs(codes).mean()) if codes.size else 1.0, 0.25)
    prior = np.exp(-distance / spread) + 1e-9
    smoothed = counts + prior / prior.sum()
    result: NDArray[np.float64] = -np.log2(smoothed / smoothed.sum())
    return result
