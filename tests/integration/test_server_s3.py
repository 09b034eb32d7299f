"""The registry with its blobs on a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from ota_protocol.delta.apply import apply_bytes
from ota_protocol.digest import sha256_hex
from tests.support.onnx_models import manifest_of, onnx_bytes
from tests.support.registry import Build, running_registry
from tests.support.s3 import s3_server

pytestmark = [pytest.mark.slow]


def large_build() -> Build:
    """Return a release whose artifact takes several chunks."""
    artifact = onnx_bytes(classes=1_000)
    return Build("tiny", "1.0.0", artifact, manifest_of(artifact, "tiny", "1.0.0", classes=1_000).to_bytes())


def test_publish_deltas_and_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = large_build()
    digest = sha256_hex(made.artifact)
    with s3_server(tmp_path / "s3", "models") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with running_registry(tmp_path / "registry", blobs_url="s3://models/registry") as registry:
            assert registry.client.get("/readyz").status_code == 200
            assert registry.publish(made, 1).status_code == 201
            assert registry.upload(made.artifact).status_code == 200
            assert registry.queue.run() == ["offered", "offered"]
            path = f"/tuf/targets/{made.folder}/{digest}.model.onnx"
            assert registry.client.get(path).content == made.artifact
            for start, end in ((100, 200), (0, 10), (300_000, 600_001), (len(made.artifact) - 5, len(made.artifact))):
                part = registry.client.get(path, headers={"Range": f"bytes={start}-{end - 1}"})
                assert (part.status_code, part.content) == (206, made.artifact[start:end])
            delta = registry.get("/api/v1/models/tiny/releases/1.0.0").json()["deltas"][0]
            folder, name = delta["target"].rsplit("/", 1)
            fetched = registry.client.get(f"/tuf/targets/{folder}/{delta['digest']}.{name}").content
            assert sha256_hex(apply_bytes(None, fetched)) == delta["result"]
            assert (tmp_path / "s3" / "models" / "registry" / digest[:2] / digest).read_bytes() == made.artifact
            assert not (tmp_path / "registry" / "data" / "blobs").exists()


def test_a_dead_store_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(tmp_path / "s3", "models") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
    with running_registry(tmp_path / "registry", blobs_url="s3://models/registry") as registry:
        answer = registry.client.get("/readyz")
        assert answer.status_code == 503
        assert "blob store" in answer.json()["detail"]
