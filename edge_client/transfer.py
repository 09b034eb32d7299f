"""Owns the step `downloading`: which files are missing, which way they come, and how much of them to ask for now."""

from __future__ import annotations

import time
from typing import Final

from edge_client.disk import file_digest
from edge_client.machine import Outcome, State
from edge_client.parts import Parts, Work
from edge_client.policy import choose, may_download
from edge_client.result import Result, earned, failed, files_of, given_up, once, other_way, pause_s
from edge_client.runtime import require_opset
from edge_client.trust import TrustedFile, TrustedTargets
from edge_client.update import VIA, Update
from ota_protocol.errors import PeerError, SelfTestError
from ota_protocol.manifest import ModelManifest
from ota_protocol.wire import Candidate, Event, EventKind

FIRST_PART_BYTES: Final = 1 << 20
MIN_PART_BYTES: Final = 64 << 10
MAX_PART_BYTES: Final = 8 << 20


def download(parts: Parts, work: Work, update: Update) -> Result:
    """`downloading`: fetch one part of what is missing, as much as link and budget allow."""
    trusted, targets = earned(work)
    candidate: Candidate | None = None
    try:
        for wanted, offer in files_of(trusted, update):
            if not _is_here(parts, wanted):
                candidate = choose(offer, parts.slots.held(), update.rejected, parts.downloads.files.here_bytes)
                if wanted is trusted.artifact:
                    update = update.model_copy(update={"via": VIA[candidate.kind]})
                missing = _missing(parts, targets, wanted, candidate)
                if missing:
                    return _fetch(parts, work, update, missing, wanted)
            if wanted is trusted.manifest:
                _check_opset(parts, wanted, candidate)
    except SelfTestError as error:
        return Result(Outcome.REFUSED, given_up(update, error, permanent=True))
    except PeerError as error:
        return other_way(update, candidate, error)
    event, update = once(parts, update, EventKind.DOWNLOADED)
    return Result(Outcome.DONE, update, event)


def _missing(parts: Parts, targets: TrustedTargets, wanted: TrustedFile, candidate: Candidate) -> list[TrustedFile]:
    """Return the files of a candidate that are not here yet, as signed metadata describes them."""
    files = [
        wanted if transfer.target == wanted.target else targets.transfer(transfer) for transfer in candidate.transfers
    ]
    return [file for file in files if not parts.downloads.files.is_complete(file.digest)]


def _fetch(parts: Parts, work: Work, update: Update, missing: list[TrustedFile], wanted: TrustedFile) -> Result:
    left = sum(parts.downloads.remaining_bytes(file) for file in missing)
    decision = may_download(parts.link, parts.ledger.count(), left, parts.clock())
    if decision.verdict == "wait":
        parts.downloads.interrupt()
        event, update = once(parts, update, EventKind.WAITING, decision.reason)
        return Result(Outcome.WAIT, update, event, pause_s=pause_s(parts, decision))
    # A delta needs room for itself and for what it yields.
    parts.downloads.files.require_room(left + (wanted.length_bytes if missing[0] is not wanted else 0))
    began = time.monotonic()
    part = parts.downloads.fetch(missing[0], min(decision.allowed_bytes, _part_bytes(parts, work)))
    seconds = time.monotonic() - began
    if part.received_bytes >= MIN_PART_BYTES and seconds > 0:
        work.bytes_per_s = part.received_bytes / seconds
    update = update.model_copy(
        update={
            "payload_bytes": update.payload_bytes + part.received_bytes,
            "resumed": update.resumed + part.resumed,
            "attempts": 0 if part.received_bytes else update.attempts,
        }
    )
    if part.failure is not None:
        return failed(parts, State.DOWNLOADING, update, part.failure)
    events: tuple[Event, ...] = ()
    if part.resumed:
        events, update = once(parts, update, EventKind.RESUMED)
    return Result(Outcome.AGAIN, update, events)


def _part_bytes(parts: Parts, work: Work) -> int:
    """Return how much to ask for at once: what takes about as long as a check-in may wait."""
    speed = parts.settings.rate_bytes_per_s or work.bytes_per_s
    if not speed:
        return FIRST_PART_BYTES
    return max(MIN_PART_BYTES, min(MAX_PART_BYTES, int(speed * work.part_s)))


def _check_opset(parts: Parts, wanted: TrustedFile, candidate: Candidate | None) -> None:
    """Refuse a model that the runtime does not know before the artifact is paid for."""
    if candidate is not None:
        parts.verifier.assemble(wanted, candidate, parts.slots.held())
    require_opset(ModelManifest.from_bytes(parts.downloads.files.path(wanted.digest).read_bytes()), parts.spec)


def _is_here(parts: Parts, wanted: TrustedFile) -> bool:
    """Whether a file need not be fetched: it was before, or a slot holds it (a release may change one of two files)."""
    if parts.downloads.files.is_complete(wanted.digest):
        return True
    held = parts.slots.held().get(wanted.digest)
    if held is None or file_digest(held) != wanted.digest:
        return False
    parts.disk.place(held, parts.downloads.files.path(wanted.digest))
    return True
