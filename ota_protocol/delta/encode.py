"""Owns the making of deltas: finds what base and result share, and takes the cheapest op for each piece.

The result is cut into tensors and the text between them. Text is packed as one string with the base's text as
dictionary; a tensor is copied, coded against its counterpart in the base, or coded alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ota_protocol.delta.coders import codes
from ota_protocol.delta.elements import Form, to_integers
from ota_protocol.delta.format import Kind, Op, Range
from ota_protocol.delta.layout import Tensor, find_tensors
from ota_protocol.delta.packing import pack
from ota_protocol.delta.program import Program

_TEXT_POOL = 1
_CODES_POOL = 2
_SMALL_BYTES = 256
"""A tensor below this length is left in the text: an op of its own costs more than it saves."""

Progress = Callable[[float], None]


def encode(base: bytes | None, result: bytes, *, progress: Progress | None = None) -> bytes:
    """Return a delta that turns `base` into `result`; without a base, the compressed full.

    Never longer than the compressed full: where a base does not help, that is what is returned.

    Args:
        progress: called with the share done, 0 to 1.
    """
    report = progress or _ignore
    full = _encode_one(None, result)
    report(0.5)
    delta = full if base is None else min(full, _encode_one(base, result), key=len)
    report(1.0)
    return delta


def _ignore(_share: float) -> None:
    pass


def _encode_one(base: bytes | None, result: bytes) -> bytes:
    program = Program()
    if base is not None and base == result:
        program.add(Op(Kind.COPY, len(result), ranges=(Range(0, len(base)),)))
        return program.to_bytes(base, result)
    tensors = [tensor for tensor in find_tensors(result) if tensor.length >= _SMALL_BYTES and not tensor.varints]
    known = {} if base is None else {tensor.name: tensor for tensor in find_tensors(base)}
    _add_text(program, base, result, tensors, list(known.values()))
    coded = [tensor for tensor in tensors if tensor.data_type in (2, 3)]
    emitted = _add_codes(program, base, result, coded, known)
    position = 0
    for tensor in tensors:
        _emit(program, _TEXT_POOL, tensor.offset - position)
        position = tensor.offset + tensor.length
        if tensor in emitted:
            _emit(program, emitted[tensor], tensor.length)
        else:
            _add_plain(program, base, result, tensor, known.get(tensor.name))
    _emit(program, _TEXT_POOL, len(result) - position)
    return program.to_bytes(base, result)


def _emit(program: Program, pool: int, length: int) -> None:
    if length:
        program.add(Op(Kind.EMIT, length, parameters=(pool,)))


def _between(data: bytes, tensors: list[Tensor]) -> tuple[Range, ...]:
    edges = [0, *(edge for tensor in tensors for edge in (tensor.offset, tensor.offset + tensor.length)), len(data)]
    return tuple(Range(a, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a)


def _take(data: bytes, ranges: tuple[Range, ...]) -> bytes:
    return b"".join(data[part.offset : part.offset + part.length] for part in ranges)


def _add_text(program: Program, base: bytes | None, result: bytes, tensors: list[Tensor], known: list[Tensor]) -> None:
    text = _take(result, _between(result, tensors))
    if not text:
        return
    ranges = () if base is None else _between(base, [tensor for tensor in known if tensor.length >= _SMALL_BYTES])
    payload = pack(text, b"" if base is None else _take(base, ranges))
    program.add(Op(Kind.INSERT, len(text), _TEXT_POOL, ranges), payload)


def _add_codes(
    program: Program, base: bytes | None, result: bytes, tensors: list[Tensor], known: dict[str, Tensor]
) -> dict[Tensor, int]:
    """Add one op for all integer tensors with a counterpart, one for those without; return each tensor's pool."""
    pools: dict[Tensor, int] = {}
    for form, data_type in ((Form.INT8, 3), (Form.UINT8, 2)):
        for paired in (False, True):
            group = [
                tensor
                for tensor in tensors
                if tensor.data_type == data_type and _has_counterpart(tensor, known) is paired
            ]
            if group:
                pool = _CODES_POOL + len(set(pools.values()))
                ranges = tuple(Range(known[t.name].offset, t.length) for t in group) if paired else ()
                _add_codes_op(program, form, base, result, group=group, ranges=ranges, pool=pool)
                pools |= dict.fromkeys(group, pool)
    return pools


def _has_counterpart(tensor: Tensor, known: dict[str, Tensor]) -> bool:
    twin = known.get(tensor.name)
    return twin is not None and (twin.shape, twin.data_type) == (tensor.shape, tensor.data_type)


def _add_codes_op(
    program: Program,
    form: Form,
    base: bytes | None,
    result: bytes,
    *,
    group: list[Tensor],
    ranges: tuple[Range, ...],
    pool: int,
) -> None:
    data = b"".join(result[tensor.offset : tensor.offset + tensor.length] for tensor in group)
    values = to_integers(data, form, len(data))
    reference = None if base is None or not ranges else to_integers(_take(base, ranges), form, len(data))
    centre = 128 if form is Form.UINT8 and abs(float(np.mean(values)) - 128) < 64 else 0
    parameters, payload = codes.encode(form, [tensor.shape for tensor in group], values, reference, centre)
    used = ranges if parameters[1] != codes.Mode.ALONE else ()
    program.add(Op(Kind.CODES, len(data), pool, used, parameters), payload)


def _add_plain(program: Program, base: bytes | None, result: bytes, tensor: Tensor, twin: Tensor | None) -> None:
    data = result[tensor.offset : tensor.offset + tensor.length]
    if base is None or twin is None or twin.length != tensor.length:
        program.add(Op(Kind.INSERT, len(data)), pack(data))
        return
    ranges = (Range(twin.offset, twin.length),)
    reference = _take(base, ranges)
    if reference == data:
        program.add(Op(Kind.COPY, len(data), ranges=ranges))
        return
    difference = np.frombuffer(data, np.uint8) - np.frombuffer(reference, np.uint8)
    program.add(Op(Kind.ADD, len(data), ranges=ranges), pack(difference.tobytes()))
