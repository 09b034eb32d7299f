"""Where the tensors of an ONNX file lie, checked against the onnx package's own reading."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ota_protocol.delta.layout import find_tensors
from ota_protocol.delta.varint import write_unsigned
from tests.support.delta_files import codes, model, weights


@pytest.mark.parametrize("lists", [False, True])
def test_spans_hold_the_numbers(lists: bool) -> None:
    arrays = weights()
    data = model(arrays, lists=lists)
    found = find_tensors(data)
    assert [tensor.name for tensor in found] == list(arrays)
    for tensor, array in zip(found, arrays.values(), strict=True):
        assert tensor.shape == array.shape and tensor.data_type == TensorProto.FLOAT
        assert data[tensor.offset : tensor.offset + tensor.length] == array.tobytes()


def test_int32_data_is_marked_as_varints() -> None:
    found = find_tensors(model(codes(weights()), lists=True))
    assert found and all(tensor.varints and tensor.length >= tensor.count for tensor in found)


def test_tensors_in_subgraphs_functions_attributes_and_sparse_ones() -> None:
    value = np.arange(64, dtype=np.float32)
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(value, "inside"))
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("c", 1, [64])])
    choice = helper.make_node("If", ["flag"], ["out"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([choice], "graph", [], [])
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(value, "values"), numpy_helper.from_array(np.arange(64), "indices"), [100]
    )
    graph.sparse_initializer.append(sparse)
    made = helper.make_model(graph)
    made.functions.append(helper.make_function("d", "f", [], ["c"], [constant], [helper.make_opsetid("", 17)]))
    found = find_tensors(made.SerializeToString())
    assert sorted(tensor.name for tensor in found) == ["indices", "inside", "inside", "inside", "values"]


def test_external_data_has_no_span() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    made = helper.make_model(helper.make_graph([], "graph", [], [], [tensor]))
    assert find_tensors(made.SerializeToString()) == ()


def test_a_length_that_does_not_fit_the_shape_is_no_tensor() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[5], raw_data=bytes(16))
    made = helper.make_model(helper.make_graph([], "graph", [], [], [tensor]))
    assert find_tensors(made.SerializeToString()) == ()


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 40, b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_what_is_no_onnx_file_has_no_tensors(data: bytes) -> None:
    assert find_tensors(data) == ()


def test_every_truncation_is_survived() -> None:
    data = model({"w": np.ones((3, 3), np.float32)})
    for length in range(len(data)):
        find_tensors(data[:length])


def test_graphs_nested_too_deep_are_given_up() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], raw_data=bytes(16))
    assert len(find_tensors(nested(tensor.SerializeToString(), 10))) == 1
    assert find_tensors(nested(tensor.SerializeToString(), 60)) == ()


def nested(tensor: bytes, depth: int) -> bytes:
    """Return a model whose graph has a node whose attribute is a graph that has a node ... that has the tensor."""
    graph = field(5, tensor)
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


def field(number: int, content: bytes) -> bytes:
    return write_unsigned(number << 3 | 2) + write_unsigned(len(content)) + content
