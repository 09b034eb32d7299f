"""Owns what a tensor loses by being held in 8 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model_build.network import ActivationScale

LEVELS = 255
"""Codes are 0 … 255."""


def round_trip(values: NDArray[np.float32], held: ActivationScale) -> NDArray[np.float32]:
    """Return `values` as they come back from 8 bits, as QuantizeLinear and DequantizeLinear do it."""
    scale = np.float32(held.scale)
    codes = np.rint(values / scale).clip(-held.zero_point, LEVELS - held.zero_point)
    return np.asarray(codes * scale, np.float32)
