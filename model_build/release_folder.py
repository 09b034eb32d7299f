"""Owns a built release: `model.onnx`, `manifest.json` and `report.json`, written whole and read back checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from model_build.atomic_files import require_free, write_folder
from ota_protocol.errors import DigestMismatchError, MalformedError, RequestError, StorageError
from ota_protocol.manifest import MAX_ARTIFACT_BYTES, MAX_MANIFEST_BYTES, ModelManifest

ARTIFACT_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class BuiltRelease:
    """A release that is not published yet.

    Args:
        artifact: the ONNX file.
        manifest: names the artifact by digest.
        report: how the build went, for people; it does not travel.
    """

    artifact: bytes
    manifest: ModelManifest
    report: Mapping[str, JsonValue]


def write(built: BuiltRelease, folder: Path, extra: Mapping[str, bytes] | None = None) -> None:
    """Write all files of a release, or none.

    Args:
        extra: further files by name.

    Raises:
        RequestError: the folder holds another build already.
        StorageError: it cannot be written.
    """
    manifest = built.manifest.to_bytes()
    if _holds(folder, built.artifact, manifest):
        return
    require_free(folder)
    report = json.dumps(dict(built.report), indent=2, ensure_ascii=False).encode() + b"\n"
    files = {ARTIFACT_FILE: built.artifact, MANIFEST_FILE: manifest, REPORT_FILE: report}
    write_folder(folder, {**files, **(extra or {})})


def read_manifest(folder: Path) -> ModelManifest:
    """Return the manifest of a release folder.

    Raises:
        RequestError: there is no such folder, or no manifest in it.
        MalformedError: the manifest does not parse.
    """
    try:
        return ModelManifest.from_bytes(read_manifest_bytes(folder))
    except MalformedError as error:
        raise MalformedError(f"{folder / MANIFEST_FILE}: {error.message}", remedy="build the folder again") from error


def read_manifest_bytes(folder: Path) -> bytes:
    """Return the manifest file as it is: what its digest is taken of.

    Raises:
        RequestError: there is no such folder, or no manifest in it.
    """
    return _read(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)


def check_artifact(folder: Path, manifest: ModelManifest) -> None:
    """Check that the ONNX file is the one that the manifest names, without holding it in memory.

    Raises:
        RequestError: it is missing.
        DigestMismatchError: it is another file.
    """
    path = folder / ARTIFACT_FILE
    if not path.is_file():
        raise RequestError(f"there is no {path}", remedy="give a folder that export wrote")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != manifest.artifact.digest:
        raise DigestMismatchError(f"{path} is not the file that its manifest names", remedy="build the folder again")


def read_artifact(folder: Path, manifest: ModelManifest) -> bytes:
    """Return the ONNX file of a release folder.

    Raises:
        RequestError: it is missing.
        DigestMismatchError: it is not the file that the manifest names.
    """
    check_artifact(folder, manifest)
    return _read(folder / ARTIFACT_FILE, MAX_ARTIFACT_BYTES)


def _read(path: Path, most: int) -> bytes:
    try:
        if path.stat().st_size > most:
            raise RequestError(f"{path} has more than {most:,} bytes", remedy="give a folder that export wrote")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RequestError(f"there is no {path}", remedy="give a folder that export wrote") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", remedy="check its permissions") from error


def _holds(folder: Path, artifact: bytes, manifest: bytes) -> bool:
    """Tell whether the same release is there already; its report may tell of another run."""
    found = [folder / ARTIFACT_FILE, folder / MANIFEST_FILE]
    if not all(path.is_file() for path in found):
        return False
    return [path.read_bytes() for path in found] == [artifact, manifest]
