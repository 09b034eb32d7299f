"""Owns a release as the registry's decisions see it, and where its files lie in the TUF repository."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ota_protocol.digest import DigestHex
from ota_protocol.manifest import FileRef

FileKind = Literal["artifact", "manifest"]


@dataclass(frozen=True, slots=True)
class KnownRelease:
    """One published release."""

    model: str
    release: str
    release_counter: int
    artifact: FileRef
    manifest: FileRef
    metrics: dict[str, float]
    published_at: datetime

    @property
    def artifact_target(self) -> str:
        """Path of the artifact's TUF target."""
        return artifact_target(self.model, self.release)

    @property
    def manifest_target(self) -> str:
        """Path of the manifest's TUF target."""
        return manifest_target(self.model, self.release)


def artifact_target(model: str, release: str) -> str:
    """Return the path of an artifact's TUF target."""
    return f"models/{model}/{release}/model.onnx"


def manifest_target(model: str, release: str) -> str:
    """Return the path of a model manifest's TUF target."""
    return f"models/{model}/{release}/manifest.json"


def delta_target(base: DigestHex | None, result: DigestHex) -> str:
    """Return the path of a delta's TUF target; no base means the compressed full."""
    return f"deltas/{base[:16] if base else 'empty'}-{result[:16]}.sqd"
