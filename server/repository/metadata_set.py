"""Owns the five current metadata files as one value, and the next set that follows from a change. No I/O.

Every change ends in a new snapshot and a new timestamp, so that a set is consistent at each moment. Who calls holds the
lock and keeps all new files in one transaction; the files' (role, version) refuse a second writer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from ota_protocol.errors import StorageError
from ota_protocol.manifest import FileRef
from server.domain.signed_file import SignedFile
from server.repository.keys import OnlineKeys
from server.repository.roles import DELTAS, is_due, renewed, sign

PARSE_ERRORS = (DeserializationError, RepositoryError, ValueError, KeyError, TypeError)
"""What python-tuf raises on metadata that is not metadata."""

ROLES = ("root", "targets", DELTAS, "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class MetadataSet:
    """The newest version of each file, parsed. The payloads are never changed in place: `copied` first."""

    root: Root
    targets: Targets
    deltas: Targets
    snapshot: Snapshot
    timestamp: Timestamp
    expires_at: Mapping[str, datetime]

    @classmethod
    def parse(cls, files: Mapping[str, SignedFile]) -> MetadataSet:
        """Parse our own files.

        Raises:
            StorageError: one is missing or broken.
        """
        try:
            return cls(
                root=Metadata[Root].from_bytes(_body(files, "root")).signed,
                targets=Metadata[Targets].from_bytes(_body(files, "targets")).signed,
                deltas=Metadata[Targets].from_bytes(_body(files, DELTAS)).signed,
                snapshot=Metadata[Snapshot].from_bytes(_body(files, "snapshot")).signed,
                timestamp=Metadata[Timestamp].from_bytes(_body(files, "timestamp")).signed,
                expires_at={role: file.expires_at for role, file in files.items()},
            )
        except PARSE_ERRORS as error:
            raise StorageError(
                f"the registry's TUF metadata is broken: {error}", remedy="restore the database from your backup"
            ) from error

    def require_keys(self, keys: OnlineKeys) -> None:
        """Check that the online keys are the ones that root and targets name.

        Raises:
            StorageError: they are of another repository.
        """
        delegated = self.targets.delegations.roles if self.targets.delegations else None
        named = {
            "snapshot": (self.root.roles["snapshot"].keyids, keys.snapshot),
            "timestamp": (self.root.roles["timestamp"].keyids, keys.timestamp),
            DELTAS: (delegated[DELTAS].keyids if delegated else [], keys.deltas),
        }
        for role, (keyids, signer) in named.items():
            if signer.public_key.keyid not in keyids:
                raise StorageError(
                    f"the {role} key is not the one that this registry's metadata names",
                    remedy="give the --keys folder that was made with this --data folder",
                )


def with_targets(current: MetadataSet, targets: SignedFile, keys: OnlineKeys, now: datetime) -> list[SignedFile]:
    """Return the new files after the publisher's next targets, which was verified before."""
    return [targets, *_seal(current, {"targets": targets.version}, keys, now)]


def with_delta(current: MetadataSet, path: str, file: FileRef, keys: OnlineKeys, now: datetime) -> list[SignedFile]:
    """Return the new files after one more delta; none if it is listed already."""
    listed = current.deltas.targets.get(path)
    entry = TargetFile(length=file.length_bytes, hashes={"sha256": file.digest}, path=path)
    if listed is not None and listed == entry:
        return []
    deltas = Targets.from_dict(current.deltas.to_dict())
    deltas.targets[path] = entry
    renewed(DELTAS, deltas, now)
    return [sign(DELTAS, deltas, keys.deltas), *_seal(current, {DELTAS: deltas.version}, keys, now)]


def refreshed(current: MetadataSet, keys: OnlineKeys, now: datetime) -> list[SignedFile]:
    """Return the online files signed anew before they expire; none while all are fresh."""
    if is_due(DELTAS, current.expires_at[DELTAS], now):
        deltas = Targets.from_dict(current.deltas.to_dict())
        renewed(DELTAS, deltas, now)
        return [sign(DELTAS, deltas, keys.deltas), *_seal(current, {DELTAS: deltas.version}, keys, now)]
    if is_due("snapshot", current.expires_at["snapshot"], now):
        return _seal(current, {}, keys, now)
    if is_due("timestamp", current.expires_at["timestamp"], now):
        return [_timestamp(current, current.timestamp.snapshot_meta, keys, now)]
    return []


def _seal(current: MetadataSet, versions: Mapping[str, int], keys: OnlineKeys, now: datetime) -> list[SignedFile]:
    snapshot = Snapshot.from_dict(current.snapshot.to_dict())
    for role, version in versions.items():
        snapshot.meta[f"{role}.json"] = MetaFile(version)
    renewed("snapshot", snapshot, now)
    signed = sign("snapshot", snapshot, keys.snapshot)
    meta = MetaFile(signed.version, len(signed.body), {"sha256": hashlib.sha256(signed.body).hexdigest()})
    return [signed, _timestamp(current, meta, keys, now)]


def _timestamp(current: MetadataSet, snapshot: MetaFile, keys: OnlineKeys, now: datetime) -> SignedFile:
    timestamp = Timestamp.from_dict(current.timestamp.to_dict())
    timestamp.snapshot_meta = snapshot
    renewed("timestamp", timestamp, now)
    return sign("timestamp", timestamp, keys.timestamp)


def _body(files: Mapping[str, SignedFile], role: str) -> bytes:
    file = files.get(role)
    if file is None:
        raise StorageError(f"the registry has no {role} metadata", remedy="run `ota-server init`")
    return file.body
