"""Owns the comparison of what a model manifest says of the graph with what the graph says of itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ota_protocol.manifest import ModelManifest, TensorSpec
from server.domain.refusals import CheckFailedError

MIN_OPSET = 17


def require_equal(manifest: ModelManifest, graph: dict[str, Any]) -> None:
    """Check opset, inputs and outputs.

    Args:
        manifest: what the publisher says.
        graph: ``{"opset": n, "inputs": [...], "outputs": [...]}`` with ``{"name", "dtype", "shape"}`` each.

    Raises:
        CheckFailedError: they differ; the text says where.
    """
    if graph["opset"] < MIN_OPSET:
        raise CheckFailedError(
            f"the artifact has opset {graph['opset']}, at least {MIN_OPSET} is needed", remedy="export to a newer opset"
        )
    if graph["opset"] != manifest.opset:
        raise CheckFailedError(
            f"the manifest says opset {manifest.opset}, the artifact has {graph['opset']}",
            remedy="make the manifest from the artifact",
        )
    _require_tensors("input", manifest.inputs, graph["inputs"])
    _require_tensors("output", manifest.outputs, graph["outputs"])


def _require_tensors(kind: str, said: Sequence[TensorSpec], found: Sequence[dict[str, Any]]) -> None:
    if len(said) != len(found):
        raise CheckFailedError(
            f"the manifest names {len(said)} {kind}s, the artifact has {len(found)}",
            remedy="make the manifest from the artifact",
        )
    for spec, tensor in zip(said, found, strict=True):
        if (spec.name, spec.dtype) != (tensor["name"], tensor["dtype"]) or not _same_shape(spec.shape, tensor["shape"]):
            raise CheckFailedError(
                f"the manifest says {kind} {spec.name!r} {spec.dtype} {list(spec.shape)}, the artifact has "
                f"{tensor['name'][:80]!r} {tensor['dtype']} {tensor['shape']}",
                remedy="make the manifest from the artifact",
            )


def _same_shape(said: Sequence[int | str], found: Sequence[int | str]) -> bool:
    if len(said) != len(found):
        return False
    return all(isinstance(b, str) if isinstance(a, str) else a == b for a, b in zip(said, found, strict=True))
