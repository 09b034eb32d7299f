"""Owns the value that the TUF side makes and the store keeps: one signed version of one metadata file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SignedFile:
    """One signed version of one TUF metadata file."""

    role: str
    version: int
    expires_at: datetime
    body: bytes
