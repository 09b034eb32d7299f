"""Owns the step from float weights to the integer codes that were probably made from them.

A code is predicted as the float divided by the step of its row, rounded to nearest. One multiplication and one
rounding of IEEE 754, so every machine predicts the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_REACH: Final = 2**20
"""Predictions are cut here, far beyond any code, so that they fit int32 whatever the floats are."""
_BITS_A_MISS: Final = 4.0
_BITS_A_STEP: Final = 28.0

Floats = NDArray[np.float32]


def predict(floats: Floats, rates: Floats) -> NDArray[np.int32]:
    """Return the predicted codes.

    Args:
        floats: (rows, columns).
        rates: (rows,) codes per unit of the floats, the inverse of the step.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(floats.astype(np.float64) * rates.astype(np.float64)[:, np.newaxis])
    bounded: NDArray[np.float64] = np.clip(np.nan_to_num(scaled, nan=0.0), -_REACH, _REACH)
    return bounded.astype(np.int32)


def fit(codes: NDArray[np.int32], floats: Floats) -> Floats:
    """Return (rows,) rates that predict the codes best: one for all rows, or one each where that pays.

    Args:
        codes, floats: (rows, columns); the step is the least-squares slope of floats over codes.
    """
    known = np.nan_to_num(floats.astype(np.float64), posinf=0.0, neginf=0.0)
    products, moments = (known * codes).sum(axis=1), (codes.astype(np.float64) ** 2).sum(axis=1)
    whole = np.full(len(codes), _ratio(moments.sum(), products.sum()), np.float32)
    rows = np.array([_ratio(a, b) for a, b in zip(moments, products, strict=True)], np.float32)
    costs = [
        _BITS_A_MISS * float((predict(floats, rates) != codes).sum()) + _BITS_A_STEP * np.unique(rates).size
        for rates in (whole, rows)
    ]
    return whole if costs[0] <= costs[1] else rows


def _ratio(above: float, below: float) -> float:
    return above / below if abs(below) > 1e-30 else 0.0
