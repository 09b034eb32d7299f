"""Owns the record of one update: what was assigned and how far it came. Saved with the state; frozen."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ota_protocol.digest import DigestHex
from ota_protocol.manifest import Frozen
from ota_protocol.wire import Assignment, EventKind

Via = Literal["full", "delta", "chain", "raw"]

VIA: dict[str, Via] = {"delta": "delta", "chain": "chain", "compressed_full": "full", "raw": "raw"}
"""How a candidate's kind reads in reports."""


class Update(Frozen):
    """One assignment on its way to the active slot."""

    assignment: Assignment
    began_s: float
    """Unix time of the assignment."""
    bytes_at_start: int = 0
    """Ledger total when it was assigned; the difference is what the update cost on the wire."""
    rejected: tuple[DigestHex, ...] = ()
    """Transfers that were tried and found useless; their candidates are not taken again."""
    via: Via | None = None
    resumed: int = 0
    """How often a download went on from saved bytes after a drop, a restart or a wait for the budget."""
    payload_bytes: int = 0
    attempts: int = 0
    """Failures of the link or the disk in a row; reset by progress."""
    faults: int = 0
    """How often the raw file was not there or not what was signed; progress does not reset it, for that was paid."""
    reason: str = Field(default="", max_length=512)
    reported: tuple[EventKind, ...] = ()
    """Events that were put into the outbox already: a step that runs twice reports once."""
    permanent: bool = True
    """Whether a failure lies in the release itself, so that time will not heal it."""

    @property
    def release_key(self) -> str:
        """What a refusal is remembered by: another rollout of the same bytes is a new wish of the operator."""
        return (
            f"{self.assignment.rollout}/{self.assignment.artifact.file.digest}/{self.assignment.manifest.file.digest}"
        )


class UpdateRecord(Frozen):
    """How an update ended."""

    model: str
    release: str
    result: Literal["confirmed", "rolled_back", "failed"]
    via: Via | None = None
    resumed: int = 0
    payload_bytes: int = 0
    wire_bytes: int = 0
    seconds: float = 0.0
    reason: str = ""
