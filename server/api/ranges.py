"""Owns the Range header (RFC 9110, section 14): one range of bytes; anything else asks for the whole file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.exceptions import HTTPException

_ONE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes [start, end) of a file."""

    start: int
    end: int
    is_part: bool


def parse_range(header: str | None, length_bytes: int) -> Range:
    """Return the range that a header asks for.

    A header that is malformed, or names several ranges, is ignored, as the RFC allows.

    Raises:
        HTTPException: 416, the range begins beyond the file.
    """
    whole = Range(0, length_bytes, is_part=False)
    match = _ONE.fullmatch(header) if header is not None else None
    if match is None or match[1] == match[2] == "":
        return whole
    if match[1] == "":
        start, end = max(0, length_bytes - int(match[2])), length_bytes
    else:
        start, end = int(match[1]), min(length_bytes, int(match[2]) + 1) if match[2] else length_bytes
        if match[2] and int(match[2]) < start:
            return whole
    if start >= length_bytes:
        raise HTTPException(
            416, f"the file has {length_bytes:,} bytes", headers={"Content-Range": f"bytes */{length_bytes}"}
        )
    return Range(start, end, is_part=True)
