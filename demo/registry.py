"""Owns the operator's view of the registry: what the demo asks of its HTTP API, and how long it waits for an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from ota_protocol.errors import MalformedError, OtaError, RefusedError, StorageError, TransportError
from ota_protocol.wire import FleetSavings, Problem, Release, Rollout, RolloutRequest, Vehicle

Body = TypeVar("Body")

REQUEST_TIMEOUT_S = 10.0
"""The registry answers on loopback or a container network; ten seconds are a dead server."""


class Registry:
    """The API of one registry, called with the operator's token.

    Args:
        url: its address, without a path.
        token: the operator's token.
        transport: another transport for httpx; tests give one.
    """

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=REQUEST_TIMEOUT_S,
            transport=transport,
            trust_env=False,
        )

    def is_ready(self) -> bool:
        """Whether the registry answers `/readyz`."""
        try:
            return self._client.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def release(self, model: str, release: str) -> Release:
        """Return one release, with the deltas that lead to it so far. Raises as `_call`."""
        return self._call("GET", f"/api/v1/models/{model}/releases/{release}", Release)

    def roll_out(self, rollout: str, request: RolloutRequest) -> Rollout:
        """Create a rollout. Raises as `_call`."""
        return self._call("PUT", f"/api/v1/rollouts/{rollout}", Rollout, request)

    def rollout(self, rollout: str) -> Rollout:
        """Return a rollout and its progress. Raises as `_call`."""
        return self._call("GET", f"/api/v1/rollouts/{rollout}", Rollout)

    def vehicles(self) -> tuple[Vehicle, ...]:
        """Return every enrolled vehicle. Raises as `_call`."""
        return self._call("GET", "/api/v1/vehicles", tuple[Vehicle, ...])

    def savings(self) -> FleetSavings:
        """Return what the fleet saved so far. Raises as `_call`."""
        return self._call("GET", "/api/v1/savings", FleetSavings)

    def _call(self, method: str, path: str, kind: type[Body], body: BaseModel | None = None) -> Body:
        """Send one request and parse its answer.

        Raises:
            TransportError: the registry cannot be reached.
            RefusedError: it answered with an error.
            MalformedError: its answer is not of this kind.
        """
        content = body.model_dump_json() if body else None
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            answer = self._client.request(method, path, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise TransportError(f"{self.url} does not answer: {error}", remedy="is the registry running?") from error
        if answer.is_error:
            raise _refusal(path, answer)
        try:
            return TypeAdapter(kind).validate_json(answer.content)
        except ValidationError as error:
            raise MalformedError(f"{path} answered something else: {error.errors()[0]['msg']}") from error


def read_token(file: Path) -> str:
    """Return the token that a file holds.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return file.read_text().strip()
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror}", remedy="`ota-server init` writes it") from error


def wait_until(done: Callable[[], bool], what: str, *, timeout_s: float, every_s: float = 0.5) -> None:
    """Ask `done` every `every_s` seconds until it is true.

    Raises:
        OtaError: it was not within `timeout_s`. Whatever `done` raises passes through.
    """
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise OtaError(f"{what}: not within {timeout_s:.0f} s", remedy="read the logs of the fleet")
        time.sleep(every_s)


def _refusal(path: str, answer: httpx.Response) -> RefusedError:
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        return RefusedError(f"{path} answered {answer.status_code}", status=answer.status_code)
    return RefusedError(f"{path}: {problem.detail or problem.title}", status=problem.status, remedy=problem.remedy)
