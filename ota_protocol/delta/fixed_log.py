"""Owns logarithms and the logistic function in integers, so that every machine gets the same numbers.

No floating-point function is trusted: the tables are made by integer squaring and integer square roots, and a float
only ever holds a whole number, or is taken apart into exponent and mantissa, both of which IEEE 754 makes exact.
"""

from __future__ import annotations

from functools import cache
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

LOG_UNIT: Final = 256
"""Logarithms are in 1/256 of a bit."""
ODDS_LIMIT: Final = 13 * LOG_UNIT
"""Log odds are kept within ±13 bits."""
CHANCE_BITS: Final = 14
"""Chances are in 2**-14; finer ones would cost the coder more in rounding its states than they gain."""

_FRACTION: Final = 30
_TABLE_BITS: Final = 12
_QUARTER_SHIFT: Final = 21


def log2_units(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log₂ of whole numbers from 1 to 2**53, rounded down to `LOG_UNIT`."""
    mantissa, exponent = np.frexp(values)
    place = (mantissa * (2 << _TABLE_BITS)).astype(np.intp) - (1 << _TABLE_BITS)
    result: NDArray[np.float64] = _log_table()[place] + (exponent - 1.0) * LOG_UNIT
    return result


def quarter_octaves(values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return on which quarter of which octave each positive number lies: 4·⌊log₂ v⌋ + 0…3, plus a constant."""
    bits = values.astype(np.float32).view(np.int32)
    bits >>= _QUARTER_SHIFT
    return bits


@cache
def chance_table() -> NDArray[np.uint32]:
    """Return the chance, in 2**-CHANCE_BITS, for log odds of -ODDS_LIMIT … ODDS_LIMIT; entry 0 is the smallest odds."""
    odds = np.arange(ODDS_LIMIT + 1, dtype=np.int64)
    power = np.full(odds.size, 1 << _FRACTION, np.int64)
    root = 2 << _FRACTION
    for bit in reversed(range(LOG_UNIT.bit_length() - 1)):
        root = isqrt(root << _FRACTION)
        power = np.where(odds >> bit & 1, power * root >> _FRACTION, power)
    power <<= odds // LOG_UNIT
    upper = (power << CHANCE_BITS) // (power + (1 << _FRACTION))
    return np.concatenate([(1 << CHANCE_BITS) - upper[:0:-1], upper]).astype(np.uint32)


@cache
def _log_table() -> NDArray[np.float64]:
    """Return log₂(1 + i / 4096) in `LOG_UNIT`, by repeated squaring."""
    value = np.arange(1 << _TABLE_BITS, 2 << _TABLE_BITS, dtype=np.int64) << (_FRACTION - _TABLE_BITS)
    log = np.zeros(value.size, np.int64)
    for _ in range(LOG_UNIT.bit_length() - 1):
        value = value * value >> _FRACTION
        above = value >> (_FRACTION + 1)
        log = 2 * log + above
        value >>= above
    return log.astype(np.float64)
