"""Owns where the tensors of an ONNX file lie: name, shape, element type and byte span, by a walk over its protobuf.

The walk follows the wire format (protobuf.dev/programming-guides/encoding) and the field numbers of onnx.proto3, and
copies nothing. Only the encoder uses it: a file that it does not understand is simply one without tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL_GRAPH: Final = 7
_MODEL_FUNCTIONS: Final = 25
_GRAPH_NODE: Final = 1
_GRAPH_INITIALIZER: Final = 5
_GRAPH_SPARSE: Final = 15
_FUNCTION_NODE: Final = 7
_NODE_ATTRIBUTE: Final = 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_INT32S, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 4, 5, 8, 9

_MAX_DEPTH: Final = 32
"""Subgraphs in subgraphs; onnxruntime itself gives up earlier."""

ELEMENT_BITS: Final = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 16: 16, 21: 4, 22: 4}
"""onnx.TensorProto.DataType → bits of one element in raw_data."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's numbers inside the file."""

    name: str
    shape: tuple[int, ...]
    data_type: int
    """onnx.TensorProto.DataType."""
    offset: int
    length: int
    """Span of the numbers in the file, in bytes."""
    varints: bool = False
    """The numbers are LEB128 integers (int32_data), not elements of fixed width."""

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class _NotProtobufError(ValueError):
    """The bytes do not follow the wire format."""


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    wire: int
    value: int
    """Of a varint; else 0."""
    start: int
    end: int


def find_tensors(data: bytes) -> tuple[Tensor, ...]:
    """Return the tensors of an ONNX file in file order; none if `data` is no ONNX file."""
    view = memoryview(data)
    try:
        tensors = sorted(_walk_model(view), key=lambda tensor: tensor.offset)
    except _NotProtobufError:
        return ()
    return tuple(tensors)


def _walk_model(view: memoryview) -> Iterator[Tensor]:
    for entry in _fields(view, 0, len(view)):
        if entry.wire == _BYTES and entry.number == _MODEL_GRAPH:
            yield from _walk_graph(view, entry, 0)
        elif entry.wire == _BYTES and entry.number == _MODEL_FUNCTIONS:
            yield from _walk_nodes(view, entry, _FUNCTION_NODE, 0)


def _walk_graph(view: memoryview, graph: _Field, depth: int) -> Iterator[Tensor]:
    if depth > _MAX_DEPTH:
        raise _NotProtobufError
    for entry in _fields(view, graph.start, graph.end):
        if entry.wire != _BYTES:
            continue
        if entry.number == _GRAPH_INITIALIZER:
            yield from _read_tensor(view, entry)
        elif entry.number == _GRAPH_SPARSE:
            for part in _fields(view, entry.start, entry.end):
                if part.wire == _BYTES and part.number in (_SPARSE_VALUES, _SPARSE_INDICES):
                    yield from _read_tensor(view, part)
        elif entry.number == _GRAPH_NODE:
            yield from _walk_node(view, entry, depth)


def _walk_nodes(view: memoryview, holder: _Field, number: int, depth: int) -> Iterator[Tensor]:
    for entry in _fields(view, holder.start, holder.end):
        if entry.wire == _BYTES and entry.number == number:
            yield from _walk_node(view, entry, depth)


def _walk_node(view: memoryview, node: _Field, depth: int) -> Iterator[Tensor]:
    for attribute in _fields(view, node.start, node.end):
        if attribute.wire != _BYTES or attribute.number != _NODE_ATTRIBUTE:
            continue
        for entry in _fields(view, attribute.start, attribute.end):
            if entry.wire == _BYTES and entry.number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                yield from _read_tensor(view, entry)
            elif entry.wire == _BYTES and entry.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                yield from _walk_graph(view, entry, depth + 1)


def _read_tensor(view: memoryview, tensor: _Field) -> Iterator[Tensor]:
    """Yield the tensor if its numbers lie in one span whose length fits its shape."""
    dims: list[int] = []
    data_type, name, span = 0, "", None
    for entry in _fields(view, tensor.start, tensor.end):
        if entry.number == _TENSOR_DIMS:
            dims += [entry.value] if entry.wire == _VARINT else list(_varints(view, entry.start, entry.end))
        elif entry.number == _TENSOR_TYPE:
            data_type = entry.value
        elif entry.number == _TENSOR_NAME and entry.wire == _BYTES:
            name = bytes(view[entry.start : entry.end]).decode(errors="replace")
        elif entry.wire == _BYTES and entry.number in (_TENSOR_RAW, _TENSOR_FLOATS, _TENSOR_INT32S):
            if span is not None:
                return
            span = entry
    if span is None or data_type not in ELEMENT_BITS or span.end == span.start:
        return
    count, varints = math.prod(dims), span.number == _TENSOR_INT32S
    expected = (count * ELEMENT_BITS[data_type] + 7) // 8
    if (span.end - span.start >= count) if varints else (span.end - span.start == expected):
        yield Tensor(name, tuple(dims), data_type, span.start, span.end - span.start, varints)


# ── wire format ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _fields(view: memoryview, start: int, end: int) -> Iterator[_Field]:
    position = start
    while position < end:
        key, position = _varint(view, position, end)
        number, wire, value, first = key >> 3, key & 7, 0, position
        if wire == _VARINT:
            value, position = _varint(view, position, end)
        elif wire == _BYTES:
            length, first = _varint(view, position, end)
            position = first + length
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise _NotProtobufError
        if position > end or number == 0:
            raise _NotProtobufError
        yield _Field(number, wire, value, first, position)


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _NotProtobufError
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _NotProtobufError


def _varints(view: memoryview, start: int, end: int) -> Iterator[int]:
    while start < end:
        value, start = _varint(view, start, end)
        yield value
