"""Owns the shape of the TUF repository: its roles, how long each lasts, and the first version of all of them.

The Update Framework specification 1.0, sections 4 (document formats) and 5.2 (consistent snapshots).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from server.domain.signed_file import SignedFile
from server.repository.keys import OfflineKeys, OnlineKeys

DELTAS = "deltas"
"""The delegated online role that lists deltas and compressed fulls."""

LIFETIMES = {
    "root": timedelta(days=3 * 365),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=3),
    DELTAS: timedelta(days=30),
}
"""Offline roles last long, as a person renews them. The timestamp is what a vehicle accepts as fresh: a stolen copy of
the repository can hold a fleet back for three days, and a weekend without the server stops nothing."""


def first_files(offline: OfflineKeys, online: OnlineKeys, now: datetime) -> list[SignedFile]:
    """Return version 1 of root, targets, deltas, snapshot and timestamp."""
    targets = Targets(version=1, expires=_expiry("targets", now), delegations=_delegations(online))
    snapshot = Snapshot(
        version=1,
        expires=_expiry("snapshot", now),
        meta={"targets.json": MetaFile(1), f"{DELTAS}.json": MetaFile(1)},
    )
    return [
        sign("root", _root(offline, online, now), offline.root),
        sign("targets", targets, offline.targets),
        sign(DELTAS, Targets(version=1, expires=_expiry(DELTAS, now)), online.deltas),
        sign("snapshot", snapshot, online.snapshot),
        sign("timestamp", Timestamp(version=1, expires=_expiry("timestamp", now)), online.timestamp),
    ]


def sign(role: str, payload: Root | Targets | Snapshot | Timestamp, signer: CryptoSigner) -> SignedFile:
    """Return the signed file of a payload: compact JSON, since vehicles pay for its bytes."""
    metadata: Metadata[Any] = Metadata(payload)
    metadata.sign(signer)
    return SignedFile(role, payload.version, payload.expires, metadata.to_bytes(JSONSerializer(compact=True)))


def renewed(role: str, payload: Signed, now: datetime) -> None:
    """Make `payload` the next version, with a full lifetime before it."""
    payload.version += 1
    payload.expires = _expiry(role, now)


def is_due(role: str, expires_at: datetime, now: datetime) -> bool:
    """Tell whether an online file has less than two thirds of its lifetime left, so that it is signed anew."""
    return expires_at - now < LIFETIMES[role] * 2 / 3


def _expiry(role: str, now: datetime) -> datetime:
    return (now + LIFETIMES[role]).replace(microsecond=0)


def _root(offline: OfflineKeys, online: OnlineKeys, now: datetime) -> Root:
    root = Root(version=1, expires=_expiry("root", now), consistent_snapshot=True)
    for role, signer in _signers(offline, online):
        root.add_key(signer.public_key, role)
    return root


def _signers(offline: OfflineKeys, online: OnlineKeys) -> Iterator[tuple[str, CryptoSigner]]:
    yield "root", offline.root
    yield "targets", offline.targets
    yield "snapshot", online.snapshot
    yield "timestamp", online.timestamp


def _delegations(online: OnlineKeys) -> Delegations:
    key = online.deltas.public_key
    role = DelegatedRole(DELTAS, [key.keyid], threshold=1, terminating=True, paths=[f"{DELTAS}/*"])
    return Delegations(keys={key.keyid: key}, roles={DELTAS: role})
