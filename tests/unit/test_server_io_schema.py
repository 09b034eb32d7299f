"""The model manifest against the graph."""

from __future__ import annotations

from typing import Any

import pytest

from server.domain.io_schema import require_equal
from server.domain.refusals import CheckFailedError
from tests.support.onnx_models import manifest_of

MANIFEST = manifest_of(b"artifact", "net", "1.0.0")


def graph(**changed: Any) -> dict[str, Any]:
    same = {
        "opset": 17,
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 8, 8]}],
        "outputs": [{"name": "scores", "dtype": "float32", "shape": ["?", 8]}],
    }
    return same | changed


def test_the_same_schema_passes_whatever_the_batch_is_called() -> None:
    require_equal(MANIFEST, graph())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"opset": 16}, "at least 17"),
        ({"opset": 18}, "the manifest says opset 17"),
        ({"inputs": []}, "names 1 inputs"),
        ({"inputs": [{"name": "other", "dtype": "float32", "shape": ["N", 3, 8, 8]}]}, "'other'"),
        ({"inputs": [{"name": "image", "dtype": "uint8", "shape": ["N", 3, 8, 8]}]}, "uint8"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": ["N", 3, 9, 8]}]}, "[0-9]"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": [1, 3, 8, 8]}]}, r"\[1, 3, 8, 8\]"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": ["N", 3, 8]}]}, "image"),
        ({"outputs": [{"name": "scores", "dtype": "float32", "shape": ["N", 9]}]}, "output"),
    ],
)
def test_a_difference_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckFailedError, match=said):
        require_equal(MANIFEST, graph(**changed))
