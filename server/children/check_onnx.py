"""Child process: checks one ONNX file in full and tells its opset and its inputs and outputs as JSON.

Run as ``python -m server.children.check_onnx MEMORY_BYTES CPU_S FILE``. The parser of a hostile file may crash, hang or
eat memory; that ends this process alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from server.children.limits import bound

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator domains that a plain onnxruntime on a vehicle can run."""


class Refused(Exception):  # noqa: N818 an answer to the parent, not an error of this program
    """The file is not to be published."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def main(arguments: list[str]) -> None:
    """Check one file and write the answer to stdout."""
    memory_bytes, cpu_s, file = arguments
    bound(memory_bytes=int(memory_bytes), cpu_s=int(cpu_s), file_bytes=0)
    try:
        answer = inspect(file)
    except Refused as refused:
        answer = {"refused": refused.message, "remedy": refused.remedy}
    except MemoryError:
        answer = {"refused": "the check of the ONNX file ran out of memory", "remedy": "make the model smaller"}
    sys.stdout.write(json.dumps(answer))


def inspect(file: str) -> dict[str, Any]:
    """Return what the graph says of itself.

    Raises:
        Refused: it does not parse, has external data or foreign operators, or fails the full check.
    """
    import onnx  # noqa: PLC0415 within the bounds

    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf raises its own DecodeError family, by version
        raise Refused(f"the artifact is no ONNX file: {_first_line(error)}", "export it again") from error
    _require_self_contained(model)
    opset = _opset(model, onnx.defs.onnx_opset_version())
    try:
        onnx.checker.check_model(file, full_check=True)
    except Exception as error:  # ValidationError, InferenceError, and what the C++ side maps to others
        raise Refused(f"the ONNX check failed: {_first_line(error)}", "export the model again") from error
    initialisers = {tensor.name for tensor in model.graph.initializer}
    return {
        "opset": opset,
        "inputs": [_described(value) for value in model.graph.input if value.name not in initialisers],
        "outputs": [_described(value) for value in model.graph.output],
    }


def _opset(model: ModelProto, newest: int) -> int:
    foreign = sorted({entry.domain for entry in model.opset_import} - KNOWN_DOMAINS)
    if foreign:
        raise Refused(f"operators of the domain {foreign[0][:80]!r} are used", "export with standard operators alone")
    versions = [entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}]
    if not versions:
        raise Refused("the artifact names no ONNX opset", "export it again")
    if max(versions) > newest:
        raise Refused(f"opset {max(versions)} is unknown here, the newest known is {newest}", "export to a lower opset")
    return int(max(versions))


def _require_self_contained(model: ModelProto) -> None:
    from onnx import TensorProto  # noqa: PLC0415 within the bounds

    for tensor in _tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise Refused(f"tensor {tensor.name[:80]!r} lies in another file", "export with the weights inside")
    if model.functions:
        raise Refused("the artifact defines functions of its own", "inline them before the export")


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    if attribute.HasField("g"):
        yield from _tensors(attribute.g)
    for graph in attribute.graphs:
        yield from _tensors(graph)


def _described(value: ValueInfoProto) -> dict[str, Any]:
    from onnx import helper  # noqa: PLC0415 within the bounds

    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in tensor.shape.dim]
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "none"
    return {"name": value.name, "dtype": dtype, "shape": dims}


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1:])
