"""The conversation with the registry: bounded answers, clear refusals, and no secret in any of them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from edge_client.registry import MAX_ANSWER_BYTES, Registry, make_client
from ota_protocol.errors import MalformedError, OtaError, RefusedError, TransportError
from ota_protocol.manifest import RuntimeSpec, VehicleManifest
from ota_protocol.wire import MAX_CHECK_IN_BYTES, MAX_EVENTS, CheckIn, Event, EventKind, Instruction

VEHICLE = VehicleManifest(
    vehicle="car-1", agent="0", runtime=RuntimeSpec(onnxruntime="1", max_opset=20, machine="x86_64")
)
TOKEN = "very-secret"


def registry(status: int, body: bytes, seen: list[httpx.Request] | None = None) -> Registry:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, stream=httpx.ByteStream(body))

    return Registry(make_client(httpx.MockTransport(answer), "http://registry.test/sub", 1.0), TOKEN)


def event(detail: str = "") -> Event:
    return Event(id=uuid.uuid4(), kind=EventKind.BYTES, at=datetime.now(UTC), detail=detail)


def test_check_in_sends_little_and_reads_the_instruction() -> None:
    seen: list[httpx.Request] = []
    told = Instruction(check_in_after_s=5, root_version=1)
    assert registry(200, told.model_dump_json().encode(), seen).check_in(VEHICLE, ()) == told
    (request,) = seen
    assert request.url.path == "/sub/api/v1/check-in"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert sum(len(name) + len(value) + 4 for name, value in request.headers.items()) < 300
    assert CheckIn.model_validate_json(request.content).vehicle == VEHICLE


def test_page_of_events_stays_within_what_the_registry_takes() -> None:
    seen: list[httpx.Request] = []
    told = Instruction(check_in_after_s=5, root_version=1).model_dump_json().encode()
    long = tuple(event("é" * 512) for _ in range(MAX_EVENTS * 2))
    registry(200, told, seen).check_in(VEHICLE, long)
    sent = CheckIn.model_validate_json(seen[0].content).events
    assert len(seen[0].content) <= MAX_CHECK_IN_BYTES
    assert 0 < len(sent) <= MAX_EVENTS
    assert sent == long[: len(sent)]


def test_registry_may_say_more_than_this_vehicle_knows() -> None:
    told = {"check_in_after_s": 5, "root_version": 1, "weather": "rain", "assignment": assignment() | {"priority": 3}}
    found = registry(200, json.dumps(told).encode()).check_in(VEHICLE, ())
    assert found.assignment is not None
    assert found.assignment.release == "1.0.0"


def assignment() -> dict[str, Any]:
    transfer = {"target": "m", "digest": "a" * 64, "length_bytes": 9, "result": "a" * 64, "mirror": "x"}
    file = {"digest": "a" * 64, "length_bytes": 9}
    offer = {"target": "m", "file": file, "candidates": [{"kind": "raw", "transfers": [transfer]}]}
    return {
        "rollout": "first",
        "model": "tiny",
        "release": "1.0.0",
        "release_counter": 1,
        "artifact": offer,
        "manifest": offer,
    }


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"check_in_after_s": -1, "root_version": 1}', b"\xff", b"{}"])
def test_answer_that_does_not_parse(body: bytes) -> None:
    with pytest.raises(MalformedError, match="instruction is malformed"):
        registry(200, body).check_in(VEHICLE, ())


def test_endless_answer_is_cut_off() -> None:
    with pytest.raises(MalformedError, match="longer"):
        registry(200, b" " * (MAX_ANSWER_BYTES + 1)).check_in(VEHICLE, ())


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, RefusedError), (403, RefusedError), (404, RefusedError), (302, RefusedError), (422, RefusedError)]
    + [(status, TransportError) for status in (408, 429, 500, 502, 503, 504)],
)
def test_refusals_say_what_to_do_and_no_secret(status: int, kind: type[OtaError]) -> None:
    problem = b'{"title": "no", "status": 401, "detail": "token unknown", "remedy": "enrol it"}'
    with pytest.raises(kind) as caught:
        registry(status, problem).check_in(VEHICLE, ())
    assert "token unknown" in str(caught.value)
    assert "enrol it" in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"title": 5}'])
def test_refusal_without_a_problem_body(body: bytes) -> None:
    with pytest.raises(RefusedError, match="401") as caught:
        registry(401, body).check_in(VEHICLE, ())
    assert caught.value.status == 401
    assert caught.value.remedy


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("junk")]
)
def test_dead_link(error: httpx.HTTPError) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    dead = Registry(make_client(httpx.MockTransport(fail), "http://registry.test", 1.0), TOKEN)
    with pytest.raises(TransportError, match="check the link"):
        dead.check_in(VEHICLE, ())
