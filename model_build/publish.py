"""Owns publishing a built release: upload, sign on top of the current targets, put; a second time changes nothing."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp
from tuf.api.serialization import DeserializationError

from model_build import release_folder
from model_build.recipe import Progress
from model_build.registry import Registry
from model_build.sign import NewTargets, extend
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import MalformedError, RefusedError, TrustError
from ota_protocol.manifest import FileRef, ModelManifest
from ota_protocol.wire import PublishRelease, Release

SIGNINGS = 8
"""How often targets are signed anew because another publisher was faster; one of any crowd succeeds each time."""
CONFLICT = 409


def publish(
    folder: Path,
    registry: Registry,
    signer: CryptoSigner,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None],
    progress: Progress,
) -> Release:
    """Publish the release in `folder`, or find that it is published already.

    Args:
        signer: the offline `targets` key of the registry.
        now: the clock of the signature's expiry.
        sleep: waits so many seconds between signings.
        progress: called with the file that is uploaded and its share done.

    Raises:
        RequestError: the folder holds no release.
        DigestMismatchError: its artifact is not the one that its manifest names.
        RefusedError: the registry said no; with status 409 the release exists with other bytes.
        TrustError: the registry's metadata is not what its key signed.
        TransportError: the registry cannot be reached, or broke off each time.
    """
    manifest = release_folder.read_manifest(folder)
    release_folder.check_artifact(folder, manifest)
    new = _new_targets(folder, manifest)
    published = registry.release(new.model, new.release)
    if published is not None:
        return _require_same(published, new)
    for name, file in ((release_folder.ARTIFACT_FILE, new.artifact), (release_folder.MANIFEST_FILE, new.manifest)):
        registry.put_blob(folder / name, file.digest, partial(progress, f"upload {name}"))
    return _put(registry, signer, new, now, sleep)


def current_targets(registry: Registry) -> bytes:
    """Return the targets metadata that the registry's timestamp and snapshot lead to.

    They are signed online, by keys this side does not hold; `sign.extend` checks what matters, the offline signature.

    Raises:
        MalformedError: a file does not parse.
        TrustError: a file is not the one that the file before names.
        TransportError: the registry cannot be reached.
    """
    try:
        timestamp = Metadata[Timestamp].from_bytes(registry.metadata("timestamp.json")).signed
        snapshot_file = _named(registry, "snapshot", timestamp.snapshot_meta)
        snapshot = Metadata[Snapshot].from_bytes(snapshot_file).signed
        return _named(registry, "targets", snapshot.meta["targets.json"])
    except (DeserializationError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedError(
            f"the registry's TUF metadata does not parse: {str(error)[:200]}", remedy="check the registry's address"
        ) from error


def _named(registry: Registry, role: str, meta: MetaFile) -> bytes:
    body = registry.metadata(f"{meta.version}.{role}.json")
    try:
        meta.verify_length_and_hashes(body)
    except LengthOrHashMismatchError as error:
        raise TrustError(f"{role} version {meta.version} is not the file that was named: {error}") from error
    if json.loads(body)["signed"]["version"] != meta.version:
        raise TrustError(f"the registry serves another {role} than version {meta.version}")
    return body


def _new_targets(folder: Path, manifest: ModelManifest) -> NewTargets:
    body = release_folder.read_manifest_bytes(folder)
    return NewTargets(
        model=manifest.model,
        release=manifest.release,
        artifact=manifest.artifact,
        manifest=FileRef(digest=sha256_hex(body), length_bytes=len(body)),
    )


def _put(
    registry: Registry,
    signer: CryptoSigner,
    new: NewTargets,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Release:
    """Sign and put, again and again while other publishers are faster."""
    refusal: RefusedError | None = None
    for attempt in range(SIGNINGS):
        if attempt:
            sleep(random.uniform(0.05, 0.2) * attempt)  # noqa: S311 jitter, no secret
        signed = extend(current_targets(registry), signer, new, now())
        body = PublishRelease(
            artifact=new.artifact, manifest=new.manifest, targets_base64=base64.b64encode(signed.body).decode()
        )
        try:
            return registry.put_release(new.model, new.release, body)
        except RefusedError as error:
            if error.status != CONFLICT:
                raise
            refusal = error
            published = registry.release(new.model, new.release)
            if published is not None:
                return _require_same(published, new)
    assert refusal is not None
    raise refusal


def _require_same(published: Release, new: NewTargets) -> Release:
    if (published.artifact, published.manifest) != (new.artifact, new.manifest):
        raise RefusedError(
            f"{new.model} {new.release} exists with other bytes (artifact {published.artifact.digest[:16]}…)",
            status=CONFLICT,
            remedy="a release never changes: build this one under another number",
        )
    return published
