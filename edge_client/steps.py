"""Owns what is done in each state of an update: one bounded step that may be run again after any interruption.

A step takes the parts, the work in memory and the update, and returns what it found. It changes no state: `agent`
looks that up in the table of `machine`. Failures of the link and of our own disk pass through; those of the other
side are judged here, since what they mean depends on the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from edge_client.disk import file_digest
from edge_client.journal import Refusal
from edge_client.machine import Outcome, State
from edge_client.parts import Parts, Work
from edge_client.policy import Decision, choose, may_check_in, may_download
from edge_client.runtime import LoadedModel, load, require_opset
from edge_client.slots import Slot
from edge_client.trust import TrustedFile, TrustedRelease, TrustedTargets
from edge_client.update import VIA, Update, UpdateRecord
from ota_protocol.errors import MalformedError, PeerError, SelfTestError, TrustError
from ota_protocol.manifest import ModelManifest
from ota_protocol.wire import Candidate, Event, EventKind, FileOffer

PEER_ATTEMPTS: Final = 4
"""How often the raw file is tried when the registry gives wrong bytes or none: it may be in the middle of a repair."""
FIRST_PART_BYTES: Final = 1 << 20
MIN_PART_BYTES: Final = 64 << 10
MAX_PART_BYTES: Final = 8 << 20
TRIAL_PAUSE_S: Final = 0.1
WAIT_PAUSE_S: Final = 60.0
"""How long to wait where the policy names no time."""
COOLDOWN_FIRST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a step found."""

    outcome: Outcome
    update: Update
    events: tuple[Event, ...] = ()
    pause_s: float = 0.0
    """How long to wait before the same step is run again."""
    backoff: bool = False
    """Whether a growing pause is due instead, because the other side failed."""
    record: UpdateRecord | None = None
    refusal: Refusal | None = None


Step = Callable[[Parts, Work, Update], Result]


# ── trust ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def refresh(parts: Parts, work: Work, update: Update) -> Result:
    """`assigned`: bring the metadata up to date and find the release in it as signed."""
    if work.hint is None:
        return Result(Outcome.AGAIN, update, pause_s=1.0)
    decision = may_check_in(parts.link, parts.ledger.count(), parts.clock())
    if decision.verdict == "wait":
        return Result(Outcome.AGAIN, update, pause_s=_pause(parts, decision))
    highest = parts.slots.highest_confirmed(update.assignment.model)
    try:
        work.targets = parts.trust.refresh(work.hint)
        work.trusted = work.targets.release(update.assignment, highest)
    except PeerError as error:
        return Result(Outcome.REFUSED, _given_up(update, error, permanent=False))
    return Result(Outcome.DONE, update)


# ── download ────────────────────────────────────────────────────────────────────────────────────────────────────────


def download(parts: Parts, work: Work, update: Update) -> Result:
    """`downloading`: fetch one part of what is missing, as much as link and budget allow."""
    trusted, targets = _earned(work)
    candidate: Candidate | None = None
    try:
        for wanted, offer in _files(trusted, update):
            if not _is_here(parts, wanted):
                candidate = choose(offer, parts.slots.held(), update.rejected)
                if wanted is trusted.artifact:
                    update = update.model_copy(update={"via": VIA[candidate.kind]})
                missing = _missing(parts, targets, wanted, candidate)
                if missing:
                    return _fetch(parts, work, update, missing, wanted)
            if wanted is trusted.manifest:
                _check_opset(parts, wanted, candidate)
    except SelfTestError as error:
        return Result(Outcome.REFUSED, _given_up(update, error, permanent=True))
    except PeerError as error:
        return _other_way(update, candidate, error)
    event, update = _once(parts, update, EventKind.DOWNLOADED)
    return Result(Outcome.DONE, update, event)


def _files(trusted: TrustedRelease, update: Update) -> Iterator[tuple[TrustedFile, FileOffer]]:
    """Yield the manifest first: it is small, and may tell that the artifact is not worth its bytes."""
    yield trusted.manifest, update.assignment.manifest
    yield trusted.artifact, update.assignment.artifact


def _missing(parts: Parts, targets: TrustedTargets, wanted: TrustedFile, candidate: Candidate) -> list[TrustedFile]:
    """Return the files of a candidate that are not here yet, as signed metadata describes them."""
    files = [
        wanted if transfer.target == wanted.target else targets.transfer(transfer) for transfer in candidate.transfers
    ]
    return [file for file in files if not parts.downloads.is_complete(file.digest)]


