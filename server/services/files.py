"""Owns the use case of fetching TUF files: metadata by name, targets by path and digest."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache

from ota_protocol.digest import DigestHex, sha256_hex
from server.domain.refusals import NotFoundError
from server.domain.signed_file import SignedFile
from server.services.catalog import Catalog
from server.store import metadata
from server.store.blobs import Blobs
from server.store.database import Database

_VERSIONED = re.compile(r"([1-9][0-9]{0,8})\.([a-z]{1,16})\.json")
_TARGET = re.compile(r"((?:[A-Za-z0-9._-]+/)*)([0-9a-f]{64})\.([A-Za-z0-9._-]+)")
"""Folder, digest and name of a target under consistent snapshots."""


@dataclass(frozen=True, slots=True)
class MetadataBytes:
    """One metadata file as it is served."""

    body: bytes
    etag: str
    is_immutable: bool


@dataclass(frozen=True, slots=True)
class TargetFile:
    """One target file as it is served."""

    digest: DigestHex
    length_bytes: int


class TargetFiles:
    """Finds what lies under /tuf."""

    def __init__(self, database: Database, blobs: Blobs, catalog: Catalog) -> None:
        self._database = database
        self._blobs = blobs
        self._catalog = catalog
        self._versioned = lru_cache(maxsize=256)(self._read_version)
        self._target = lru_cache(maxsize=4096)(self._read_target)

    def metadata(self, name: str) -> MetadataBytes:
        """Return a metadata file: `timestamp.json`, or `<version>.<role>.json`.

        Raises:
            NotFoundError: there is none of this name.
        """
        if name == "timestamp.json":
            return _bytes_of(self._catalog.view().timestamp, is_immutable=False)
        match = _VERSIONED.fullmatch(name)
        if match is None or match[2] == "timestamp":
            raise NotFoundError(f"there is no metadata file {name[:80]}", remedy="start at timestamp.json")
        return self._versioned(match[2], int(match[1]))

    def target(self, path: str) -> TargetFile:
        """Return the target file of a consistent-snapshot path: `<folder>/<sha256>.<name>`.

        Raises:
            NotFoundError: no metadata ever listed such a file.
        """
        match = _TARGET.fullmatch(path)
        if match is None:
            raise _no_target(path)
        return self._target(match[1] + match[3], match[2])

    async def bytes_of(self, file: TargetFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Return the bytes [start, end) of a target file, chunk by chunk.

        Raises:
            NotFoundError: metadata lists the file, and its blob is gone.
        """
        return await self._blobs.stream(file.digest, start, end)

    def _read_version(self, role: str, version: int) -> MetadataBytes:
        with self._database.read() as session:
            file = metadata.version(session, role, version)
        if file is None:
            raise NotFoundError(f"there is no version {version} of {role}", remedy="start at timestamp.json")
        return _bytes_of(file, is_immutable=True)

    def _read_target(self, path: str, digest: DigestHex) -> TargetFile:
        with self._database.read() as session:
            length_bytes = metadata.target_length(session, path, digest)
        if length_bytes is None:
            raise _no_target(path)
        return TargetFile(digest, length_bytes)


def _bytes_of(file: SignedFile, *, is_immutable: bool) -> MetadataBytes:
    return MetadataBytes(file.body, f'"{sha256_hex(file.body)[:32]}"', is_immutable)


def _no_target(path: str) -> NotFoundError:
    return NotFoundError(f"there is no target {path[:120]}", remedy="take target paths from verified TUF metadata")
