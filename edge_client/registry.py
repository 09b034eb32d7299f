"""Owns the conversation with the registry: enrolment and check-in, over httpx. Answers are bounded, then parsed.

Does not own the transfer of targets (`download`) nor of TUF metadata (`trust`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import httpx
from pydantic import ValidationError

from ota_protocol.digest import sha256_hex
from ota_protocol.errors import MalformedError, OtaError, RefusedError, TransportError
from ota_protocol.manifest import VehicleManifest
from ota_protocol.wire import MAX_CHECK_IN_BYTES, MAX_EVENTS, CheckIn, Enrolment, Event, Instruction, Problem

MAX_ANSWER_BYTES: Final = 256 << 10
"""An instruction with two files, eight candidates each, and every event accepted stays under 64 kB."""

_BUSY: Final = {408, 425, 429, 500, 502, 503, 504}


def make_client(transport: httpx.BaseTransport, base_url: str, timeout_s: float) -> httpx.Client:
    """Return a client that sends few header bytes, follows no redirect and asks for no content coding.

    Content coding is refused because a coded answer can grow without bound, and because a Range counts coded bytes.
    """
    client = httpx.Client(transport=transport, base_url=base_url, timeout=timeout_s, trust_env=False)
    client.headers = httpx.Headers({"accept-encoding": "identity", "user-agent": "ota-agent"})
    return client


@contextlib.contextmanager
def transport_errors(what: str) -> Iterator[None]:
    """Map httpx's errors into the tree.

    Raises:
        TransportError: the link or the server failed.
    """
    try:
        yield
    except httpx.HTTPError as error:
        raise TransportError(
            f"cannot {what}: {error or type(error).__name__}", remedy="check the link and that the registry is running"
        ) from error


def read_bounded(response: httpx.Response, limit_bytes: int, what: str) -> bytes:
    """Return the body of a streamed answer.

    Raises:
        MalformedError: it is longer than `limit_bytes`; no more than one chunk beyond it was read.
    """
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > limit_bytes:
            raise MalformedError(f"{what} is longer than {limit_bytes:,} bytes", remedy="check the registry's address")
    return bytes(body)


def refusal(status: int, body: bytes, what: str) -> OtaError:
    """Return the error that an HTTP status of 400 or above stands for."""
    try:
        problem = Problem.model_validate_json(body)
        text, remedy = problem.detail or problem.title, problem.remedy
    except ValidationError:
        text, remedy = "", ""
    message = f"the registry answered {status} to {what}" + (f": {text[:200]}" if text else "")
    if status in _BUSY:
        return TransportError(message, remedy=remedy or "the agent tries again by itself")
    return RefusedError(message, status=status, remedy=remedy[:200] or _REMEDY.get(status, ""))


_REMEDY: Final = {
    401: "check the token: enrol the vehicle with a valid enrolment token",
    403: "check that the token belongs to this vehicle",
    404: "check the registry's address",
    409: "the name is taken by a vehicle with another token: choose another name or restore its state folder",
}


class Registry:
    """The HTTP side of the registry.

    Args:
        client: made by `make_client`.
        token: the vehicle's token; travels in a header, is never logged.
    """

    def __init__(self, client: httpx.Client, token: str) -> None:
        self._client = client
        self._token = token

    def enrol(self, vehicle: str, enrolment_token: str) -> None:
        """Tell the registry the digest of the vehicle's token. Doing it again changes nothing.

        Raises:
            RefusedError: wrong enrolment token, or the name is taken.
            TransportError: no answer.
        """
        body = Enrolment(token_sha256=sha256_hex(self._token.encode())).model_dump_json()
        self._ask("PUT", f"/api/v1/vehicles/{vehicle}", body.encode(), enrolment_token, "enrol")

    def check_in(self, vehicle: VehicleManifest, events: tuple[Event, ...]) -> Instruction:
        """Report and ask, in one call.

        Raises:
            RefusedError: the token or the vehicle is not known.
            TransportError: no answer.
            MalformedError: the answer does not parse.
        """
        body = _fitting(vehicle, events)
        answer = self._ask("POST", "/api/v1/check-in", body, self._token, "check in")
        try:
            # A registry may be newer than the vehicles it serves: what it says beyond our words is left out.
            return Instruction.model_validate_json(answer, extra="ignore")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise MalformedError(
                f"the instruction is malformed at {where}: {first['msg']}", remedy="update the agent or the registry"
            ) from error

    def _ask(self, method: str, path: str, body: bytes, token: str, what: str) -> bytes:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        with (
            transport_errors(what),
            self._client.stream(method, path, content=body, headers=headers) as response,
        ):
            answer = read_bounded(response, MAX_ANSWER_BYTES, "the answer")
        if response.status_code >= 300:
            raise refusal(response.status_code, answer, what)
        return answer


def _fitting(vehicle: VehicleManifest, events: tuple[Event, ...]) -> bytes:
    """Return the body of a check-in with as many of the oldest events as the registry takes."""
    count = min(len(events), MAX_EVENTS)
    while True:
        body = CheckIn(vehicle=vehicle, events=events[:count]).model_dump_json(exclude_defaults=True).encode()
        if len(body) <= MAX_CHECK_IN_BYTES or count == 0:
            return body
        count //= 2
