"""Owns the guess where numbers lie in a file whose layout is unknown, such as the external data of an ONNX model.

The file is looked at block by block: are its bytes floats near those at the same place of the base, or floats at all?
A wrong guess costs bytes, never correctness.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.coders.magnitudes import measure_steps
from ota_protocol.delta.elements import Form
from ota_protocol.delta.format import Range
from ota_protocol.delta.ordered import patterns
from ota_protocol.delta.pairing import Piece

BLOCK_BYTES: Final = 1 << 16
_SAMPLE: Final = 1 << 10
_NEAR: Final = 0.8
"""Share of its bits that a step may take; bytes that are no floats come out above 0.9."""
_PROMISE: Final = 0.95
"""Share of the order-0 entropy of its bytes that a block of floats takes plane by plane."""
_FLOATS: Final = (Form.FLOAT32, Form.BFLOAT16, Form.FLOAT16)


@dataclass(frozen=True, slots=True)
class _Block:
    """Blocks of one kind in a row."""

    offset: int
    length: int
    form: Form
    base: int | None

    def join(self, other: _Block) -> _Block | None:
        """Return both as one, if they are neighbours of one kind."""
        follows = other.offset == self.offset + self.length and self.form is other.form
        if not follows or (self.base is None) != (other.base is None):
            return None
        if self.base is not None and other.base != self.base + self.length:
            return None
        return replace(self, length=self.length + other.length)


def guess_pieces(base: bytes, result: bytes) -> tuple[Piece, ...]:
    """Return pieces of the result that look like floats, with the base's floats where they are near."""
    joined: list[_Block] = []
    for block in _blocks(base, result):
        both = joined[-1].join(block) if joined else None
        if both is None:
            joined.append(block)
        else:
            joined[-1] = both
    return tuple(_piece(block) for block in joined)


def _blocks(base: bytes, result: bytes) -> Iterator[_Block]:
    shifts = {0, (len(base) - len(result)) // 4 * 4}
    for offset in range(0, len(result) - BLOCK_BYTES + 1, BLOCK_BYTES):
        new = result[offset : offset + BLOCK_BYTES]
        places = [offset + shift for shift in shifts if 0 <= offset + shift <= len(base) - BLOCK_BYTES]
        old = {place: base[place : place + BLOCK_BYTES] for place in places}
        if new in old.values():
            continue
        scored = [(_nearness(known, new, form), form, place) for place, known in old.items() for form in _FLOATS]
        score, form, place = min(scored, default=(1.0, Form.FLOAT32, 0))
        if score < _NEAR:
            yield _Block(offset, BLOCK_BYTES, form, place)
        elif (alone := _float_form(new)) is not None:
            yield _Block(offset, BLOCK_BYTES, alone, None)


def _nearness(old: bytes, new: bytes, form: Form) -> float:
    """Return the share of its bits that a step between the blocks takes on average."""
    stride = max(1, BLOCK_BYTES // (form.bits // 8) // _SAMPLE)
    steps = measure_steps(patterns(new, form)[::stride], patterns(old, form)[::stride], form)
    return (float(np.log2(np.abs(steps.astype(np.float64)) + 1).mean()) + 2) / form.bits


def _float_form(block: bytes) -> Form | None:
    """Return the float form whose planes have the least entropy, if that is clearly less than that of the bytes."""
    whole = _entropy(np.frombuffer(block, np.uint8))
    costs = [(_plane_entropy(block, form), form) for form in _FLOATS]
    cost, form = min(costs)
    return form if cost < _PROMISE * whole and whole > _NOISY else None


_NOISY: Final = 6.0
"""Bits a byte below which text and tables lie, which repeat themselves and are packed better as they are."""


def _plane_entropy(block: bytes, form: Form) -> float:
    words = patterns(block, form)
    rotated = (words << np.uint32(1)) | (words >> np.uint32(form.bits - 1))
    width = form.bits // 8
    planes = [
        _entropy(((rotated >> np.uint32(8 * plane)) & np.uint32(0xFF)).astype(np.uint8)) for plane in range(width)
    ]
    return sum(planes) / width


def _entropy(data: NDArray[np.uint8]) -> float:
    """Return the order-0 entropy in bits a byte."""
    share = np.bincount(data, minlength=256) / data.size
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


def _piece(block: _Block) -> Piece:
    shape = (block.length // BLOCK_BYTES, BLOCK_BYTES * 8 // block.form.bits)
    span = Range(block.offset, block.length)
    if block.base is None:
        return Piece(span, block.form, shape)
    return Piece(span, block.form, shape, Range(block.base, block.length), block.form)
