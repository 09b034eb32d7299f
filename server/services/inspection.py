"""Owns the check of an uploaded artifact against its model manifest."""

from __future__ import annotations

from ota_protocol.manifest import FileRef, ModelManifest
from server.domain import io_schema
from server.services.child import Children
from server.services.workspace import Workspace
from server.store.blobs import Blobs

BASE_MEMORY_BYTES = 1 << 30
"""The interpreter, numpy and onnx map some 600 MB of address space before they read anything."""
MEMORY_FACTOR = 8
"""The file, its parsed form, and the copies that shape inference makes."""


class Inspector:
    """Checks artifacts in a bounded child process."""

    def __init__(self, blobs: Blobs, workspace: Workspace, children: Children, timeout_s: float) -> None:
        self._blobs = blobs
        self._children = children
        self._workspace = workspace
        self._timeout_s = timeout_s

    def inspect(self, artifact: FileRef, manifest: ModelManifest) -> None:
        """Check that the artifact is a sound ONNX file and is what the manifest says.

        Raises:
            CheckFailedError: it is not; the text says why.
            NotFoundError: it was not uploaded.
        """
        memory_bytes = BASE_MEMORY_BYTES + MEMORY_FACTOR * artifact.length_bytes
        with self._workspace.place() as place:
            file = place / "model.onnx"
            self._blobs.copy_to(artifact.digest, file)
            arguments = [str(memory_bytes), str(int(self._timeout_s) + 1), str(file)]
            graph = self._children.run(
                "server.children.check_onnx", arguments, timeout_s=self._timeout_s, what="the check of the artifact"
            )
        io_schema.require_equal(manifest, graph)
