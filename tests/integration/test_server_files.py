"""TUF files over HTTP: caching, conditions, ranges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ota_protocol.digest import sha256_hex
from tests.support.registry import Registry, build, running_registry

MADE = build("1.0.0")
ARTIFACT = f"/tuf/targets/models/tiny/1.0.0/{sha256_hex(MADE.artifact)}.model.onnx"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        assert running.publish(MADE, 1).status_code == 201
        yield running


def test_a_target_is_served_whole_and_for_ever(registry: Registry) -> None:
    answer = registry.client.get(ARTIFACT)
    assert answer.content == MADE.artifact
    assert answer.headers["content-length"] == str(len(MADE.artifact))
    assert answer.headers["etag"] == f'"{sha256_hex(MADE.artifact)}"'
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("header", "start", "end"), [("bytes=100-", 100, None), ("bytes=0-9", 0, 10), ("bytes=-5", -5, None)]
)
def test_a_target_is_served_in_part(registry: Registry, header: str, start: int, end: int | None) -> None:
    answer = registry.client.get(ARTIFACT, headers={"Range": header})
    wanted = MADE.artifact[start:end]
    assert (answer.status_code, answer.content) == (206, wanted)
    first = MADE.artifact.index(wanted) if len(wanted) > 10 else (start % len(MADE.artifact))
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(wanted) - 1}/{len(MADE.artifact)}"


def test_a_resume_of_another_file_starts_anew(registry: Registry) -> None:
    headers = {"Range": "bytes=100-", "If-Range": '"another"'}
    assert registry.client.get(ARTIFACT, headers=headers).content == MADE.artifact
    headers["If-Range"] = f'"{sha256_hex(MADE.artifact)}"'
    assert registry.client.get(ARTIFACT, headers=headers).content == MADE.artifact[100:]


def test_who_has_the_file_is_told_so(registry: Registry) -> None:
    for path in (ARTIFACT, "/tuf/metadata/timestamp.json", "/tuf/metadata/1.root.json"):
        etag = registry.client.get(path).headers["etag"]
        again = registry.client.get(path, headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        assert registry.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_tells_what_get_would(registry: Registry) -> None:
    for path in (ARTIFACT, "/tuf/metadata/1.root.json"):
        head, got = registry.client.head(path), registry.client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("etag", "cache-control", "content-length", "content-type"):
            assert head.headers[name] == got.headers[name]


def test_versioned_metadata_is_kept_by_caches_and_the_timestamp_is_not(registry: Registry) -> None:
    assert "immutable" in registry.client.get("/tuf/metadata/1.root.json").headers["cache-control"]
    assert registry.client.get("/tuf/metadata/timestamp.json").headers["cache-control"] == "no-cache"


def test_metadata_is_compact(registry: Registry) -> None:
    assert b"\n" not in registry.client.get("/tuf/metadata/timestamp.json").content
    assert len(registry.client.get("/tuf/metadata/timestamp.json").content) < 600


def test_health_and_figures(registry: Registry) -> None:
    assert registry.client.get("/healthz").json() == {"status": "alive"}
    assert registry.client.get("/readyz").json() == {"status": "ready"}
    figures = registry.client.get("/metrics").text
    assert 'squeezeota_requests_total{method="GET",route="/healthz",status="200"} 1.0' in figures
    assert "squeezeota_vehicles 0.0" in figures
    assert 'squeezeota_deltas{state="wanted"} 2.0' in figures
    assert 'squeezeota_metadata_expires_seconds{role="timestamp"}' in figures
