"""Owns the proof that files are what the offline key signed. A `VerifiedArtifact` can be made here alone.

Deltas are applied here, piece by piece, against bases that the vehicle holds; whatever a delta yields is compared with
the signed digest of the full file. Does not fetch (`download`) nor store (`slots`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge_client.disk import Disk, file_digest, storage_errors
from edge_client.partial import PartialFiles
from edge_client.trust import TrustedFile, TrustedRelease
from ota_protocol.delta.apply import apply
from ota_protocol.delta.limits import Limits
from ota_protocol.digest import DigestHex
from ota_protocol.errors import DeltaError, DigestMismatchError, TrustError
from ota_protocol.manifest import InstalledRelease, ModelManifest
from ota_protocol.wire import Candidate, TransferOffer

BETWEEN_FACTOR: Final = 8
BETWEEN_BYTES: Final = 1 << 20
"""A file in the middle of a chain may be this much longer than the result: an fp32 model before an int8 one."""

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class VerifiedArtifact:
    """Artifact and model manifest, both with the digests that the offline key signed, and fitting each other."""

    model_path: Path
    manifest_path: Path
    manifest: ModelManifest
    release: InstalledRelease
    seal: object

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("a VerifiedArtifact is made by edge_client.verify alone")


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file on our disk, as the delta codec reads it."""

    descriptor: int
    length_bytes: int

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)


class Verifier:
    """Turns downloaded files into verified ones.

    Args:
        files: where the transfers lie, and where results are put.
        disk: durable file operations.
        limits: what a delta may cost.
    """

    def __init__(self, files: PartialFiles, disk: Disk, limits: Limits | None = None) -> None:
        self._files = files
        self._disk = disk
        self._limits = limits or Limits()

    def assemble(self, wanted: TrustedFile, candidate: Candidate, bases: Mapping[DigestHex, Path]) -> Path:
        """Run the transfers of a candidate and return the file that they yield, with the signed digest.

        Raises:
            DeltaError: a delta is broken, meant for another base, or yields other bytes.
            DigestMismatchError: a transfer or the result is not what was signed.
            DiskFullError, StorageError: our disk.
        """
        destination = self._files.path(wanted.digest)
        if not self._files.is_complete(wanted.digest):
            known = dict(bases)
            for transfer in candidate.transfers:
                last = transfer is candidate.transfers[-1]
                limit = wanted.length_bytes if last else BETWEEN_FACTOR * wanted.length_bytes + BETWEEN_BYTES
                known[transfer.result] = self._run(transfer, known, limit)
        self._require(destination, wanted)
        return destination

    def release(self, trusted: TrustedRelease) -> VerifiedArtifact:
        """Return the release, if both of its files are here and fit each other.

        Raises:
            DigestMismatchError: a file is not what was signed.
            MalformedError: the manifest does not parse.
            TrustError: the manifest describes another release or artifact.
        """
        model_path = self._files.path(trusted.artifact.digest)
        manifest_path = self._files.path(trusted.manifest.digest)
        self._require(model_path, trusted.artifact)
        self._require(manifest_path, trusted.manifest)
        with storage_errors("read the manifest"):
            manifest = ModelManifest.from_bytes(manifest_path.read_bytes())
        described = (manifest.model, manifest.release, manifest.artifact.digest)
        if described != (trusted.model, trusted.release, trusted.artifact.digest):
            raise TrustError(
                f"the manifest of {trusted.model} {trusted.release} describes {manifest.model} {manifest.release}"
                " or another artifact",
                remedy="publish the release again",
            )
        release = InstalledRelease(
            model=trusted.model,
            release=trusted.release,
            release_counter=trusted.release_counter,
            artifact=trusted.artifact.digest,
            manifest=trusted.manifest.digest,
        )
        return VerifiedArtifact(model_path, manifest_path, manifest, release, _SEAL)

    def _run(self, transfer: TransferOffer, known: Mapping[DigestHex, Path], limit_bytes: int) -> Path:
        path, result = self._files.path(transfer.digest), self._files.path(transfer.result)
        if transfer.digest == transfer.result or result.is_file():
            return result
        if file_digest(path) != transfer.digest:
            self._files.discard(transfer.digest)
            raise DigestMismatchError(f"{transfer.target} changed on our disk", remedy="it is fetched again")
        base = known.get(transfer.base) if transfer.base else None
        if transfer.base and base is None:
            raise DeltaError(f"its base {transfer.base[:16]}… is not here", op="base", remedy="take another candidate")
        limits = replace(self._limits, result_bytes=min(limit_bytes, self._limits.result_bytes))
        self._apply(path, base, result, transfer, limits)
        return result

    def _apply(self, delta: Path, base: Path | None, result: Path, transfer: TransferOffer, limits: Limits) -> None:
        temporary = result.with_name(result.name + ".tmp")
        try:
            with storage_errors(f"write {result.name}"), temporary.open("wb") as output:
                self._disk.about_to("write", temporary)
                yielded = _apply_files(delta, base, output.write, limits)
                output.flush()
                self._disk.flush(output.fileno(), temporary)
            if yielded != transfer.result:
                raise DeltaError("it yields another file than was offered", op="header")
            self._disk.replace(temporary, result)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _require(self, path: Path, wanted: TrustedFile) -> None:
        if not path.is_file() or path.stat().st_size != wanted.length_bytes or file_digest(path) != wanted.digest:
            self._files.discard(wanted.digest)
            raise DigestMismatchError(
                f"{wanted.target} does not have the digest that was signed", remedy="another way to fetch it is tried"
            )


def _apply_files(delta: Path, base: Path | None, write: Callable[[bytes], object], limits: Limits) -> DigestHex:
    """Apply a delta file; return the digest of what was written."""
    delta_file = os.open(delta, os.O_RDONLY)
    base_file = os.open(base, os.O_RDONLY) if base else None
    try:
        base_source = FileSource(base_file, os.fstat(base_file).st_size) if base_file is not None else None
        source = FileSource(delta_file, os.fstat(delta_file).st_size)
        return apply(base_source, source, write, limits=limits).result_digest
    finally:
        os.close(delta_file)
        if base_file is not None:
            os.close(base_file)
