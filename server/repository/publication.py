"""Owns the check of the publisher's next `targets`: what a signature of the offline key may change, and what not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, TargetFile, Targets

from ota_protocol.manifest import FileRef
from server.domain.refusals import CheckFailedError, ConflictError
from server.domain.signed_file import SignedFile
from server.repository.metadata_set import PARSE_ERRORS, MetadataSet

MAX_COUNTER = 1 << 53
"""The largest integer that every JSON parser reads exactly."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One file of the release, as `targets` must list it."""

    path: str
    file: FileRef


@dataclass(frozen=True, slots=True)
class VerifiedTargets:
    """A next `targets` that passed every check."""

    file: SignedFile
    release_counter: int


def verify(body: bytes, current: MetadataSet, listings: Sequence[Listing], now: datetime) -> VerifiedTargets:
    """Check the publisher's next targets against the current set and the release that it is for.

    Raises:
        CheckFailedError: it does not parse, is not signed by the key that root names, has expired, drops or changes
            what was released, touches the delegation, or does not list exactly the files of this release.
        ConflictError: its version is not the next one.
    """
    targets = _signed(body, current)
    _require_next(targets, current)
    if targets.is_expired(now):
        raise CheckFailedError(f"targets metadata expired at {targets.expires}", remedy="sign it with a later expiry")
    _require_kept(targets, current)
    counter = _require_listed(targets, current, listings)
    return VerifiedTargets(SignedFile("targets", targets.version, targets.expires, body), counter)


def _signed(body: bytes, current: MetadataSet) -> Targets:
    try:
        metadata = Metadata[Targets].from_bytes(body)
        if not isinstance(metadata.signed, Targets):
            raise ValueError(f"it is {metadata.signed.type!r} metadata")
    except PARSE_ERRORS as error:
        raise CheckFailedError(
            f"targets_base64 holds no TUF targets metadata: {str(error)[:200]}",
            remedy="send the signed targets metadata as `ota-build publish` makes it",
        ) from error
    try:
        current.root.verify_delegate("targets", metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError as error:
        raise CheckFailedError(
            f"targets metadata is not signed by the targets key that root version {current.root.version} names",
            remedy="sign with keys/offline/targets.pem of this registry",
        ) from error
    return metadata.signed


def _require_next(targets: Targets, current: MetadataSet) -> None:
    wanted = current.targets.version + 1
    if targets.version != wanted:
        raise ConflictError(
            f"targets metadata has version {targets.version}, the next one is {wanted}",
            remedy="fetch the current targets metadata, extend it, sign it and publish again",
        )


def _require_kept(targets: Targets, current: MetadataSet) -> None:
    for path, listed in current.targets.targets.items():
        if targets.targets.get(path) != listed:
            raise CheckFailedError(
                f"targets metadata drops or changes {path}", remedy="extend the current targets metadata"
            )
    if targets.delegations != current.targets.delegations:
        raise CheckFailedError(
            "targets metadata changes the delegation to deltas", remedy="leave `delegations` as it is"
        )


def _require_listed(targets: Targets, current: MetadataSet, listings: Sequence[Listing]) -> int:
    added = set(targets.targets) - set(current.targets.targets)
    wanted = {listing.path for listing in listings}
    if added != wanted:
        odd = sorted(added ^ wanted)[0]
        raise CheckFailedError(
            f"targets metadata {'adds' if odd in added else 'does not add'} {odd[:200]}",
            remedy="add exactly the artifact and the manifest of this release",
        )
    counters = {_require_match(targets.targets[listing.path], listing) for listing in listings}
    if len(counters) != 1:
        raise CheckFailedError("the two targets have different release counters", remedy="sign them with the same one")
    return counters.pop()


def _require_match(target: TargetFile, listing: Listing) -> int:
    if target.hashes.get("sha256") != listing.file.digest or target.length != listing.file.length_bytes:
        raise CheckFailedError(
            f"target {listing.path} is signed for {target.length:,} bytes of digest "
            f"{target.hashes.get('sha256', 'unknown')[:16]}…, the release has {listing.file.length_bytes:,} bytes of "
            f"{listing.file.digest[:16]}…",
            remedy="sign the targets for the files that were uploaded",
        )
    counter = (target.custom or {}).get("release_counter")
    if not isinstance(counter, int) or isinstance(counter, bool) or not 1 <= counter <= MAX_COUNTER:
        raise CheckFailedError(
            f"target {listing.path} has no release counter",
            remedy='set custom {"release_counter": n}, n from 1 to 2^53',
        )
    return counter
