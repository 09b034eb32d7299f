"""Owns talking to a registry as a publisher: requests, bounded answers, errors by blame, and when to try again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
from pydantic import ValidationError

from ota_protocol.digest import DigestHex
from ota_protocol.errors import MalformedError, OtaError, RefusedError, RequestError, TransportError
from ota_protocol.wire import Problem, PublishRelease, Release

MAX_ANSWER_BYTES = 16 << 20
"""Targets metadata of 50,000 releases; nothing that a registry answers a publisher is larger."""
MAX_PROBLEM_BYTES = 64 << 10
ATTEMPTS = 6
"""With the pauses below a registry may be away for some 15 seconds: a restart, not an outage."""
FIRST_PAUSE_S = 0.5
TIMEOUT = httpx.Timeout(30.0, connect=5.0, read=120.0)
"""The read timeout covers the registry's check of a large ONNX file."""
CHUNK_BYTES = 64 << 10
NOT_FOUND, TOO_MANY, SERVER_FAULT = 404, 429, 500

T = TypeVar("T")


class Registry:
    """A registry, by its URL.

    Args:
        url: `http://host:port` or `https://…`.
        token: the operator's.
        transport: how requests travel; None is the network.
        sleep: waits so many seconds.
        on_retry: told what failed, each time that it will be tried again.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        on_retry: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._url, self._sleep, self._on_retry = url, sleep, on_retry
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise RequestError(f"{url[:200]!r} is no URL", remedy="give http://host:port or https://host") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise RequestError(f"{url[:200]!r} is no registry", remedy="give http://host:port or https://host")
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def release(self, model: str, release: str) -> Release | None:
        """Return a release as the registry holds it, or None if it has not been published.

        Raises:
            RefusedError: the registry said no.
            TransportError: it cannot be reached.
        """
        try:
            body = self._answer("GET", f"/api/v1/models/{model}/releases/{release}")
        except RefusedError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return _release(body)

    def put_blob(self, path: Path, digest: DigestHex, progress: Callable[[float], None]) -> None:
        """Upload a file under its digest; one that the registry holds already does no harm.

        Raises:
            RefusedError: the registry said no: other bytes, too large, a wrong token.
            TransportError: it cannot be reached, or the upload broke off each time.
        """
        length = path.stat().st_size
        headers = {"Content-Length": str(length), "Content-Type": "application/octet-stream"}
        self._answer("PUT", f"/api/v1/blobs/{digest}", headers=headers, content=lambda: _chunks(path, length, progress))

    def put_release(self, model: str, release: str, body: PublishRelease) -> Release:
        """Publish a release whose blobs were uploaded.

        Raises:
            RefusedError: the registry said no; 409 also where `targets` is not the next version.
            TransportError: it cannot be reached.
        """
        content = body.model_dump_json().encode()
        path = f"/api/v1/models/{model}/releases/{release}"
        answer = self._answer("PUT", path, headers={"Content-Type": "application/json"}, content=lambda: content)
        return _release(answer)

    def metadata(self, name: str) -> bytes:
        """Return a file of the TUF repository, such as `timestamp.json` or `7.targets.json`.

        Raises:
            RefusedError: there is none of this name.
            TransportError: the registry cannot be reached.
        """
        return self._answer("GET", f"/tuf/metadata/{name}")

    def _answer(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], bytes | Iterator[bytes]] | None = None,
    ) -> bytes:
        return self._persist(lambda: self._once(method, path, headers or {}, content))

    def _persist(self, action: Callable[[], T]) -> T:
        """Try until it works or `ATTEMPTS` are used up; the pauses double, with jitter."""
        for attempt in range(ATTEMPTS - 1):
            try:
                return action()
            except TransportError as error:
                self._on_retry(error.message)
                self._sleep(FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 jitter, no secret
        return action()

    def _once(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: Callable[[], bytes | Iterator[bytes]] | None,
    ) -> bytes:
        body = content() if content is not None else None
        with self._mapped(), self._client.stream(method, path, headers=headers, content=body) as response:
            if response.is_success:
                return _bounded(response, MAX_ANSWER_BYTES)
            raise _refusal(response, self._url)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OtaError:
            raise
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise TransportError(
                f"cannot reach the registry at {self._url}: {str(error) or type(error).__name__}",
                remedy="see that it runs, and publish again: twice does no harm",
            ) from error


def _chunks(path: Path, length: int, progress: Callable[[float], None]) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            sent += len(chunk)
            progress(min(1.0, sent / length))


def _bounded(response: httpx.Response, most: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > most:
            raise MalformedError(f"the registry's answer has more than {most:,} bytes", remedy="check its address")
    return bytes(body)


def _refusal(response: httpx.Response, url: str) -> OtaError:
    """Return the error that an answer means: try later, or no."""
    status = response.status_code
    try:
        problem = Problem.model_validate_json(_bounded(response, MAX_PROBLEM_BYTES))
        text, remedy = problem.detail or problem.title, problem.remedy
    except (ValidationError, MalformedError):
        text, remedy = f"HTTP {status}", "check that the address is that of a registry"
    if status >= SERVER_FAULT or status == TOO_MANY:
        return TransportError(f"the registry at {url} fails: {text[:500]}", remedy=remedy[:500] or "try again later")
    return RefusedError(f"the registry refused: {text[:500]}", status=status, remedy=remedy[:500])


def _release(body: bytes) -> Release:
    try:
        return Release.model_validate_json(body)
    except ValidationError as error:
        raise MalformedError("the registry's answer is no release", remedy="check its address and version") from error
