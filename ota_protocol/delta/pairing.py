"""Owns which numbers of the base stand for which numbers of the result.

A tensor's counterpart is the one whose numbers go with its own, whatever its name, place or element form: both are
sampled at the same places, and their correlation decides. The name decides among equals, and for tensors too small to
judge. Where the first dimension differs (a head with more classes), rows are paired instead.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ota_protocol.delta.elements import SMALL_INTEGERS, Form, to_integers
from ota_protocol.delta.format import Range
from ota_protocol.delta.layout import Tensor
from ota_protocol.delta.ordered import to_floats

_SAMPLES: Final = 512
_ENOUGH: Final = 0.3
"""Least correlation of counterparts; tensors of unrelated trainings stay below 0.2 on 512 samples."""
_NAME_BONUS: Final = 0.05
_FEW: Final = 24
"""Below this number of elements only a correlation above `_SURE` means something."""
_SURE: Final = 0.95

_FORMS: Final = {
    1: Form.FLOAT32,
    2: Form.UINT8,
    3: Form.INT8,
    5: Form.INT16,
    6: Form.INT32,
    10: Form.FLOAT16,
    16: Form.BFLOAT16,
    21: Form.UINT4,
    22: Form.INT4,
}
"""onnx.TensorProto.DataType → element form, of the types that have coders of their own."""
_VARINT_FORMS: Final = {2: Form.UINT8_VARINTS, 3: Form.INT8_VARINTS}


def form_of(tensor: Tensor) -> Form | None:
    """Return the element form of a tensor that has coders of its own."""
    return (_VARINT_FORMS if tensor.varints else _FORMS).get(tensor.data_type)


def _form(tensor: Tensor) -> Form:
    form = form_of(tensor)
    assert form is not None
    return form


@dataclass(frozen=True, slots=True)
class Piece:
    """Numbers of the result, as rows and columns, and their counterpart in the base."""

    span: Range
    form: Form
    shape: tuple[int, ...]
    base: Range | None = None
    base_form: Form | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns: the first dimension, and all others; a vector is one row."""
        if len(self.shape) < 2:
            return 1, math.prod(self.shape)
        return self.shape[0], math.prod(self.shape[1:])

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def pair(
    base: bytes, base_tensors: Sequence[Tensor], result: bytes, result_tensors: Sequence[Tensor]
) -> tuple[Piece, ...]:
    """Return the result's tensors in file order, each with its counterpart where there is one."""
    known = [_Sampled(base, tensor) for tensor in base_tensors]
    by_count: dict[int, list[_Sampled]] = defaultdict(list)
    by_row: dict[tuple[int, ...], list[_Sampled]] = defaultdict(list)
    for sampled in known:
        by_count[sampled.tensor.count].append(sampled)
        by_row[sampled.tensor.shape[1:]].append(sampled)
    pieces: list[Piece] = []
    for tensor in result_tensors:
        wanted = _Sampled(result, tensor)
        twin = wanted.best(by_count[tensor.count])
        if twin is not None:
            pieces.append(_piece(tensor, twin.tensor))
            continue
        pieces += _by_rows(result, wanted, base, by_row[tensor.shape[1:]] if tensor.shape else [])
    return tuple(pieces)


def _piece(tensor: Tensor, twin: Tensor) -> Piece:
    return Piece(
        Range(tensor.offset, tensor.length),
        _form(tensor),
        tensor.shape,
        Range(twin.offset, twin.length),
        _form(twin),
    )


class _Sampled:
    """A tensor with a sample of its numbers."""

    def __init__(self, data: bytes, tensor: Tensor, count: int | None = None) -> None:
        self.tensor = tensor
        self.sample = _sample(data, tensor, tensor.count if count is None else count)

    def best(self, candidates: Iterable[_Sampled]) -> _Sampled | None:
        """Return the counterpart among candidates of the same count."""
        scored = [(self._score(candidate), candidate) for candidate in candidates]
        score, best = max(scored, key=lambda entry: entry[0], default=(0.0, None))
        return best if score >= _ENOUGH else None

    def _score(self, other: _Sampled) -> float:
        same_name = bool(self.tensor.name) and self.tensor.name == other.tensor.name
        alike = float(self.sample @ other.sample)
        if self.tensor.count < _FEW:
            return 1.0 + alike if same_name else alike * (alike > _SURE)
        return alike + _NAME_BONUS * same_name


def _sample(data: bytes, tensor: Tensor, count: int) -> NDArray[np.float64]:
    """Return numbers from places that depend on `count` alone, centred and of length 1."""
    form = _form(tensor)
    places = np.unique(np.linspace(0, count - 1, min(count, _SAMPLES)).astype(np.int64))
    view = memoryview(data)[tensor.offset : tensor.offset + tensor.length]
    if form in SMALL_INTEGERS:
        numbers = to_integers(bytes(view), form, tensor.count)[places].astype(np.float64)
    else:
        width = form.bits // 8
        chosen = np.frombuffer(view, np.uint8).reshape(-1, width)[places].tobytes()
        with np.errstate(invalid="ignore"):
            numbers = np.nan_to_num(to_floats(chosen, form).astype(np.float64), posinf=0, neginf=0)
    numbers -= numbers.mean()
    return numbers / max(float(np.linalg.norm(numbers)), 1e-300)


def _by_rows(result: bytes, wanted: _Sampled, base: bytes, candidates: Sequence[_Sampled]) -> list[Piece]:
    """Return the tensor as one piece without a counterpart, or as rows with one and rows without."""
    tensor = wanted.tensor
    form = _form(tensor)
    alone = Piece(Range(tensor.offset, tensor.length), form, tensor.shape)
    for other in candidates:
        rows = min(tensor.shape[0], other.tensor.shape[0])
        row_bytes = tensor.length // tensor.shape[0] if tensor.shape[0] else 0
        if (
            _form(other.tensor) is not form
            or form.is_varints
            or rows < 2
            or row_bytes * tensor.shape[0] != tensor.length
        ):
            continue
        shared = rows * math.prod(tensor.shape[1:])
        if _Sampled(result, tensor, shared).best([_Sampled(base, other.tensor, shared)]) is None:
            continue
        split = rows * row_bytes
        head = Piece(
            Range(tensor.offset, split),
            form,
            (rows, *tensor.shape[1:]),
            Range(other.tensor.offset, split),
            form,
        )
        if rows == tensor.shape[0]:
            return [head]
        rest = Range(tensor.offset + split, tensor.length - split)
        return [head, Piece(rest, form, (tensor.shape[0] - rows, *tensor.shape[1:]))]
    return [alone]
