"""A stock TUF client against the registry: the updater of python-tuf, from a pinned root to a verified file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from ota_protocol.delta.apply import apply_bytes
from ota_protocol.digest import sha256_hex
from server.repository.roles import LIFETIMES
from server.services.clock import utc_now
from tests.support.registry import HandClock, Registry, build, running_registry


class HttpxFetcher(FetcherInterface):
    """Fetches over httpx, and can change what it fetched, as somebody on the way could."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.forged: dict[str, bytes] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        answer = self.client.get(url)
        if answer.status_code >= 400:
            raise DownloadHTTPError(url, answer.status_code)
        yield next((body for end, body in self.forged.items() if url.endswith(end)), answer.content)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with running_registry(tmp_path / "registry", HandClock(utc_now())) as running:
        yield running


@pytest.fixture
def fetcher(registry: Registry) -> HttpxFetcher:
    return HttpxFetcher(registry.client)


def updater(registry: Registry, fetcher: HttpxFetcher, folder: Path) -> Updater:
    for part in ("metadata", "targets"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    base = str(registry.client.base_url)
    return Updater(
        str(folder / "metadata"),
        f"{base}/tuf/metadata/",
        str(folder / "targets"),
        f"{base}/tuf/targets/",
        fetcher=fetcher,
        bootstrap=(registry.keys / "root.json").read_bytes(),
    )


def fetched(client: Updater, path: str) -> bytes:
    info = client.get_targetinfo(path)
    assert info is not None
    return Path(client.download_target(info)).read_bytes()


def test_artifact_manifest_and_delta_are_found_and_verified(
    registry: Registry, fetcher: HttpxFetcher, tmp_path: Path
) -> None:
    made = build("1.0.0")
    assert registry.publish(made, 7).status_code == 201
    registry.queue.run()
    client = updater(registry, fetcher, tmp_path / "vehicle")
    client.refresh()
    assert fetched(client, f"{made.folder}/model.onnx") == made.artifact
    assert fetched(client, f"{made.folder}/manifest.json") == made.manifest
    info = client.get_targetinfo(f"{made.folder}/model.onnx")
    assert info is not None
    assert info.custom == {"release_counter": 7}
    delta = fetched(client, f"deltas/empty-{sha256_hex(made.artifact)[:16]}.sqd")
    assert apply_bytes(None, delta) == made.artifact


def test_a_client_follows_each_publication(registry: Registry, fetcher: HttpxFetcher, tmp_path: Path) -> None:
    for counter, release in enumerate(("1.0.0", "1.1.0", "1.2.0"), start=1):
        made = build(release, changed=counter)
        assert registry.publish(made, counter).status_code == 201
        client = updater(registry, fetcher, tmp_path / "vehicle")
        client.refresh()
        assert fetched(client, f"{made.folder}/model.onnx") == made.artifact


def test_old_versions_stay_for_a_client_in_mid_refresh(registry: Registry) -> None:
    assert registry.publish(build("1.0.0"), 1).status_code == 201
    for name in ("1.targets.json", "1.snapshot.json", "2.targets.json", "2.snapshot.json"):
        assert registry.client.get(f"/tuf/metadata/{name}").status_code == 200


def test_a_tampered_target_is_refused_by_the_client(registry: Registry, fetcher: HttpxFetcher, tmp_path: Path) -> None:
    made = build("1.0.0")
    assert registry.publish(made, 1).status_code == 201
    client = updater(registry, fetcher, tmp_path / "vehicle")
    client.refresh()
    fetcher.forged["model.onnx"] = made.artifact[:-1] + b"!"
    with pytest.raises(RepositoryError):
        fetched(client, f"{made.folder}/model.onnx")


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_tampered_metadata_is_refused_by_the_client(
    registry: Registry, fetcher: HttpxFetcher, tmp_path: Path, name: str
) -> None:
    assert registry.publish(build("1.0.0"), 1).status_code == 201
    honest = json.loads(registry.client.get(f"/tuf/metadata/{name}").content)
    honest["signed"]["expires"] = "2099-01-01T00:00:00Z"
    fetcher.forged[name] = json.dumps(honest).encode()
    with pytest.raises((RepositoryError, DownloadError)):
        updater(registry, fetcher, tmp_path / "vehicle").refresh()


def test_the_timestamp_is_signed_anew_before_it_expires(tmp_path: Path) -> None:
    clock = HandClock()
    with running_registry(tmp_path, clock) as registry:
        before = timestamp(registry)
        clock.advance(seconds=LIFETIMES["timestamp"].total_seconds() / 4)
    with running_registry(tmp_path, clock) as registry:
        assert timestamp(registry) == before
        clock.advance(seconds=LIFETIMES["timestamp"].total_seconds() / 4)
    with running_registry(tmp_path, clock) as registry:
        after = timestamp(registry)
    assert after.version == before.version + 1
    assert after.snapshot_meta == before.snapshot_meta
    assert after.expires > before.expires


def test_all_online_roles_are_signed_anew_after_a_long_sleep(tmp_path: Path) -> None:
    clock = HandClock(utc_now().replace(year=2026, month=1))
    with running_registry(tmp_path, clock) as registry:
        assert registry.publish(build("1.0.0"), 1).status_code == 201
        root = (registry.keys / "root.json").read_bytes()
    clock.now = utc_now()
    with running_registry(tmp_path, clock) as registry:
        client = updater(registry, HttpxFetcher(registry.client), tmp_path / "vehicle")
        client.refresh()
        assert client.get_targetinfo("models/tiny/1.0.0/model.onnx") is not None
        assert (registry.keys / "root.json").read_bytes() == root


def test_an_unattended_repository_expires_for_the_client(tmp_path: Path) -> None:
    with running_registry(tmp_path, HandClock(utc_now().replace(year=2025))) as registry:
        with pytest.raises(ExpiredMetadataError):
            updater(registry, HttpxFetcher(registry.client), tmp_path / "vehicle").refresh()
        registry.clock.now = utc_now()
        answer = registry.client.get("/readyz")
        assert answer.status_code == 503
        assert "expired" in answer.json()["detail"]


def timestamp(registry: Registry) -> Timestamp:
    return Metadata[Timestamp].from_bytes(registry.client.get("/tuf/metadata/timestamp.json").content).signed
