"""A TUF repository in memory, with real keys and signatures: what a registry serves, and what an attacker would."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONSerializer

from tests.support.tuf_types import (
    DelegatedRole,
    Delegations,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

ROLES = ("root", "targets", "snapshot", "timestamp", "deltas")


@dataclass
class FakeRepository:
    """Roles, and the metadata files published so far.

    `files` maps a file name (`3.targets.json`, `timestamp.json`) to bytes; tests put forged bytes there.
    """

    keys: dict[str, CryptoSigner] = field(
        default_factory=lambda: {role: CryptoSigner.generate_ed25519() for role in ROLES}
    )
    files: dict[str, bytes] = field(default_factory=dict)
    lifetime: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        self.root = Root(version=1, expires=self._expiry(3650), consistent_snapshot=True)
        for role in ROLES[:4]:
            self.root.add_key(self.keys[role].public_key, role)
        self.targets = Targets(version=1, expires=self._expiry(365))
        self.deltas = Targets(version=1, expires=self._expiry(365))
        delegated = DelegatedRole("deltas", [], threshold=1, terminating=True, paths=["deltas/*"])
        self.targets.delegations = Delegations({}, {"deltas": delegated})
        self.targets.add_key(self.keys["deltas"].public_key, "deltas")
        self.snapshot = Snapshot(version=1, expires=self._expiry(30))
        self.timestamp = Timestamp(version=1, expires=self.expiry)
        self.publish_root()
        self.publish()

    @property
    def expiry(self) -> datetime:
        """When the timestamp made now expires."""
        return datetime.now(UTC).replace(microsecond=0) + self.lifetime

    def _expiry(self, days: int) -> datetime:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)

    @property
    def pinned_root(self) -> bytes:
        """The root that a vehicle is given."""
        return self.files["1.root.json"]

    def add(self, path: str, data: bytes, *, counter: int | None = None) -> None:
        """List a target; a delta in its own role."""
        target = TargetFile.from_data(path, data, ["sha256"])
        if counter is not None:
            target.unrecognized_fields["custom"] = {"release_counter": counter}
        (self.deltas if path.startswith("deltas/") else self.targets).targets[path] = target

    def publish_root(self) -> None:
        """Sign the root of the present version."""
        self.files[f"{self.root.version}.root.json"] = self.sign(self.root, "root")

    def rotate_root(self) -> None:
        """Publish the next root, signed by the key before it and by a new one."""
        old = self.keys["root"]
        self.root.version += 1
        self.keys["root"] = CryptoSigner.generate_ed25519()
        self.root.revoke_key(old.public_key.keyid, "root")
        self.root.add_key(self.keys["root"].public_key, "root")
        metadata = Metadata(self.root)
        metadata.sign(old)
        metadata.sign(self.keys["root"], append=True)
        self.files[f"{self.root.version}.root.json"] = metadata.to_bytes(JSONSerializer(compact=True))

    def publish(self) -> None:
        """Sign the next version of targets, deltas, snapshot and timestamp."""
        for name, role in (("targets", self.targets), ("deltas", self.deltas)):
            if f"{role.version}.{name}.json" in self.files:
                role.version += 1
            self.files[f"{role.version}.{name}.json"] = self.sign(role, name)
            self.snapshot.meta[f"{name}.json"] = MetaFile(version=role.version)
        if f"{self.snapshot.version}.snapshot.json" in self.files:
            self.snapshot.version += 1
        self.files[f"{self.snapshot.version}.snapshot.json"] = self.sign(self.snapshot, "snapshot")
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        """Sign the next timestamp, for the present snapshot."""
        if "timestamp.json" in self.files:
            self.timestamp.version += 1
        self.timestamp.snapshot_meta = MetaFile(version=self.snapshot.version)
        self.timestamp.expires = self.expiry
        self.files["timestamp.json"] = self.sign(self.timestamp, "timestamp")

    def sign(self, signed: Any, role: str, key: CryptoSigner | None = None) -> bytes:
        """Return signed bytes; `key` lets an attacker sign."""
        metadata = Metadata(signed)
        metadata.sign(key or self.keys[role])
        return metadata.to_bytes(JSONSerializer(compact=True))
