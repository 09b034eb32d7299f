"""Owns the use case of publishing a release: every check first, then all rows in one transaction."""

from __future__ import annotations

import base64
import binascii
import math

from sqlalchemy.exc import IntegrityError

from ota_protocol.errors import MalformedError
from ota_protocol.manifest import MAX_MANIFEST_BYTES, FileRef, ModelManifest
from ota_protocol.wire import PublishRelease, Release
from server.domain.refusals import CheckFailedError, ConflictError, NotFoundError
from server.domain.release import KnownRelease, artifact_target, manifest_target
from server.repository.keys import OnlineKeys
from server.repository.metadata_set import with_targets
from server.repository.publication import Listing, verify
from server.services.catalog import Catalog, View
from server.services.clock import Clock
from server.services.deltas import DeltaQueue, want_for
from server.services.inspection import Inspector
from server.services.metadata import load, load_for_change, save
from server.store import metadata, releases
from server.store.blobs import Blobs
from server.store.database import Database


class Publisher:
    """Publishes releases, and shows them."""

    def __init__(
        self,
        *,
        database: Database,
        blobs: Blobs,
        inspector: Inspector,
        catalog: Catalog,
        queue: DeltaQueue,
        keys: OnlineKeys,
        clock: Clock,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._inspector = inspector
        self._catalog = catalog
        self._queue = queue
        self._keys = keys
        self._clock = clock

    def publish(self, model: str, release: str, request: PublishRelease) -> tuple[Release, bool]:
        """Publish a release; tell also whether it is new. A second time with the same bytes changes nothing.

        Raises:
            NotFoundError: the artifact or the manifest was not uploaded.
            ConflictError: the release exists with other bytes, or `targets` is not the next version.
            CheckFailedError: a check failed; the text says which.
        """
        known = self._existing(model, release, request)
        if known is not None:
            return shown(known, self._catalog.view()), False
        for what, file in (("artifact", request.artifact), ("manifest", request.manifest)):
            self._require_uploaded(what, file)
        manifest = self._manifest(model, release, request)
        targets = _decoded(request.targets_base64)
        listings = _listings(model, release, request)
        with self._database.read() as session:
            verify(targets, load(session), listings, self._clock())
        self._inspector.inspect(request.artifact, manifest)
        return self._commit(model, release, request, manifest, targets)

    def _commit(
        self, model: str, release: str, request: PublishRelease, manifest: ModelManifest, targets: bytes
    ) -> tuple[Release, bool]:
        now = self._clock()
        try:
            with self._database.write() as session:
                current = load_for_change(session)
                verified = verify(targets, current, _listings(model, release, request), now)
                _require_growth(model, verified.release_counter, releases.last_counter(session, model))
                new = KnownRelease(
                    model=model,
                    release=release,
                    release_counter=verified.release_counter,
                    artifact=request.artifact,
                    manifest=request.manifest,
                    metrics=manifest.metrics,
                    published_at=now,
                )
                releases.add(session, new)
                metadata.add_target(session, new.artifact_target, new.artifact.digest, new.artifact.length_bytes)
                metadata.add_target(session, new.manifest_target, new.manifest.digest, new.manifest.length_bytes)
                save(session, with_targets(current, verified.file, self._keys, now))
                _, tasks = want_for(session, new, None, self._clock)
        except IntegrityError as error:
            raise ConflictError("somebody else published at the same moment", remedy="publish again") from error
        self._catalog.stale()
        for task in tasks:
            self._queue.put(task)
        return shown(new, self._catalog.view()), True

    def _existing(self, model: str, release: str, request: PublishRelease) -> KnownRelease | None:
        with self._database.read() as session:
            known = releases.get(session, model, release)
        if known is not None and (known.artifact, known.manifest) != (request.artifact, request.manifest):
            raise ConflictError(
                f"release {release} of {model} exists with other bytes (artifact {known.artifact.digest[:16]}…)",
                remedy="a release never changes: publish under a new number",
            )
        return known

    def _require_uploaded(self, what: str, file: FileRef) -> None:
        held = self._blobs.length_bytes(file.digest)
        if held is None:
            raise NotFoundError(
                f"the {what} {file.digest[:16]}… was not uploaded", remedy=f"PUT /api/v1/blobs/{file.digest} first"
            )
        if held != file.length_bytes:
            raise CheckFailedError(
                f"the {what} has {held:,} bytes, the request says {file.length_bytes:,}",
                remedy="send the length of the uploaded file",
            )

    def _manifest(self, model: str, release: str, request: PublishRelease) -> ModelManifest:
        try:
            manifest = ModelManifest.from_bytes(
                self._blobs.read(request.manifest.digest, limit_bytes=MAX_MANIFEST_BYTES)
            )
        except MalformedError as error:
            raise CheckFailedError(error.message, remedy="make the manifest with `ota-build export`") from error
        odd = [name for name, figure in manifest.metrics.items() if not math.isfinite(figure)]
        if odd:
            raise CheckFailedError(f"metric {odd[0][:80]!r} of the manifest is no number", remedy="leave it out")
        said = (manifest.model, manifest.release, manifest.artifact)
        if said != (model, release, request.artifact):
            raise CheckFailedError(
                f"the manifest is of {manifest.model} {manifest.release} with artifact "
                f"{manifest.artifact.digest[:16]}…, not of {model} {release} with {request.artifact.digest[:16]}…",
                remedy="publish the manifest that was exported with this artifact",
            )
        return manifest


def shown(release: KnownRelease, view: View) -> Release:
    """Return a release as the API shows it."""
    return Release(
        model=release.model,
        release=release.release,
        release_counter=release.release_counter,
        artifact=release.artifact,
        manifest=release.manifest,
        published_at=release.published_at,
        metrics=release.metrics,
        deltas=(*view.graph.into(release.artifact.digest), *view.graph.into(release.manifest.digest)),
    )


def _listings(model: str, release: str, request: PublishRelease) -> tuple[Listing, Listing]:
    return (
        Listing(artifact_target(model, release), request.artifact),
        Listing(manifest_target(model, release), request.manifest),
    )


def _decoded(targets_base64: str) -> bytes:
    try:
        return base64.b64decode(targets_base64, validate=True)
    except binascii.Error as error:
        raise CheckFailedError(f"targets_base64 is not base64: {error}", remedy="send standard base64") from error


def _require_growth(model: str, counter: int, last: int) -> None:
    if counter <= last:
        raise CheckFailedError(
            f"release counter {counter} of {model} does not grow: the last one is {last}",
            remedy=f"sign the targets with release_counter {last + 1}",
        )
