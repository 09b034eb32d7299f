"""Owns the ordered view of numbers: unsigned integers that grow as the numbers grow, and casts between float forms.

The ordered view of a float is its bit pattern with the sign bit flipped, or all bits where it is negative; that of a
signed integer is its pattern with the sign bit flipped. Neighbours in value are neighbours in the view, and the view
has an inverse for every pattern, NaN and −0 included.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.elements import Form

Patterns = NDArray[np.uint32]

_WORDS: Final = {8: "u1", 16: "<u2", 32: "<u4"}
_UNSIGNED: Final = frozenset({Form.UINT8})
_EXPONENT: Final = {Form.FLOAT32: (23, 0xFF), Form.BFLOAT16: (7, 0xFF), Form.FLOAT16: (10, 0x1F)}
"""Mantissa bits and mask of the exponent."""

FORMS: Final = frozenset({Form.INT8, Form.UINT8, Form.INT16, Form.INT32, Form.FLOAT16, Form.BFLOAT16, Form.FLOAT32})


def patterns(data: bytes | memoryview, form: Form) -> Patterns:
    """Return the bit patterns of whole elements."""
    return np.frombuffer(data, _WORDS[form.bits]).astype(np.uint32)


def to_bytes(view: Patterns, form: Form) -> bytes:
    """Return the bytes of patterns."""
    return view.astype(_WORDS[form.bits]).tobytes()


def order(pattern: Patterns, form: Form) -> Patterns:
    """Return the ordered view of patterns."""
    return pattern ^ _flips(pattern >> np.uint32(form.bits - 1), form)


def disorder(view: Patterns, form: Form) -> Patterns:
    """Return the patterns of an ordered view."""
    return view ^ _flips(np.uint32(1) ^ (view >> np.uint32(form.bits - 1)), form)


def _flips(negative: Patterns, form: Form) -> Patterns | np.uint32:
    """Return which bits are flipped, given 1 where the number is negative."""
    sign = np.uint32(1 << (form.bits - 1))
    if form in _UNSIGNED:
        return np.uint32(0)
    if not form.is_float:
        return sign
    return negative * np.uint32(int(sign) - 1) | sign


def exponents(pattern: Patterns, form: Form) -> NDArray[np.int32]:
    """Return the biased exponents of floats; 0 for integers, whose steps are all of one size."""
    if form not in _EXPONENT:
        return np.zeros(pattern.size, np.int32)
    mantissa_bits, mask = _EXPONENT[form]
    return (pattern >> np.uint32(mantissa_bits)).astype(np.int32) & np.int32(mask)


def cast(pattern: Patterns, origin: Form, target: Form) -> Patterns:
    """Return the patterns of the same numbers in another float form, rounded to nearest, ties to even (IEEE 754)."""
    if origin is target:
        return pattern
    single = _widen(pattern, origin)
    if target is Form.FLOAT32:
        return single
    if target is Form.BFLOAT16:
        odd = (single >> np.uint32(16)) & np.uint32(1)
        return (single + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    with np.errstate(over="ignore", invalid="ignore"):
        return single.view(np.float32).astype(np.float16).view(np.uint16).astype(np.uint32)


def _widen(pattern: Patterns, origin: Form) -> Patterns:
    if origin is Form.FLOAT16:
        return pattern.astype(np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    return pattern << np.uint32(16) if origin is Form.BFLOAT16 else pattern


def to_floats(data: bytes, form: Form) -> NDArray[np.float32]:
    """Return the numbers of a float form as float32."""
    return cast(patterns(data, form), form, Form.FLOAT32).view(np.float32)
