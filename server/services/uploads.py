"""Owns the use case of uploading a blob: streamed to a work file, measured, and kept only if it is what was named."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from pathlib import Path

from ota_protocol.digest import DigestHex
from ota_protocol.errors import DigestMismatchError
from server.domain.refusals import InvalidError, TooLargeError, TooSlowError
from server.services.workspace import Workspace
from server.store.blobs import Blobs, mapped_errors

WRITE_BYTES = 1 << 20
"""Bytes gathered before a thread writes them, so that many small pieces do not mean many threads."""


IDLE_S = 60.0
"""How long an upload may pause; a sender that is gone without a word holds a work file no longer than that."""


class Uploader:
    """Takes blobs in."""

    def __init__(self, blobs: Blobs, workspace: Workspace, max_bytes: int, idle_s: float = IDLE_S) -> None:
        self._blobs = blobs
        self._workspace = workspace
        self._max_bytes = max_bytes
        self._idle_s = idle_s

    async def take(self, digest: DigestHex, chunks: AsyncIterator[bytes]) -> bool:
        """Keep the bytes under their digest; tell whether they are new. Nothing stays of what did not arrive whole.

        Raises:
            TooLargeError: more bytes came than are admitted.
            DigestMismatchError: the bytes are others than were named.
            InvalidError: no byte came at all.
            TooSlowError: the bytes stopped coming.
            StorageError: the disk failed (`DiskFullError`: it is full).
        """
        with self._workspace.place() as place:
            file = place / "upload"
            found = await self._receive(file, chunks)
            if not hmac.compare_digest(found, digest):
                raise DigestMismatchError(
                    f"the uploaded bytes have digest {found[:16]}…, the path says {digest[:16]}…",
                    remedy="send the file again, or correct the path",
                )
            with mapped_errors():
                length = file.stat().st_size
            if await asyncio.to_thread(self._blobs.length_bytes, digest) == length:
                return False
            await asyncio.to_thread(self._blobs.add, digest, file)
        return True

    async def _receive(self, file: Path, chunks: AsyncIterator[bytes]) -> str:
        hasher = hashlib.sha256()
        length = 0
        gathered = bytearray()
        with mapped_errors():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            async for chunk in _flowing(chunks, self._idle_s):
                length += len(chunk)
                if length > self._max_bytes:
                    raise TooLargeError(f"more than {self._max_bytes:,} bytes came", remedy="make the model smaller")
                gathered += chunk
                if len(gathered) >= WRITE_BYTES:
                    hasher.update(gathered)
                    await asyncio.to_thread(_write, descriptor, bytes(gathered))
                    gathered.clear()
            hasher.update(gathered)
            await asyncio.to_thread(_write, descriptor, bytes(gathered))
        finally:
            os.close(descriptor)
        if length == 0:
            raise InvalidError("the upload is empty", remedy="send the file as the body of the request")
        return hasher.hexdigest()


async def _flowing(chunks: AsyncIterator[bytes], idle_s: float) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise TooSlowError(f"no byte came for {idle_s:g} s", remedy="send the file again") from error
        yield chunk


def _write(descriptor: int, data: bytes) -> None:
    with mapped_errors():
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
