"""The operator's view of the registry: answers are parsed, refusals carry their remedy, a dead server is told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from demo.registry import Registry, read_token, wait_until
from ota_protocol.errors import MalformedError, OtaError, RefusedError, StorageError, TransportError
from ota_protocol.wire import FleetSavings, Problem, RolloutRequest, Saving

NOTHING = Saving(updates=0, received_bytes=0, sent_bytes=0, saved_bytes={})


def registry(answer: Callable[[httpx.Request], httpx.Response]) -> Registry:
    return Registry("http://registry", "secret", httpx.MockTransport(answer))


def test_a_body_is_sent_with_the_token_and_the_answer_parsed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        assert request.url.path == "/api/v1/rollouts/to-1"
        wanted = RolloutRequest.model_validate_json(request.content)
        body = {"rollout": "to-1", "model": wanted.model, "release": wanted.release, "state": "running"}
        return httpx.Response(201, json={**body, "created_at": "2026-11-23T08:00:00Z"})

    rollout = registry(answer).roll_out("to-1", RolloutRequest(model="squeezenet", release="1.0.0"))
    assert (rollout.release, rollout.state) == ("1.0.0", "running")


def test_a_refusal_carries_what_the_registry_says_to_do() -> None:
    problem = Problem(title="Not found", status=404, detail="no such release", remedy="publish it")
    refuse = registry(lambda _: httpx.Response(404, content=problem.model_dump_json()))
    with pytest.raises(RefusedError, match="no such release; publish it") as caught:
        refuse.release("squeezenet", "9.9.9")
    assert caught.value.status == 404


def test_an_error_without_a_problem_document_is_a_refusal_too() -> None:
    with pytest.raises(RefusedError, match="502"):
        registry(lambda _: httpx.Response(502, text="bad gateway")).vehicles()


def test_another_answer_is_malformed() -> None:
    with pytest.raises(MalformedError, match="/api/v1/savings"):
        registry(lambda _: httpx.Response(200, json={"fleet": 3})).savings()


def test_savings_are_parsed() -> None:
    body = FleetSavings(fleet=NOTHING, vehicles={"wifi": NOTHING})
    assert registry(lambda _: httpx.Response(200, content=body.model_dump_json())).savings() == body


def test_a_dead_registry_is_not_ready_and_a_transport_error() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    assert not registry(refuse).is_ready()
    with pytest.raises(TransportError, match="is the registry running"):
        registry(refuse).vehicles()


def test_a_missing_token_file_names_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="ota-server init"):
        read_token(tmp_path / "operator.token")


def test_waiting_ends_with_what_was_waited_for() -> None:
    with pytest.raises(OtaError, match="the moon: not within 0 s"):
        wait_until(lambda: False, "the moon", timeout_s=0.05, every_s=0.01)
