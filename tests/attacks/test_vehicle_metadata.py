"""Attacks on the TUF metadata that a vehicle reads: it keeps what it runs, stages nothing, and says why."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from edge_client.disk import Disk
from edge_client.registry import make_client
from edge_client.trust import Hint, Trust, TrustedTargets
from ota_protocol.errors import MalformedError, PeerError, TransportError, TrustError
from tests.support.model_fake import tiny_release
from tests.support.registry_fake import FakeRegistry, FakeTransport, Reply, Request
from tests.support.tuf_types import TargetFile

FIRST = tiny_release("1.0.0", 1)
SECOND = tiny_release("1.1.0", 2, seed=1)


class Vehicle:
    """The trust of one vehicle, whose cache stays between refreshes."""

    def __init__(self, folder: Path, registry: FakeRegistry) -> None:
        self.registry = registry
        self.client = make_client(FakeTransport(registry), "http://registry.test", 1.0)
        self.folder = folder / "metadata"
        self.trust = Trust(self.folder, registry.repository.pinned_root, self.client, Disk())

    def refresh(self) -> TrustedTargets:
        """Refresh as after a check-in."""
        repository = self.registry.repository
        return self.trust.refresh(Hint(repository.files["timestamp.json"], repository.root.version))

    def accepts(self, release: str, highest_confirmed: int = 0) -> None:
        """Refresh and look the release up."""
        self.registry.assign(release)
        assignment = self.registry.assignment()
        assert assignment is not None
        self.refresh().release(assignment, highest_confirmed)


@pytest.fixture
def registry() -> FakeRegistry:
    made = FakeRegistry()
    made.publish(FIRST)
    return made


@pytest.fixture
def vehicle(tmp_path: Path, registry: FakeRegistry) -> Vehicle:
    made = Vehicle(tmp_path, registry)
    made.accepts("1.0.0")
    return made


def test_honest_registry_is_believed(vehicle: Vehicle, registry: FakeRegistry) -> None:
    registry.publish(SECOND)
    vehicle.accepts("1.1.0")


def test_nothing_new_costs_no_request(vehicle: Vehicle, registry: FakeRegistry) -> None:
    before = len(registry.requests)
    vehicle.accepts("1.0.0")
    assert len(registry.requests) == before


def test_rotated_root_is_followed_and_old_key_is_dropped(vehicle: Vehicle, registry: FakeRegistry) -> None:
    stolen = registry.repository.keys["root"]
    registry.repository.rotate_root()
    registry.publish(SECOND)
    vehicle.accepts("1.1.0")
    registry.repository.root.version += 1
    forged = registry.repository.sign(registry.repository.root, "root", stolen)
    registry.repository.files[f"{registry.repository.root.version}.root.json"] = forged
    with pytest.raises(TrustError):
        vehicle.refresh()


@pytest.mark.parametrize("role", ["targets", "snapshot"])
def test_metadata_signed_by_a_stranger(vehicle: Vehicle, registry: FakeRegistry, role: str) -> None:
    registry.publish(SECOND)
    repository = registry.repository
    signed = getattr(repository, role)
    name = f"{signed.version}.{role}.json"
    repository.files[name] = repository.sign(signed, role, CryptoSigner.generate_ed25519())
    with pytest.raises(TrustError):
        vehicle.accepts("1.1.0")


def test_timestamp_signed_by_a_stranger(vehicle: Vehicle, registry: FakeRegistry) -> None:
    repository = registry.repository
    repository.timestamp.version += 1
    forged = repository.sign(repository.timestamp, "timestamp", CryptoSigner.generate_ed25519())
    repository.files["timestamp.json"] = forged
    with pytest.raises(TrustError):
        vehicle.refresh()


def test_timestamp_rollback(vehicle: Vehicle, registry: FakeRegistry) -> None:
    old = registry.repository.files["timestamp.json"]
    registry.publish(SECOND)
    vehicle.accepts("1.1.0")
    registry.repository.files["timestamp.json"] = old
    with pytest.raises(TrustError):
        vehicle.refresh()


def test_snapshot_rollback_under_a_new_timestamp(vehicle: Vehicle, registry: FakeRegistry) -> None:
    repository = registry.repository
    registry.publish(SECOND)
    vehicle.accepts("1.1.0")
    repository.snapshot.version -= 1
    repository.publish_timestamp()
    with pytest.raises(TrustError):
        vehicle.refresh()


def test_targets_rollback_under_a_new_snapshot(vehicle: Vehicle, registry: FakeRegistry) -> None:
    repository = registry.repository
    registry.publish(SECOND)
    vehicle.accepts("1.1.0")
    repository.snapshot.meta["targets.json"].version -= 1
    repository.snapshot.version += 1
    repository.files[f"{repository.snapshot.version}.snapshot.json"] = repository.sign(repository.snapshot, "snapshot")
    repository.publish_timestamp()
    with pytest.raises(TrustError):
        vehicle.refresh()


def test_expired_timestamp_and_healing_without_a_restart(vehicle: Vehicle, registry: FakeRegistry) -> None:
    registry.repository.lifetime = timedelta(days=-1)
    registry.repository.publish_timestamp()
    with pytest.raises(TrustError, match="clock"):
        vehicle.refresh()
    registry.repository.lifetime = timedelta(days=1)
    registry.repository.publish_timestamp()
    vehicle.refresh()


def test_expired_targets(vehicle: Vehicle, registry: FakeRegistry) -> None:
    registry.repository.targets.expires = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    registry.publish(SECOND)
    with pytest.raises(TrustError):
        vehicle.accepts("1.1.0")


def test_mix_and_match_of_two_snapshots(vehicle: Vehicle, registry: FakeRegistry) -> None:
    repository = registry.repository
    old = repository.files[f"{repository.targets.version}.targets.json"]
    registry.publish(SECOND)
    repository.files[f"{repository.targets.version}.targets.json"] = old
    with pytest.raises(TrustError):
        vehicle.accepts("1.1.0")


def test_deltas_role_signs_an_artifact(vehicle: Vehicle, registry: FakeRegistry) -> None:
    """The online key of deltas is stolen; it lists a model of its own. Its paths are deltas alone."""
    repository = registry.repository
    path = "models/tiny/6.6.6/model.onnx"
    target = TargetFile.from_data(path, b"evil", ["sha256"])
    target.unrecognized_fields["custom"] = {"release_counter": 9}
    repository.deltas.targets[path] = target
    repository.deltas.targets[path.replace("model.onnx", "manifest.json")] = target
    repository.publish()
    registry.releases["6.6.6"] = tiny_release("6.6.6", 9)
    with pytest.raises(TrustError, match="no signed metadata lists"):
        vehicle.accepts("6.6.6")


def test_release_counter_rollback(vehicle: Vehicle) -> None:
    with pytest.raises(TrustError, match="old release is offered as new"):
        vehicle.accepts("1.0.0", highest_confirmed=2)


def test_registry_lies_about_the_release_counter(vehicle: Vehicle, registry: FakeRegistry) -> None:
    registry.releases["1.0.0"] = tiny_release("1.0.0", 7)
    with pytest.raises(TrustError, match="release counters"):
        vehicle.accepts("1.0.0", highest_confirmed=5)


def test_release_without_a_signed_counter(vehicle: Vehicle, registry: FakeRegistry) -> None:
    for target in registry.repository.targets.targets.values():
        target.unrecognized_fields.clear()
    registry.repository.publish()
    with pytest.raises(TrustError, match="no release counter"):
        vehicle.accepts("1.0.0")


def test_registry_offers_the_files_of_another_release(vehicle: Vehicle, registry: FakeRegistry) -> None:
    registry.publish(SECOND)
    registry.releases["1.1.0"] = tiny_release("1.1.0", 2, seed=5)
    with pytest.raises(TrustError, match="other bytes"):
        vehicle.accepts("1.1.0")


def test_manifest_that_is_signed_but_too_long(vehicle: Vehicle, registry: FakeRegistry) -> None:
    release = tiny_release("1.2.0", 3)
    huge = type(release)(release.model, "1.2.0", 3, release.artifact, b" " * (2 << 20))
    registry.publish(huge)
    with pytest.raises(TrustError, match="longer"):
        vehicle.accepts("1.2.0")


def endless(_: FakeRegistry, request: Request) -> Reply | None:
    is_metadata = request.path.startswith("/tuf/metadata/")
    return Reply(200, b"{" * (6 << 20), {}) if is_metadata else None


def test_endless_metadata_is_cut_off(vehicle: Vehicle, registry: FakeRegistry) -> None:
    registry.publish(SECOND)
    registry.faults.append(endless)
    with pytest.raises(MalformedError, match="longer"):
        vehicle.accepts("1.1.0")


def test_endless_roots_are_bounded(vehicle: Vehicle, registry: FakeRegistry) -> None:
    def again(each: FakeRegistry, request: Request) -> Reply | None:
        name = request.path.rpartition("/")[2]
        return Reply(200, each.repository.files["1.root.json"]) if name.endswith("root.json") else None

    registry.faults.append(again)
    with pytest.raises(TrustError):
        vehicle.trust.refresh(Hint(registry.repository.files["timestamp.json"], 10_000))
    assert len(registry.requests) < 80


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets", "1.root"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"\xff\x00"])
def test_torn_cache_falls_back_to_the_network(
    vehicle: Vehicle, registry: FakeRegistry, name: str, damage: Callable[[bytes], bytes]
) -> None:
    folder = vehicle.folder / ("root_history" if "root" in name else "")
    path = folder / f"{name}.json"
    path.write_bytes(damage(path.read_bytes()))
    vehicle.accepts("1.0.0")


def test_cached_root_of_an_attacker_is_not_trusted(vehicle: Vehicle, registry: FakeRegistry) -> None:
    stranger = FakeRegistry().repository
    (vehicle.folder / "root_history" / "1.root.json").write_bytes(stranger.pinned_root)
    vehicle.accepts("1.0.0")
    registry.repository.files = stranger.files
    with pytest.raises(TrustError):
        vehicle.refresh()


def test_dropped_metadata_download_is_a_transport_error(vehicle: Vehicle, registry: FakeRegistry) -> None:
    registry.publish(SECOND)

    def cut(each: FakeRegistry, request: Request) -> Reply:
        reply = each.honest(request)
        reply.cut_after = 10
        return reply

    registry.faults.append(cut)
    with pytest.raises(TransportError):
        vehicle.accepts("1.1.0")
    registry.faults.clear()
    vehicle.accepts("1.1.0")


@pytest.mark.parametrize("junk", [b"", b"[]", b"null", b'{"signed": 1}', b"\x00" * 100, b'{"a":' * 5000])
def test_junk_timestamp(vehicle: Vehicle, junk: bytes) -> None:
    with pytest.raises(PeerError):
        vehicle.trust.refresh(Hint(junk, 1))
    vehicle.accepts("1.0.0")


def test_delta_that_the_deltas_role_does_not_list(vehicle: Vehicle, registry: FakeRegistry) -> None:
    registry.publish(SECOND)
    offer = registry.add_delta(FIRST.artifact, SECOND.artifact)
    targets = vehicle.refresh()
    assert targets.transfer(offer).digest == offer.digest
    with pytest.raises(TrustError):
        targets.transfer(offer.model_copy(update={"digest": "0" * 64}))
    with pytest.raises(TrustError):
        targets.transfer(offer.model_copy(update={"target": "deltas/unheard-of.sqd"}))


def test_targets_metadata_of_an_empty_repository_offers_nothing(vehicle: Vehicle, registry: FakeRegistry) -> None:
    registry.repository.targets.targets.clear()
    registry.repository.publish()
    with pytest.raises(TrustError):
        vehicle.accepts("1.0.0")
