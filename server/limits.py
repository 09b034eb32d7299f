"""Owns how many bytes a request may have, before anything reads them. Pure ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import re

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ota_protocol.wire import MAX_CHECK_IN_BYTES

DEFAULT_BYTES = 64 << 10
PUBLISH_BYTES = (16 << 20) + (64 << 10)
"""`PublishRelease` with the longest `targets_base64`."""
ROLLOUT_BYTES = 8 << 20
"""`RolloutRequest` with 100,000 vehicles of 64 characters."""

DRAIN_BYTES = 64 << 20
DRAIN_S = 10.0
"""What is read and thrown away of a body that is refused."""

_BLOB = re.compile(r"/api/v1/blobs/")
_RELEASE = re.compile(r"/api/v1/models/[^/]+/releases/")
_ROLLOUT = re.compile(r"/api/v1/rollouts/")


class BodyLimit:
    """Ends a request with 413 as soon as it declares, or sends, more than its path admits."""

    def __init__(self, app: ASGIApp, blob_bytes: int) -> None:
        self._app = app
        self._blob_bytes = blob_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        is_refused = not declared.isdigit() or int(declared) > limit
        await self._app(scope, _refusing(receive, limit) if is_refused else _counting(receive, limit), send)

    def _limit(self, path: str) -> int:
        if _BLOB.match(path):
            return self._blob_bytes
        if _RELEASE.match(path):
            return PUBLISH_BYTES
        if _ROLLOUT.match(path):
            return ROLLOUT_BYTES
        return MAX_CHECK_IN_BYTES if path == "/api/v1/check-in" else DEFAULT_BYTES


def too_large(limit: int) -> HTTPException:
    """Return the refusal of a body above its limit."""
    return HTTPException(413, f"the body has more than {limit:,} bytes", headers={"Connection": "close"})


def _refusing(receive: Receive, limit: int) -> Receive:
    async def refused() -> Message:
        await _drain(receive)
        raise too_large(limit)

    return refused


def _counting(receive: Receive, limit: int) -> Receive:
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            if message.get("more_body", False):
                await _drain(receive)
            raise too_large(limit)
        return message

    return counted


async def _drain(receive: Receive) -> None:
    """Let the client finish, within bounds: an answer to a client that is still sending is lost in a reset."""
    drained, is_more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while is_more and drained <= DRAIN_BYTES:
                message = await receive()
                drained += len(message.get("body", b""))
                is_more = message.get("more_body", False)
