"""Owns the payload that holds the integer codes of a network's tensors.

::

    byte    magnitude classes in use; 128 more if parameters follow
    byte    log₂ of the number of lanes
    byte    steps before the end at which lanes retire
    3 bytes share, in 1 / 256, of codes that are not 0, of those that are beyond 1, of those beyond 2
    [       a bit for each tensor: whether it has parameters of its own
    2 bytes length of the parameters
    ...     the parameters: a payload like this one, without parameters ]
    ...     lanes: the decisions of `code_model`

Nothing in it depends on the machine. No codes at all make no bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.code_model import SMALL, CodeModel, expected_shares
from ota_protocol.delta.fixed_log import CHANCE_BITS
from ota_protocol.delta.kernel_taps import Parameters, neutral_parameters
from ota_protocol.delta.magnitude_choice import MAX_CLASSES, split
from ota_protocol.delta.rans import LAST_LANES, LaneDecoder, LaneEncoder
from ota_protocol.delta.tap_fit import fit
from ota_protocol.delta.traversal import Grid, grids_of
from ota_protocol.errors import DeltaError, RequestError

_HAS_PARAMETERS: Final = 0x80
_HEAD_BYTES: Final = 3 + SMALL
_MAX_LANES_LOG: Final = 10
_BITS_A_LANE: Final = 2500
"""Fewer lanes cost fewer bytes and more time; a lane's end costs four bits or so."""
_CODES_A_LANE: Final = 256
_SURE_LANES: Final = 16
_CODES_A_SURE_LANE: Final = 1 << 14
"""Lanes by the number of codes alone: what has few bits a code, or is hostile, must not take for ever."""
_MAX_RETIRE_STEPS: Final = 255
_MAX_PARAMETER: Final = 127

Codes = NDArray[np.int32]


def encode_stream(tensors: Sequence[Codes], bases: Sequence[Codes | None], *, fitted: bool = True) -> bytes:
    """Return the payload of these tensors.

    Args:
        tensors: int32 codes of any shape.
        bases: per tensor None, or codes of the same shape that both ends know.
        fitted: whether to fit and send parameters.

    Raises:
        RequestError: a code is -2**31, which has no magnitude.
    """
    codes = _flatten(tensors)
    if codes.size == 0:
        return b""
    if int(codes.min()) == -(2**31):
        raise RequestError("codes from -2147483647 to 2147483647 can be coded, not -2147483648")
    has_base = [base is not None for base in bases]
    grids = grids_of([tensor.shape for tensor in tensors], has_base)
    parameters = fit(grids, has_base, codes) if fitted else [neutral_parameters(grid) for grid in grids]
    own = _write_parameters(grids, parameters)
    largest = _largest(codes)
    alphabet = int(split(np.array([max(0, largest - SMALL)]))[0][0]) + 1
    encoder = LaneEncoder(CHANCE_BITS)
    known = _join_bases([tensor.size for tensor in tensors], bases)
    shares = expected_shares(codes)
    CodeModel(grids, has_base, known, parameters, classes=alphabet, shares=shares, coder=encoder).run(codes)
    lanes_log, retire_steps = _choose_lanes(encoder.bits(), codes.size)
    head = bytes([alphabet | (_HAS_PARAMETERS if own else 0), lanes_log, retire_steps, *shares])
    return head + own + encoder.finish(1 << lanes_log, retire_steps)


