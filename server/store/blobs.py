"""Owns the files known by digest: on the disk, or in any store that obstore reaches.

A blob appears under its digest whole or not at all. obstore's folder store does not sync what it writes, so in a folder
a blob is written under another name, synced, renamed, and its folders are synced, before anything refers to it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import LocalStore, from_url

from ota_protocol.digest import DigestHex
from ota_protocol.errors import DiskFullError, RequestError, StorageError
from server.domain.refusals import NotFoundError

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ObjectStore

URL_REMEDY = "give a file:, s3:, gs: or az: URL with what the store needs, or none"

CHUNK_BYTES = 256 << 10
"""Bytes handed to the network at a time: few wake-ups, little memory a transfer."""

PART = ".part"
PART_AGE_S = 86_400.0
"""A half-written blob this old has no writer any more, not even in another process on the same folder."""

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room, no quota, or above the largest file that the process may write."""


class Blobs:
    """The blob store. Raises `StorageError` (or `DiskFullError`) when the store itself fails."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        prefix = store.prefix if isinstance(store, LocalStore) else None
        self._folder = Path(prefix) if prefix is not None else None

    @classmethod
    def open(cls, url: str | None, data: Path) -> Blobs:
        """Open the store at `url` (file:, s3:, gs:, az:), or the folder `blobs` in the data folder.

        Raises:
            RequestError: the URL names no store.
            StorageError: the folder cannot be made.
        """
        with mapped_errors():
            if url is None:
                return cls(LocalStore(prefix=data / "blobs", mkdir=True))
            try:
                return cls(from_url(url))
            except (BaseError, ValueError):
                # Neither the text nor the cause is shown: a URL may carry a key.
                raise RequestError("the blobs URL names no store", remedy=URL_REMEDY) from None

    def length_bytes(self, digest: DigestHex) -> int | None:
        """Return the length of a blob, or None if it is not held."""
        with mapped_errors():
            try:
                return int(obstore.head(self._store, _path(digest))["size"])
            except FileNotFoundError:
                return None

    def add(self, digest: DigestHex, file: Path) -> None:
        """Keep a file whose digest was checked; after the return it outlives a power cut."""
        with mapped_errors():
            if self._folder is None:
                obstore.put(self._store, _path(digest), file)
                return
            part = f"{_path(digest)}.{uuid4().hex}{PART}"
            try:
                obstore.put(self._store, part, file)
                sync(self._folder / part)
                obstore.rename(self._store, part, _path(digest))
            except BaseException:
                (self._folder / part).unlink(missing_ok=True)
                raise
            blob = self._folder / _path(digest)
            for place in (blob.parent, self._folder):
                sync(place)

    def sweep(self) -> int:
        """Remove what a crash left half-written in a folder, once it is old; return how many files that were."""
        if self._folder is None:
            return 0
        with mapped_errors():
            found = [file for file in self._folder.rglob("*") if PART in file.name]
            old = [file for file in found if time.time() - file.stat().st_mtime > PART_AGE_S]
            for file in old:
                file.unlink(missing_ok=True)
        return len(old)

    def read(self, digest: DigestHex, *, limit_bytes: int) -> bytes:
        """Return a whole small blob.

        Raises:
            NotFoundError: it is not held.
            StorageError: it is longer than `limit_bytes`.
        """
        with mapped_errors(), _found(digest):
            got = obstore.get(self._store, _path(digest))
            if int(got.meta["size"]) > limit_bytes:
                raise StorageError(f"blob {digest[:16]}… has more than {limit_bytes:,} bytes")
            return bytes(got.bytes())

    def copy_to(self, digest: DigestHex, file: Path) -> None:
        """Write a blob to a local file, chunk by chunk.

        Raises:
            NotFoundError: it is not held.
        """
        with mapped_errors(), _found(digest), file.open("wb") as out:
            for chunk in obstore.get(self._store, _path(digest)).stream(min_chunk_size=CHUNK_BYTES):
                out.write(chunk)

    async def stream(self, digest: DigestHex, start: int, end: int) -> AsyncIterator[bytes]:
        """Return the bytes [start, end) of a blob, chunk by chunk; it is opened before the first is asked for.

        Some stores that speak S3 answer a range with the status of a whole file, which obstore rightly refuses; from
        those the whole file is read, and what was not asked for is left out.

        Raises:
            NotFoundError: it is not held.
        """
        with mapped_errors(), _found(digest):
            try:
                got = await obstore.get_async(self._store, _path(digest), options={"range": (start, end)})
            except GenericError as error:
                if "non-partial" not in str(error):
                    raise
                return _chunks(await obstore.get_async(self._store, _path(digest)), start, end)
        return _chunks(got, 0, end - start)

    def ping(self) -> None:
        """Ask the store for an answer."""
        self.length_bytes("0" * 64)


async def _chunks(got: GetResult, start: int, end: int) -> AsyncIterator[bytes]:
    position = 0
    with mapped_errors():
        async for chunk in got.stream(min_chunk_size=CHUNK_BYTES):
            wanted = bytes(chunk)[max(0, start - position) : max(0, end - position)]
            position += len(chunk)
            if wanted:
                yield wanted
            if position >= end:
                return


def sync(place: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn failures of the disk and of the store into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise _full() from error
        raise StorageError(f"the blob store failed: {error}", remedy="see that its disk is there") from error
    except BaseError as error:
        if "No space left" in str(error) or "File too large" in str(error) or "quota" in str(error).lower():
            raise _full() from error
        raise StorageError(
            f"the blob store failed: {str(error)[:200]}", remedy="see that it runs and can be reached"
        ) from error


@contextmanager
def _found(digest: DigestHex) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"no blob {digest[:16]}… is held", remedy="upload it") from error


def _full() -> DiskFullError:
    return DiskFullError("no room for the file", remedy="free space on the registry's disk, then send it again")


def _path(digest: DigestHex) -> str:
    return f"{digest[:2]}/{digest}"