def _fetch(parts: Parts, work: Work, update: Update, missing: list[TrustedFile], wanted: TrustedFile) -> Result:
    left = sum(parts.downloads.remaining_bytes(file) for file in missing)
    decision = may_download(parts.link, parts.ledger.count(), left, parts.clock())
    if decision.verdict == "wait":
        parts.downloads.interrupt()
        event, update = _once(parts, update, EventKind.WAITING, decision.reason)
        return Result(Outcome.WAIT, update, event, pause_s=_pause(parts, decision))
    # A delta needs room for itself and for what it yields.
    parts.downloads.require_room(left + (wanted.length_bytes if missing[0] is not wanted else 0))
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
    events: tuple[Event, ...] = ()
    if part.resumed:
        events, update = _once(parts, update, EventKind.RESUMED)
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
    require_opset(ModelManifest.from_bytes(parts.downloads.path(wanted.digest).read_bytes()), parts.spec)


def _is_here(parts: Parts, wanted: TrustedFile) -> bool:
    """Whether a file need not be fetched: it was before, or a slot holds it (a release may change one of two files)."""
    if parts.downloads.is_complete(wanted.digest):
        return True
    held = parts.slots.held().get(wanted.digest)
    if held is None or file_digest(held) != wanted.digest:
        return False
    parts.disk.place(held, parts.downloads.path(wanted.digest))
    return True


# ── wait, verify, stage ─────────────────────────────────────────────────────────────────────────────────────────────


def wait(parts: Parts, _work: Work, update: Update) -> Result:
    """`waiting`: ask the policy again."""
    decision = may_download(parts.link, parts.ledger.count(), 1, parts.clock())
    if decision.verdict == "wait":
        return Result(Outcome.WAIT, update, pause_s=_pause(parts, decision))
    return Result(Outcome.DONE, update)


def verify(parts: Parts, work: Work, update: Update) -> Result:
    """`verifying`: apply deltas, and compare all with what was signed."""
    trusted, _ = _earned(work)
    held = parts.slots.held()
    candidate: Candidate | None = None
    try:
        for wanted, offer in _files(trusted, update):
            if not parts.downloads.is_complete(wanted.digest):
                candidate = choose(offer, held, update.rejected)
                parts.verifier.assemble(wanted, candidate, held)
    except PeerError as error:
        return _other_way(update, candidate, error)
    try:
        work.verified = parts.verifier.release(trusted)
    except (TrustError, MalformedError) as error:
        return Result(Outcome.REFUSED, _given_up(update, error, permanent=True))
    except PeerError as error:
        return _other_way(update, None, error)
    event, update = _once(parts, update, EventKind.VERIFIED)
    return Result(Outcome.DONE, update, event)


def stage(parts: Parts, work: Work, update: Update) -> Result:
    """`staging`: fill the inactive slot and let it prove itself in a process of its own."""
    assert work.verified is not None
    try:
        require_opset(work.verified.manifest, parts.spec)
        slot = parts.slots.stage(work.verified)
        parts.self_test(slot.model_path, slot.manifest_path)
    except SelfTestError as error:
        return Result(Outcome.REFUSED, _given_up(update, error, permanent=True))
    event, update = _once(parts, update, EventKind.STAGED)
    return Result(Outcome.DONE, update, event)


# ── activate, trial, confirm, roll back ─────────────────────────────────────────────────────────────────────────────


def activate(parts: Parts, _work: Work, update: Update) -> Result:
    """`activating`: point at the staged slot, on trial."""
    if not _is_assigned(parts.slots.active, update):
        slot = parts.slots.inactive()
        if slot is None or not _is_assigned(slot, update):
            return Result(Outcome.REFUSED, _given_up(update, SelfTestError("the staged slot is gone"), permanent=False))
        parts.slots.activate(slot, parts.clock())
    event, update = _once(parts, update, EventKind.ACTIVATED)
    return Result(Outcome.DONE, update, event)


def trial(parts: Parts, _work: Work, update: Update) -> Result:
    """`trial`: the new model answers frames; the old one stands by."""
    state = parts.slots.pointer.trial
    try:
        if state is None:
            raise SelfTestError("the slot on trial was damaged")
        _run_on_trial(parts)
        return _judge(parts, update, began_s=state.began_s)
    except SelfTestError as error:
        return Result(Outcome.REFUSED, _given_up(update, error, permanent=True))


def _run_on_trial(parts: Parts) -> None:
    slot = parts.slots.active
    if slot is None:
        raise SelfTestError("the slot on trial was damaged")
    running = parts.inference.model
    if running is None or _identity(running) != (slot.release.artifact, slot.release.release):
        model = load(slot.model_path, slot.manifest_path)
        parts.inference.swap(model, fallback=running, on_trial=True)


def _identity(model: LoadedModel) -> tuple[str, str]:
    return model.manifest.artifact.digest, model.manifest.release


def _judge(parts: Parts, update: Update, began_s: float) -> Result:
    count, settings = parts.inference.trial, parts.settings
    if count.failed:
        raise SelfTestError(f"the model failed in its trial: {count.reason}")
    if count.served >= settings.trial_frames:
        model = parts.inference.model
        assert model is not None
        model.check_golden_sample(model.manifest.golden_samples[0])
        return Result(Outcome.DONE, update)
    if parts.clock() - began_s > settings.trial_timeout_s:
        raise SelfTestError(
            f"only {count.served} of {settings.trial_frames} frames came within {settings.trial_timeout_s:g} s",
            remedy="check the folder of frames",
        )
    return Result(Outcome.AGAIN, update, pause_s=TRIAL_PAUSE_S)


