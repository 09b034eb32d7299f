"""Owns what is done in each state of an update: one bounded step that may be run again after any interruption.

A step takes the parts, the work in memory and the update, and returns what it found. It changes no state: `agent`
looks that up in the table of `machine`. Failures of the link and of our own disk pass through; those of the other
side are judged here, since what they mean depends on the step. The longest step, the download, is in `transfer`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from edge_client.journal import Refusal
from edge_client.machine import Outcome, State
from edge_client.parts import Parts, Work
from edge_client.policy import choose, may_check_in, may_download
from edge_client.result import Result, Step, earned, files_of, given_up, once, other_way, pause_s
from edge_client.runtime import LoadedModel, load, require_opset
from edge_client.slots import Slot
from edge_client.transfer import download
from edge_client.update import Update, UpdateRecord
from ota_protocol.digest import DigestHex
from ota_protocol.errors import MalformedError, PeerError, SelfTestError, TrustError
from ota_protocol.wire import Assignment, Candidate, EventKind

TRIAL_PAUSE_S: Final = 0.1
COOLDOWN_FIRST_S: Final = 60.0


# ── trust ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def refresh(parts: Parts, work: Work, update: Update) -> Result:
    """`assigned`: bring the metadata up to date and find the release in it as signed."""
    if work.hint is None:
        return Result(Outcome.AGAIN, update, pause_s=1.0)
    decision = may_check_in(parts.link, parts.ledger.count(), parts.clock())
    if decision.verdict == "wait":
        return Result(Outcome.AGAIN, update, pause_s=pause_s(parts, decision))
    highest = parts.slots.highest_confirmed(update.assignment.model)
    try:
        work.targets = parts.trust.refresh(work.hint)
        work.trusted = work.targets.release(update.assignment, highest)
    except PeerError as error:
        return Result(Outcome.REFUSED, given_up(update, error, permanent=False))
    parts.downloads.files.keep_only(set(_digests(update.assignment)))
    return Result(Outcome.DONE, update)


def _digests(assignment: Assignment) -> Iterator[DigestHex]:
    """Yield every file that the update may fetch or make."""
    for offer in (assignment.artifact, assignment.manifest):
        yield offer.file.digest
        for candidate in offer.candidates:
            for transfer in candidate.transfers:
                yield from (transfer.digest, transfer.result)


# ── wait, verify, stage ─────────────────────────────────────────────────────────────────────────────────────────────


def wait(parts: Parts, _work: Work, update: Update) -> Result:
    """`waiting`: ask the policy again."""
    decision = may_download(parts.link, parts.ledger.count(), 1, parts.clock())
    if decision.verdict == "wait":
        return Result(Outcome.WAIT, update, pause_s=pause_s(parts, decision))
    return Result(Outcome.DONE, update)


def verify(parts: Parts, work: Work, update: Update) -> Result:
    """`verifying`: apply deltas, and compare all with what was signed."""
    trusted, _ = earned(work)
    held = parts.slots.held()
    candidate: Candidate | None = None
    try:
        for wanted, offer in files_of(trusted, update):
            if not parts.downloads.files.is_complete(wanted.digest):
                candidate = choose(offer, held, update.rejected, parts.downloads.files.here_bytes)
                parts.verifier.assemble(wanted, candidate, held)
    except PeerError as error:
        return other_way(update, candidate, error)
    try:
        work.verified = parts.verifier.release(trusted)
    except (TrustError, MalformedError) as error:
        return Result(Outcome.REFUSED, given_up(update, error, permanent=True))
    except PeerError as error:
        return other_way(update, None, error)
    event, update = once(parts, update, EventKind.VERIFIED)
    return Result(Outcome.DONE, update, event)


def stage(parts: Parts, work: Work, update: Update) -> Result:
    """`staging`: fill the inactive slot and let it prove itself in a process of its own."""
    assert work.verified is not None
    try:
        require_opset(work.verified.manifest, parts.spec)
        slot = parts.slots.stage(work.verified)
        parts.self_test(slot.model_path, slot.manifest_path)
    except SelfTestError as error:
        return Result(Outcome.REFUSED, given_up(update, error, permanent=True))
    event, update = once(parts, update, EventKind.STAGED)
    return Result(Outcome.DONE, update, event)


# ── activate, trial, confirm, roll back ─────────────────────────────────────────────────────────────────────────────


def activate(parts: Parts, _work: Work, update: Update) -> Result:
    """`activating`: point at the staged slot, on trial."""
    if not _is_assigned(parts.slots.active, update):
        slot = parts.slots.inactive()
        if slot is None or not _is_assigned(slot, update):
            return Result(Outcome.REFUSED, given_up(update, SelfTestError("the staged slot is gone"), permanent=False))
        parts.slots.activate(slot)
    event, update = once(parts, update, EventKind.ACTIVATED)
    return Result(Outcome.DONE, update, event)


def trial(parts: Parts, work: Work, update: Update) -> Result:
    """`trial`: the new model answers frames; the old one stands by."""
    try:
        _run_on_trial(parts, work)
        return _judge(parts, update, time.monotonic() - work.trial_began_s)
    except SelfTestError as error:
        return Result(Outcome.REFUSED, given_up(update, error, permanent=True))


def _run_on_trial(parts: Parts, work: Work) -> None:
    slot = parts.slots.active
    if slot is None or parts.slots.pointer.trial is None:
        raise SelfTestError("the slot on trial was damaged")
    running = parts.inference.model
    if running is None or _identity(running) != (slot.release.artifact, slot.release.release):
        model = load(slot.model_path, slot.manifest_path)
        parts.inference.swap(model, fallback=running, on_trial=True)
        work.trial_began_s = time.monotonic()


def _identity(model: LoadedModel) -> tuple[str, str]:
    return model.manifest.artifact.digest, model.manifest.release


def _judge(parts: Parts, update: Update, passed_s: float) -> Result:
    count, settings = parts.inference.trial, parts.settings
    if count.failed:
        raise SelfTestError(f"the model failed in its trial: {count.reason}")
    if count.served >= settings.trial_frames:
        model = parts.inference.model
        assert model is not None
        model.check_golden_sample(model.manifest.golden_samples[0])
        return Result(Outcome.DONE, update)
    if passed_s > settings.trial_timeout_s:
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
    parts.downloads.files.keep_only(set())
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
    event, update = once(parts, update, EventKind.ROLLED_BACK, update.reason)
    return Result(Outcome.DONE, update, event)


def give_up(parts: Parts, work: Work, update: Update) -> Result:
    """`failed`: remember the release, so that it is not tried again at once, and report."""
    key = update.release_key
    until = None
    if update.permanent:
        parts.downloads.files.keep_only(set())
    else:
        before = parts.journal.refusal(key)
        rest = COOLDOWN_FIRST_S * 2 ** min(before.times if before else 0, 16)
        until = parts.clock() + min(parts.settings.cooldown_s, rest)
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
