"""Owns the sha256 value type by which every artifact, manifest and delta is known."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import StringConstraints

from ota_protocol.errors import DigestMismatchError, MalformedError

_HEX = re.compile(r"[0-9a-f]{64}")

DigestHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A digest in a wire body: 64 lower-case hexadecimal digits."""


def sha256_hex(data: bytes | bytearray | memoryview | Iterable[bytes]) -> DigestHex:
    """Return the sha256 of `data` (bytes, or chunks of bytes) as 64 lower-case hexadecimal digits."""
    hasher = hashlib.sha256()
    for chunk in (data,) if isinstance(data, bytes | bytearray | memoryview) else data:
        hasher.update(chunk)
    return hasher.hexdigest()


def parse_digest(text: str) -> DigestHex:
    """Return `text` if it is a digest.

    Raises:
        MalformedError: it is not 64 lower-case hexadecimal digits.
    """
    if not _HEX.fullmatch(text):
        raise MalformedError(f"{text[:80]!r} is not a sha256 digest", remedy="give 64 lower-case hexadecimal digits")
    return text


def require_digest(data: bytes | bytearray | memoryview, expected: DigestHex, what: str) -> None:
    """Check that `data` is the bytes that were named.

    Raises:
        DigestMismatchError: its sha256 is not `expected`.
    """
    found = sha256_hex(data)
    if not hmac.compare_digest(found, expected):
        raise DigestMismatchError(
            f"{what} has digest {found[:16]}…, expected {expected[:16]}…", remedy="fetch it again from its publisher"
        )
