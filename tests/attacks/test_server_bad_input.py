"""Bad input to the registry: each gets a problem that says what to do, and nothing of it stays."""

from __future__ import annotations

import http.client
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from ota_protocol.digest import sha256_hex
from tests.support import onnx_models
from tests.support.registry import Build, Registry, build, event, running_registry

MAX_UPLOAD_BYTES = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def registry(folder: Path) -> Iterator[Registry]:
    with running_registry(folder, max_upload_bytes=MAX_UPLOAD_BYTES) as running:
        assert running.publish(build("1.0.0"), 1).status_code == 201
        yield running


@pytest.fixture(autouse=True)
def nothing_half_written(registry: Registry, folder: Path) -> Iterator[None]:
    before = releases(registry)
    yield
    assert list((folder / "data" / "incoming").iterdir()) == []
    assert releases(registry) == before


def releases(registry: Registry) -> Any:
    return registry.get("/api/v1/models").json()


def problem(answer: httpx.Response, status: int, *said: str) -> dict[str, Any]:
    """Check that an answer is a whole problem, and that it says these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["remedy"]
    assert body["type"].startswith("urn:squeezeota:problem:")
    for word in said:
        assert word in body["detail"] + body["remedy"]
    return body


def broken(artifact: bytes, **of_manifest: Any) -> Build:
    """Return a release of a bad artifact, whose manifest names it all the same."""
    manifest = onnx_models.manifest_of(artifact, "tiny", "2.0.0", **of_manifest).to_bytes()
    return Build("tiny", "2.0.0", artifact, manifest)


# ── uploads ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_digest(registry: Registry, folder: Path) -> None:
    named = sha256_hex(b"what was meant")
    problem(registry.upload(b"something else", named), 400, "digest", "send the file again")
    assert not list((folder / "data" / "blobs").rglob(named))


def test_a_digest_that_is_none(registry: Registry) -> None:
    problem(registry.upload(b"bytes", "not-a-digest"), 400, "digest")


def test_an_empty_upload(registry: Registry) -> None:
    problem(registry.upload(b""), 400, "empty")


def test_an_oversized_upload_that_says_so(registry: Registry, folder: Path) -> None:
    problem(registry.upload(b"x" * (MAX_UPLOAD_BYTES + 1)), 413, "1,048,576")


def test_an_oversized_upload_that_does_not_say_so(registry: Registry, folder: Path) -> None:
    data = b"x" * (MAX_UPLOAD_BYTES + 1)
    chunks = (data[start : start + 65_536] for start in range(0, len(data), 65_536))
    path = f"/api/v1/blobs/{sha256_hex(data)}"
    problem(registry.client.put(path, content=chunks, headers=registry.headers()), 413, "1,048,576")


def test_an_interrupted_upload_leaves_nothing(registry: Registry, folder: Path) -> None:
    data = b"y" * 500_000
    connection = http.client.HTTPConnection(urlsplit(str(registry.client.base_url)).netloc)
    connection.putrequest("PUT", f"/api/v1/blobs/{sha256_hex(data)}")
    for name, value in {**registry.headers(), "Content-Length": str(len(data))}.items():
        connection.putheader(name, value)
    connection.endheaders(data[:100_000])
    connection.close()
    assert registry.upload(b"the next one works").status_code == 201
    assert not list((folder / "data" / "blobs").rglob(sha256_hex(data)))


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("header", [{}, {"Authorization": "Basic b3BlcmF0b3I="}, {"Authorization": "Bearer"}])
def test_a_missing_token(registry: Registry, header: dict[str, str]) -> None:
    answer = registry.client.put(f"/api/v1/blobs/{sha256_hex(b'a')}", content=b"a", headers=header)
    problem(answer, 401, "Authorization: Bearer")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/api/v1/vehicles", "/api/v1/rollouts", "/api/v1/savings", "/api/v1/models"])
def test_a_wrong_token(registry: Registry, path: str) -> None:
    problem(registry.client.get(path, headers={"Authorization": "Bearer wrong"}), 401)


def test_a_token_for_something_else(registry: Registry) -> None:
    problem(registry.client.get("/api/v1/rollouts", headers=registry.headers("enrolment")), 403, "operator.token")
    car = registry.enrol("car-wrong-door")
    problem(registry.client.get("/api/v1/rollouts", headers={"Authorization": f"Bearer {car.token}"}), 403)


def test_a_token_is_never_written_down(registry: Registry, folder: Path) -> None:
    token = registry.headers()["Authorization"].removeprefix("Bearer ")
    with sqlite3.connect(folder / "data" / "registry.sqlite") as connection:
        rows = "\n".join(connection.iterdump())
    assert token not in rows
    assert sha256_hex(token.encode()) in rows


def test_a_large_upload_without_a_good_token_hears_why(registry: Registry) -> None:
    data = b"z" * (MAX_UPLOAD_BYTES - 1)
    path = f"/api/v1/blobs/{sha256_hex(data)}"
    for token, status in (("wrong", 401), (registry.enrol("car-large").token, 403)):
        headers = {"Authorization": f"Bearer {token}"}
        problem(registry.client.put(path, content=data, headers=headers), status)


# ── publishing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_release_whose_files_were_not_uploaded(registry: Registry) -> None:
    made = build("2.0.0", seed=7)
    targets = registry.signed(registry.next_targets(made, 2))
    answer = registry.put("/api/v1/models/tiny/releases/2.0.0", registry.request(made, targets))
    problem(answer, 404, "PUT /api/v1/blobs/")


def test_a_release_that_exists_with_other_bytes(registry: Registry) -> None:
    problem(registry.publish(build("1.0.0", seed=9), 2), 409, "other bytes", "new number")


def test_a_length_that_is_not_the_file(registry: Registry) -> None:
    made = build("2.0.0", seed=8)
    targets = registry.signed(registry.next_targets(made, 2))
    assert registry.upload(made.artifact).status_code == 201
    request = registry.request(made, targets)
    request["artifact"]["length_bytes"] += 1
    problem(registry.put("/api/v1/models/tiny/releases/2.0.0", request), 422, "length")


@pytest.mark.parametrize("cut", [0.0, 0.5, 0.99])
def test_a_truncated_artifact(registry: Registry, cut: float) -> None:
    sound = onnx_models.onnx_bytes(1)
    artifact = sound[: int(len(sound) * cut)] or b"\x00"
    problem(registry.publish(broken(artifact), 2), 422, "export")


@pytest.mark.parametrize(
    ("artifact", "of_manifest", "said"),
    [
        (b"\xff" * 4096, {}, "no ONNX file"),
        (onnx_models.with_broken_graph(onnx_models.onnx_bytes(1)), {}, "check failed"),
        (onnx_models.with_external_data(onnx_models.onnx_bytes(1)), {}, "another file"),
        (onnx_models.with_unknown_domain(onnx_models.onnx_bytes(1)), {}, "example.private"),
        (onnx_models.onnx_bytes(1, opset=13), {}, "at least 17"),
        (onnx_models.onnx_bytes(1, opset=99), {}, "opset 99"),
        (onnx_models.onnx_bytes(1, opset=18), {}, "opset 17, the artifact has 18"),
        (onnx_models.onnx_bytes(1), {"classes": 9}, "output"),
    ],
)
def test_an_artifact_that_fails_a_check(
    registry: Registry, artifact: bytes, of_manifest: dict[str, Any], said: str
) -> None:
    problem(registry.publish(broken(artifact, **of_manifest), 2), 422, said)


def test_a_manifest_that_is_none(registry: Registry) -> None:
    sound = build("2.0.0")
    problem(registry.publish(Build("tiny", "2.0.0", sound.artifact, b'{"format": 1}'), 2), 422, "ota-build export")


def test_a_metric_that_is_no_number(registry: Registry) -> None:
    sound = build("2.0.0")
    manifest = sound.manifest.replace(b'{"top1":0.5}', b'{"top1":NaN}')
    assert manifest != sound.manifest
    problem(registry.publish(Build("tiny", "2.0.0", sound.artifact, manifest), 2), 422, "top1")


def test_a_manifest_of_another_release(registry: Registry) -> None:
    other = build("3.0.0")
    problem(registry.publish(Build("tiny", "2.0.0", other.artifact, other.manifest), 2), 422, "not of tiny 2.0.0")


def test_targets_of_a_version_that_is_taken(registry: Registry) -> None:
    made = build("2.0.0", seed=3)
    metadata = registry.next_targets(made, 2)
    metadata.signed.version -= 1
    problem(registry.publish(made, 2, registry.signed(metadata)), 409, "the next one is", "publish again")


def test_targets_that_skip_a_version(registry: Registry) -> None:
    made = build("2.0.0", seed=3)
    metadata = registry.next_targets(made, 2)
    metadata.signed.version += 1
    problem(registry.publish(made, 2, registry.signed(metadata)), 409, "the next one is")


def test_targets_of_another_key(registry: Registry) -> None:
    made = build("2.0.0", seed=3)
    forged = registry.signed(registry.next_targets(made, 2), "online/deltas.pem")
    problem(registry.publish(made, 2, forged), 422, "targets.pem")


def test_targets_without_a_signature(registry: Registry) -> None:
    made = build("2.0.0", seed=3)
    metadata = registry.next_targets(made, 2)
    metadata.signatures.clear()
    problem(registry.publish(made, 2, metadata.to_bytes()), 422, "not signed")


def test_targets_that_drop_a_release(registry: Registry) -> None:
    made = build("2.0.0", seed=3)
    metadata = registry.next_targets(made, 2)
    del metadata.signed.targets["models/tiny/1.0.0/model.onnx"]
    problem(registry.publish(made, 2, registry.signed(metadata)), 422, "drops or changes")


def test_targets_that_change_a_release(registry: Registry) -> None:
    made = build("2.0.0", seed=3)
    metadata = registry.next_targets(made, 2)
    metadata.signed.targets["models/tiny/1.0.0/model.onnx"].length += 1
    problem(registry.publish(made, 2, registry.signed(metadata)), 422, "drops or changes")


def test_targets_that_take_the_deltas_away(registry: Registry) -> None:
    made = build("2.0.0", seed=3)
    metadata = registry.next_targets(made, 2)
    metadata.signed.delegations = None
    problem(registry.publish(made, 2, registry.signed(metadata)), 422, "delegation")


def test_targets_that_add_something_else(registry: Registry) -> None:
    made, other = build("2.0.0", seed=3), build("9.0.0", seed=4)
    metadata = registry.next_targets(made, 2)
    metadata.signed.targets |= registry.next_targets(other, 2).signed.targets
    problem(registry.publish(made, 2, registry.signed(metadata)), 422, "models/tiny/9.0.0")


def test_targets_signed_for_other_bytes(registry: Registry) -> None:
    made, other = build("2.0.0", seed=3), build("2.0.0", seed=4)
    problem(registry.publish(made, 2, registry.signed(registry.next_targets(other, 2))), 422, "is signed for")


@pytest.mark.parametrize("counter", [0, -1, True, "2", None, (1 << 53) + 1, 1 << 80])
def test_targets_without_a_sound_counter(registry: Registry, counter: Any) -> None:
    made = build("2.0.0", seed=3)
    problem(registry.publish(made, counter), 422, "release_counter")


def test_a_release_counter_that_does_not_grow(registry: Registry) -> None:
    problem(registry.publish(build("2.0.0", seed=3), 1), 422, "does not grow", "release_counter 2")


def test_targets_that_expired(registry: Registry) -> None:
    made = build("2.0.0", seed=3)
    metadata = registry.next_targets(made, 2)
    metadata.signed.expires = registry.clock.now.replace(year=2020, microsecond=0)
    problem(registry.publish(made, 2, registry.signed(metadata)), 422, "expired")


@pytest.mark.parametrize("targets", [b"", b"no json", b"[]", b'{"signed": {"_type": "root"}}', b"{}" * 1000])
def test_targets_that_are_no_metadata(registry: Registry, targets: bytes) -> None:
    problem(registry.publish(build("2.0.0", seed=3), 2, targets), 422, "no TUF targets metadata")


def test_root_metadata_in_place_of_targets(registry: Registry) -> None:
    root = registry.client.get("/tuf/metadata/1.root.json").content
    problem(registry.publish(build("2.0.0", seed=3), 2, root), 422, "it is 'root' metadata")


def test_targets_that_are_not_base64(registry: Registry) -> None:
    made = build("2.0.0", seed=3)
    for data in (made.artifact, made.manifest):
        registry.upload(data)
    request = registry.request(made, b"") | {"targets_base64": "%%%"}
    problem(registry.put("/api/v1/models/tiny/releases/2.0.0", request), 422, "base64")


# ── bodies and paths ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/models/tiny/releases/2.0.0", b"{"),
        ("/api/v1/rollouts/r", b"\xff\xfe"),
        ("/api/v1/vehicles/car", b"[[[[[[[["),
    ],
)
def test_a_body_that_is_no_json(registry: Registry, path: str, body: bytes) -> None:
    headers = registry.headers() | {"content-type": "application/json"}
    problem(registry.client.put(path, content=body, headers=headers), 400, "openapi.json")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/models/tiny/releases/2.0.0", {}),
        ("/api/v1/rollouts/r", {"model": "tiny", "release": "1.0.0", "wave": 1}),
        ("/api/v1/vehicles/car", {"token_sha256": "short"}),
    ],
)
def test_a_body_of_another_shape(registry: Registry, path: str, body: dict[str, Any]) -> None:
    problem(registry.put(path, body), 422, "body")


@pytest.mark.parametrize("name", ["UPPER", "a" * 65, "-a", "a..b", "%2e%2e"])
def test_a_name_that_is_none(registry: Registry, name: str) -> None:
    problem(registry.put(f"/api/v1/vehicles/{name}", {"token_sha256": "a" * 64}), 400)


def test_a_body_above_its_limit(registry: Registry) -> None:
    problem(registry.put("/api/v1/vehicles/car", {"token_sha256": "a" * 70_000}), 413, "65,536")


@pytest.mark.parametrize("path", ["/api/v1/models/none", "/api/v1/models/tiny/releases/7.0.0", "/api/v1/vehicles/none"])
def test_an_unknown_thing(registry: Registry, path: str) -> None:
    problem(registry.get(path), 404)


def test_a_rollout_of_an_unknown_release_or_vehicle(registry: Registry) -> None:
    problem(registry.roll_out(build("7.0.0"), "r"), 404, "no release 7.0.0", "publish it")
    problem(registry.roll_out(build("1.0.0"), "r", ["ghost"]), 404, "ghost", "enrol")


def test_an_unknown_path_and_method(registry: Registry) -> None:
    problem(registry.get("/api/v2/models"), 404, "openapi.json")
    answer = registry.client.delete("/api/v1/models", headers=registry.headers())
    problem(answer, 405, "Allow")
    assert answer.headers["allow"] == "GET"


# ── check-ins ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_check_in_without_a_known_token(registry: Registry) -> None:
    car = registry.enrol("car-1")
    problem(car.post(car.body(), token="unknown"), 401, "ota-agent enrol")


def test_a_check_in_for_another_vehicle(registry: Registry) -> None:
    car, truck = registry.enrol("car-1"), registry.enrol("truck-1")
    problem(car.post(truck.body()), 403, "car-1", "truck-1")


def test_a_check_in_above_its_limit(registry: Registry) -> None:
    car = registry.enrol("car-1")
    events = [event("failed") | {"detail": "x" * 512, "figures": {"pad": "y" * 1024}} for _ in range(64)]
    problem(car.post(car.body(events)), 413, "65,536")


@pytest.mark.parametrize(
    "change",
    [
        {"vehicle": {}},
        {"events": [{"id": "no uuid", "kind": "failed", "at": "2026-11-01T12:00:00Z"}]},
        {"events": [{"id": "0" * 32, "kind": "exploded", "at": "2026-11-01T12:00:00Z"}]},
        {"extra": 1},
    ],
)
def test_a_malformed_check_in(registry: Registry, change: dict[str, Any]) -> None:
    car = registry.enrol("car-1")
    problem(car.post(car.body() | change), 422, "malformed at")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 50_000, b'{"vehicle":' * 5_000])
def test_a_check_in_that_is_no_json(registry: Registry, content: bytes) -> None:
    car = registry.enrol("car-1")
    headers = {"Authorization": f"Bearer {car.token}"}
    problem(registry.client.post("/api/v1/check-in", content=content, headers=headers), 422)


@pytest.mark.parametrize(
    "odd",
    [
        {"detail": "a\0b"},
        {"at": "0001-01-01T00:00:00+14:00"},
        {"at": "9999-12-31T23:59:59-12:00"},
        {"at": "2026-11-01T12:00:00"},
        {"figures": {"sent": 1 << 70, "received": 1}},
        {"figures": {"sent": [[[[[1]]]]], "received": None}},
        {"kind": "bytes", "figures": {"sent": True, "received": 1.5}},
    ],
)
def test_an_odd_event_is_kept_and_harms_nothing(registry: Registry, odd: dict[str, Any]) -> None:
    car = registry.enrol("car-1")
    said = event("waiting") | odd
    assert car.check_in(said)["accepted"] == [said["id"]]
    assert registry.get("/api/v1/savings").status_code == 200
    assert registry.get("/api/v1/vehicles/car-1").status_code == 200


def test_more_events_than_a_check_in_carries(registry: Registry) -> None:
    car = registry.enrol("car-1")
    problem(car.post(car.body([event("waiting") for _ in range(65)])), 422, "events")


def test_enrolling_under_a_taken_name_or_token(registry: Registry) -> None:
    car = registry.enrol("car-1")
    headers = registry.headers("enrolment")
    other = {"token_sha256": sha256_hex(b"another token")}
    problem(registry.client.put("/api/v1/vehicles/car-1", json=other, headers=headers), 409, "another token")
    same = {"token_sha256": sha256_hex(car.token.encode())}
    problem(registry.client.put("/api/v1/vehicles/car-2", json=same, headers=headers), 409, "another vehicle")


# ── TUF files ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path",
    [
        "/tuf/metadata/2.root.json",
        "/tuf/metadata/1.timestamp.json",
        "/tuf/metadata/root.json",
        "/tuf/metadata/..%2f..%2fkeys",
        "/tuf/targets/models/tiny/1.0.0/model.onnx",
        "/tuf/targets/" + "0" * 64 + ".model.onnx",
        "/tuf/targets/../../keys/operator.token",
        "/tuf/targets/%2e%2e/%2e%2e/keys/operator.token",
    ],
)
def test_a_tuf_file_that_is_not_there(registry: Registry, path: str) -> None:
    problem(registry.client.get(path), 404)


def test_an_uploaded_file_is_not_public_before_it_is_published(registry: Registry) -> None:
    data = b"not published"
    assert registry.upload(data).status_code == 201
    problem(registry.client.get(f"/tuf/targets/models/tiny/1.0.0/{sha256_hex(data)}.model.onnx"), 404)


def test_a_range_beyond_the_file(registry: Registry) -> None:
    artifact = build("1.0.0").artifact
    path = f"/tuf/targets/models/tiny/1.0.0/{sha256_hex(artifact)}.model.onnx"
    answer = registry.client.get(path, headers={"Range": f"bytes={len(artifact)}-"})
    problem(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(artifact)}"


def test_a_failure_of_ours_shows_nothing_of_the_inside(registry: Registry, folder: Path) -> None:
    with sqlite3.connect(folder / "data" / "registry.sqlite") as connection:
        connection.execute("ALTER TABLE releases RENAME TO hidden")
    try:
        registry.clock.advance(seconds=1)
        answer = registry.roll_out(build("1.0.0"), "inside")
    finally:
        with sqlite3.connect(folder / "data" / "registry.sqlite") as connection:
            connection.execute("ALTER TABLE hidden RENAME TO releases")
    assert answer.status_code in {500, 503}
    assert "SELECT" not in answer.text
    assert "Traceback" not in answer.text
    assert json.loads(answer.text)["remedy"]
