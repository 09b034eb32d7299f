"""Owns how numbers lie in bytes: the element forms that ops name, and their way to integers and back."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.varint_array import LONGEST_VARINT, from_varints, to_varints
from ota_protocol.errors import DeltaError


class Form(IntEnum):
    """A little-endian element; the numbers are part of the format."""

    INT8 = 1
    UINT8 = 2
    INT4 = 3
    """Two a byte, low nibble first; an odd count leaves the last high nibble zero."""
    UINT4 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    FLOAT16 = 8
    BFLOAT16 = 9
    FLOAT32 = 10
    INT8_VARINTS = 11
    """Each value sign-extended to 64 bits, as LEB128: int32_data of protobuf."""
    UINT8_VARINTS = 12

    @property
    def bits(self) -> int:
        """Bits of one element."""
        return _BITS[self]

    @property
    def is_float(self) -> bool:
        return Form.FLOAT16 <= self <= Form.FLOAT32

    @property
    def is_varints(self) -> bool:
        """Elements differ in width: `bits` is the least."""
        return self >= Form.INT8_VARINTS

    def fits(self, count: int, length: int) -> bool:
        """Tell whether `count` elements can take `length` bytes."""
        if self.is_varints:
            return count <= length <= LONGEST_VARINT * count
        return length == (count * self.bits + 7) // 8


_BITS: Final = {
    Form.INT8: 8,
    Form.UINT8: 8,
    Form.INT4: 4,
    Form.UINT4: 4,
    Form.INT16: 16,
    Form.INT32: 32,
    Form.INT64: 64,
    Form.FLOAT16: 16,
    Form.BFLOAT16: 16,
    Form.FLOAT32: 32,
    Form.INT8_VARINTS: 8,
    Form.UINT8_VARINTS: 8,
}
_INTEGERS: Final = {
    Form.INT8: "i1",
    Form.UINT8: "u1",
    Form.INT16: "<i2",
    Form.INT32: "<i4",
}
SMALL_INTEGERS: Final = frozenset({*_INTEGERS, Form.INT4, Form.UINT4, Form.INT8_VARINTS, Form.UINT8_VARINTS})
"""Forms whose values fit int32."""


def read_form(number: int, part: str) -> Form:
    """Return the form of that number.

    Raises:
        DeltaError: there is none.
    """
    try:
        return Form(number)
    except ValueError as error:
        raise DeltaError(f"element form {number} is unknown", op=part, remedy="update the agent") from error


def to_integers(data: bytes, form: Form, count: int) -> NDArray[np.int32]:
    """Return the (count,) values of a small integer form as int32.

    Raises:
        ValueError: these are not `count` values of the form.
    """
    if form.is_varints:
        return from_varints(data, count)
    if form in (Form.INT4, Form.UINT4):
        packed = np.frombuffer(data, np.uint8)
        nibbles = np.stack([packed & 15, packed >> 4], axis=1).ravel()[:count].astype(np.int32)
        return (nibbles ^ 8) - 8 if form is Form.INT4 else nibbles
    return np.frombuffer(data, _INTEGERS[form], count).astype(np.int32)


def from_integers(values: NDArray[np.int32], form: Form) -> bytes:
    """Return the bytes of integer values; what lies beyond the form wraps around."""
    if form.is_varints:
        return to_varints(values.astype(np.int8 if form is Form.INT8_VARINTS else np.uint8).astype(np.int32))
    if form in (Form.INT4, Form.UINT4):
        nibbles = (values & 15).astype(np.uint8)
        if nibbles.size % 2:
            nibbles = np.append(nibbles, np.uint8(0))
        return (nibbles[0::2] | nibbles[1::2] << 4).tobytes()
    return values.astype(_INTEGERS[form]).tobytes()