def confirm(parts: Parts, work: Work, update: Update) -> Result:
    """`confirming`: keep the model, and throw away what brought it."""
    parts.slots.confirm()
    if parts.inference.model is not None:
        parts.inference.swap(parts.inference.model)
    parts.downloads.keep_only(set())
    work.forget()
    event = parts.event(EventKind.CONFIRMED, update, figures=parts.figures(update))
    return Result(Outcome.DONE, update, (event,), record=_record(parts, update, "confirmed"))


def roll_back(parts: Parts, _work: Work, update: Update) -> Result:
    """`rolling_back`: return to the slot before, which answers again from the next frame on."""
    parts.slots.roll_back()
    slot = parts.slots.active
    try:
        parts.inference.swap(load(slot.model_path, slot.manifest_path) if slot else None)
    except SelfTestError:
        parts.inference.swap(None)
    event, update = _once(parts, update, EventKind.ROLLED_BACK, update.reason)
    return Result(Outcome.DONE, update, event)


def give_up(parts: Parts, work: Work, update: Update) -> Result:
    """`failed`: remember the release, so that it is not tried again at once, and report."""
    key = update.release_key
    until = None
    if update.permanent:
        parts.downloads.keep_only(set())
    else:
        rest = min(parts.settings.cooldown_s, COOLDOWN_FIRST_S * 2 ** min(parts.journal.times_refused(key), 16))
        until = parts.clock() + rest
    work.forget()
    event = parts.event(EventKind.FAILED, update, update.reason, parts.figures(update))
    result = "rolled_back" if EventKind.ROLLED_BACK in update.reported else "failed"
    return Result(Outcome.DONE, update, (event,), record=_record(parts, update, result), refusal=Refusal(key, until))


STEPS: Final[dict[State, Step]] = {
    State.ASSIGNED: refresh,
    State.DOWNLOADING: download,
    State.WAITING: wait,
    State.VERIFYING: verify,
    State.STAGING: stage,
    State.ACTIVATING: activate,
    State.TRIAL: trial,
    State.CONFIRMING: confirm,
    State.ROLLING_BACK: roll_back,
    State.FAILED: give_up,
}


# ── shared by several steps ─────────────────────────────────────────────────────────────────────────────────────────


def _earned(work: Work) -> tuple[TrustedRelease, TrustedTargets]:
    assert work.trusted is not None
    assert work.targets is not None
    return work.trusted, work.targets


def _other_way(update: Update, candidate: Candidate | None, error: PeerError) -> Result:
    """Try the next candidate; the raw file a few times, since it is the last."""
    if candidate is not None and candidate.kind != "raw":
        rejected = (*update.rejected, candidate.transfers[-1].digest)
        return Result(Outcome.NEXT, update.model_copy(update={"rejected": rejected, "reason": str(error)[:512]}))
    update = update.model_copy(update={"attempts": update.attempts + 1})
    if update.attempts >= PEER_ATTEMPTS:
        return Result(Outcome.REFUSED, _given_up(update, error, permanent=False))
    return Result(Outcome.NEXT, update, backoff=True)


def _given_up(update: Update, error: PeerError, *, permanent: bool) -> Update:
    return update.model_copy(update={"reason": str(error)[:512], "permanent": permanent})


def _once(parts: Parts, update: Update, kind: EventKind, detail: str = "") -> tuple[tuple[Event, ...], Update]:
    """Return an event unless the update reported it before."""
    if kind in update.reported:
        return (), update
    event = parts.event(kind, update, detail, parts.figures(update))
    return (event,), update.model_copy(update={"reported": (*update.reported, kind)})


def _pause(parts: Parts, decision: Decision) -> float:
    if decision.until_s is None:
        return WAIT_PAUSE_S
    return max(0.05, decision.until_s - parts.clock())


def _is_assigned(slot: Slot | None, update: Update) -> bool:
    wanted = update.assignment
    return slot is not None and (slot.release.artifact, slot.release.manifest) == (
        wanted.artifact.file.digest,
        wanted.manifest.file.digest,
    )


def _record(parts: Parts, update: Update, result: str) -> UpdateRecord:
    figures = parts.figures(update)
    return UpdateRecord.model_validate(
        {
            "model": update.assignment.model,
            "release": update.assignment.release,
            "result": result,
            "via": update.via,
            "resumed": update.resumed,
            "payload_bytes": update.payload_bytes,
            "wire_bytes": figures["bytes_wire"],
            "seconds": figures["seconds"],
            "reason": update.reason if result != "confirmed" else "",
        }
    )