def decode_stream(
    payload: bytes | memoryview,
    shapes: Sequence[tuple[int, ...]],
    bases: Sequence[Codes | None],
    max_abs: int,
    *,
    fitted: bool = True,
) -> list[Codes]:
    """Return the tensors that `encode_stream` coded.

    Args:
        payload: what it returned.
        shapes: of the tensors.
        bases: those given to the encoder.
        max_abs: largest magnitude admitted.
        fitted: whether there may be parameters.

    Raises:
        DeltaError: the payload is not what was coded, or a code lies beyond ±`max_abs`.
    """
    has_base = [base is not None for base in bases]
    grids = grids_of(shapes, has_base)
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) == 0:
        _require(not len(payload), "there are bytes for no codes")
        return [np.zeros(shape, np.int32) for shape in shapes]
    _require(len(payload) >= _HEAD_BYTES, "coded data ended early")
    alphabet, lanes_log, retire_steps = payload[0] & ~_HAS_PARAMETERS, payload[1], payload[2]
    least_log = _sure_lanes_log(sum(sizes))
    _require(1 <= alphabet <= MAX_CLASSES and least_log <= lanes_log <= _MAX_LANES_LOG, "its head is out of range")
    body = payload[_HEAD_BYTES:]
    parameters = [neutral_parameters(grid) for grid in grids]
    if payload[0] & _HAS_PARAMETERS:
        _require(fitted, "parameters have no parameters of their own")
        body = _read_parameters(body, grids, parameters)
    shares = payload[_HEAD_BYTES - SMALL : _HEAD_BYTES]
    _require(min(shares) > 0, "its head is out of range")
    decoder = LaneDecoder(body, 1 << lanes_log, CHANCE_BITS, retire_steps)
    known = _join_bases(sizes, bases)
    codes = CodeModel(grids, has_base, known, parameters, classes=alphabet, shares=shares, coder=decoder).run(None)
    _require(not len(decoder.finish()), "there are bytes left over")
    _require(_largest(codes) <= max_abs, f"a code lies beyond ±{max_abs}")
    ends = np.cumsum(sizes)
    return [codes[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]


def _choose_lanes(step_bits: NDArray[np.float64], count: int) -> tuple[int, int]:
    """Return log₂ of the lanes, and how many steps before the end they can retire."""
    wished = round(math.log2(max(1.0, float(step_bits.sum()) / _BITS_A_LANE)))
    lanes_log = min(max(wished, _sure_lanes_log(count)), _MAX_LANES_LOG)
    lanes = 1 << lanes_log
    if lanes <= LAST_LANES:
        return lanes_log, 0
    words = np.cumsum(step_bits[::-1]) / 16
    needed = int(np.searchsorted(words, lanes)) + 1
    return lanes_log, min(needed, step_bits.size, _MAX_RETIRE_STEPS)


def _sure_lanes_log(count: int) -> int:
    """Return log₂ of the fewest lanes that so many codes may have."""
    sure = max(min(count // _CODES_A_LANE, _SURE_LANES), count // _CODES_A_SURE_LANE)
    return min(sure.bit_length(), _MAX_LANES_LOG)


def _write_parameters(grids: Sequence[Grid], parameters: Sequence[Parameters]) -> bytes:
    """Return the parameters that are not neutral; nothing if all are."""
    own = [not np.array_equal(taps, neutral_parameters(grid)) for grid, taps in zip(grids, parameters, strict=True)]
    if not any(own):
        return b""
    chosen = [taps for taps, is_own in zip(parameters, own, strict=True) if is_own]
    coded = encode_stream(_by_length(chosen), [None] * len(_by_length(chosen)), fitted=False)
    return np.packbits(own).tobytes() + len(coded).to_bytes(2, "little") + coded


def _read_parameters(
    body: bytes | memoryview, grids: Sequence[Grid], parameters: list[Parameters]
) -> bytes | memoryview:
    """Fill in the parameters at the head of `body`; return what follows them."""
    mask_bytes = -(-len(grids) // 8)
    start = mask_bytes + 2
    _require(len(body) >= start, "coded data ended early")
    own = np.flatnonzero(np.unpackbits(np.frombuffer(body[:mask_bytes], np.uint8), count=len(grids)))
    end = start + int.from_bytes(body[mask_bytes:start], "little")
    _require(len(body) >= end and own.size > 0, "coded data ended early")
    blocks = _by_length([parameters[number] for number in own])
    found = decode_stream(
        body[start:end], [block.shape for block in blocks], [None] * len(blocks), _MAX_PARAMETER, fitted=False
    )
    rows = {block.shape[1]: iter(block) for block in found}
    for number in own:
        parameters[number] = next(rows[parameters[number].size])
    return body[end:]


def _by_length(parameters: Sequence[Parameters]) -> list[Codes]:
    """Return the parameters stacked by how many there are: those of alike tensors are alike."""
    lengths = sorted({taps.size for taps in parameters})
    return [np.stack([taps for taps in parameters if taps.size == length]) for length in lengths]


def _largest(codes: Codes) -> int:
    """Return the largest magnitude, without a copy of them all."""
    return max(int(codes.max()), -int(codes.min()))


def _flatten(tensors: Sequence[Codes]) -> Codes:
    return np.concatenate([np.zeros(0, np.int32), *(tensor.ravel() for tensor in tensors)])


def _join_bases(sizes: Sequence[int], bases: Sequence[Codes | None]) -> Codes:
    """Return the bases' codes, zeros where there is none; nothing if there is none at all."""
    if all(base is None for base in bases):
        return np.zeros(0, np.int32)
    return _flatten(
        [np.zeros(size, np.int32) if base is None else base for size, base in zip(sizes, bases, strict=True)]
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise DeltaError(message, op="entropy")
