"""Owns what an instruction of the registry means for the update under way. Level, not edge: it says what should run."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from edge_client.journal import Refusal, Saved
from edge_client.machine import Outcome, admits
from edge_client.parts import Parts
from edge_client.result import Result
from edge_client.trust import Hint
from edge_client.update import Update
from ota_protocol.errors import MalformedError
from ota_protocol.wire import Assignment, EventKind, Instruction

REMINDERS: Final = 5
"""How often a release that cannot run here is reported in all; a registry gives up on a vehicle after fewer."""


def hint_of(instruction: Instruction) -> Hint:
    """Return what an instruction says about the metadata.

    Raises:
        MalformedError: the timestamp is not base64.
    """
    text = instruction.timestamp_base64
    try:
        timestamp = base64.b64decode(text, validate=True) if text is not None else None
    except (binascii.Error, ValueError) as error:
        raise MalformedError("the timestamp in the instruction is not base64") from error
    return Hint(timestamp, instruction.root_version)


def consider(parts: Parts, saved: Saved, instruction: Instruction) -> Result | None:
    """Return the outcome that an instruction has in the present state; None where nothing changes.

    A release on trial, or on its way back, is brought to its end first: that is short, and the next check-in asks
    again.
    """
    assignment = instruction.assignment
    if assignment is None or _runs(parts, assignment):
        return _withdraw(saved)
    refusal = parts.journal.refusal(_update(parts, assignment).release_key)
    if refusal is not None and refusal.holds(parts.clock()):
        _remind(parts, assignment, refusal)
        return _withdraw(saved)
    if saved.update is not None and saved.update.assignment == assignment:
        return None
    if not admits(saved.state, Outcome.ASSIGNED):
        return None
    return _assign(parts, saved, assignment)


def _runs(parts: Parts, assignment: Assignment) -> bool:
    active = parts.slots.active
    if active is None or parts.slots.pointer.trial is not None:
        return False
    wanted = (assignment.release, assignment.artifact.file.digest, assignment.manifest.file.digest)
    return (active.release.release, active.release.artifact, active.release.manifest) == wanted


def _remind(parts: Parts, assignment: Assignment, refusal: Refusal) -> None:
    """Say a few times more that this release will not run here, so that no rollout waits for it for ever."""
    if refusal.until_s is None and refusal.times < REMINDERS:
        event = parts.event(EventKind.FAILED, _update(parts, assignment), "it failed on this vehicle before")
        parts.journal.append([event], refusal=refusal)


def _withdraw(saved: Saved) -> Result | None:
    if saved.update is None or not admits(saved.state, Outcome.WITHDRAWN):
        return None
    return Result(Outcome.WITHDRAWN, saved.update)


def _assign(parts: Parts, saved: Saved, assignment: Assignment) -> Result:
    fresh = _update(parts, assignment)
    if saved.update is not None and saved.update.release_key == fresh.release_key:
        # The same release with other candidates: what was fetched and counted stays.
        return Result(Outcome.ASSIGNED, saved.update.model_copy(update={"assignment": assignment}))
    event = parts.event(EventKind.ASSIGNED, fresh)
    return Result(Outcome.ASSIGNED, fresh, (event,))


def _update(parts: Parts, assignment: Assignment) -> Update:
    return Update(assignment=assignment, began_s=parts.clock(), bytes_at_start=parts.ledger.count().total_bytes)
