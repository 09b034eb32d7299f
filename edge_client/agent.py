"""Owns the loop: check in, run the step of the state, save where it led, wait. And the composition root of a vehicle.

Nothing that goes wrong with the registry, the link or the disk ends the loop: it waits longer each time and keeps the
model that runs. Does not own what a step does (`steps`) nor where it leads (`machine`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx

from edge_client import VERSION, steps
from edge_client.disk import Disk, storage_errors
from edge_client.download import Downloader
from edge_client.enrolment import Identity
from edge_client.frames import FrameFolder
from edge_client.inference import Inference
from edge_client.instruction import consider, hint_of
from edge_client.journal import Journal, Saved
from edge_client.ledger import Ledger
from edge_client.machine import RESUME, Outcome, State, admits, next_state
from edge_client.metering import MeteredBackend, MeteredTransport, Pacer
from edge_client.parts import Parts, Work
from edge_client.policy import may_check_in
from edge_client.registry import Registry, make_client
from edge_client.runtime import SelfTest, load, runtime_spec, self_test_in_child
from edge_client.settings import AgentSettings
from edge_client.slots import Slots
from edge_client.status import StatusWriter, read_frame_count
from edge_client.steps import STEPS, Result
from edge_client.trust import Trust
from edge_client.verify import Verifier
from ota_protocol.errors import MalformedError, OtaError, PeerError, RequestError, StorageError
from ota_protocol.manifest import VehicleManifest
from ota_protocol.wire import MAX_EVENTS, EventKind, Instruction

DEFAULT_CHECK_IN_S: Final = 60.0
JITTER: Final = 0.2
"""Share of the interval that is left to chance, so that a fleet does not arrive in one second."""
LONGEST_PAUSE_S: Final = 1.0
REPORT_BYTES: Final = 32 << 10
"""The ledger is reported again after this many bytes."""

_URGENT: Final = {EventKind.CONFIRMED, EventKind.FAILED}
_log = logging.getLogger(__name__)

Observer = Callable[[State], None]


class Agent:
    """The daemon of one vehicle.

    Args:
        parts: made by `compose`.
        observe: called with each state right after it was saved.
    """

    def __init__(self, parts: Parts, observe: Observer | None = None) -> None:
        self._parts = parts
        self._work = Work()
        self._observe = observe or (lambda _: None)
        self._saved = Saved()
        self._check_in_at = 0.0
        self._step_at = 0.0
        self._check_in_failures = 0
        self._told_check_in_s = DEFAULT_CHECK_IN_S
        self._reported_bytes = 0

    @property
    def saved(self) -> Saved:
        """The state and the update under way."""
        return self._saved

    def run(self) -> None:
        """Work until the stop event is set.

        Raises:
            StorageError: the journal cannot be read at the start.
        """
        self.resume()
        self._parts.inference.start()
        while not self._parts.stop.is_set():
            self.turn()
            self._parts.stop.wait(self._pause_s())
        self._parts.inference.join(timeout=5.0)

    def resume(self) -> None:
        """Go on where the last run ended, however it ended."""
        parts = self._parts
        saved = parts.journal.load()
        state = RESUME[saved.state] if saved.update else State.IDLE
        parts.slots.discard_damaged()
        boots = parts.slots.count_boot()
        if state in (State.ACTIVATING, State.TRIAL) and boots > parts.settings.trial_boots and saved.update:
            reason = f"the agent was started {boots} times within the trial"
            saved = Saved(State.ROLLING_BACK, saved.update.model_copy(update={"reason": reason, "permanent": True}))
            state = State.ROLLING_BACK
        elif boots and state not in (State.ACTIVATING, State.TRIAL, State.CONFIRMING, State.ROLLING_BACK):
            _log.warning("a trial without its record is ended; the slot before it is active again")
            parts.slots.roll_back()
        self._saved = replace(saved, state=state, update=None if state is State.IDLE else saved.update)
        self._load_active()
        _log.info("%s: state %s", parts.vehicle, state)

    def turn(self) -> None:
        """Check in if it is time, then run one step if it is time."""
        if time.monotonic() >= self._check_in_at:
            self._check_in()
        if self._saved.update is not None and time.monotonic() >= self._step_at and not self._parts.stop.is_set():
            self._step(STEPS[self._saved.state])

    # ── check-in ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_in(self) -> None:
        parts = self._parts
        decision = may_check_in(parts.link, parts.ledger.count(), parts.clock())
        if decision.verdict == "wait" and decision.until_s is not None:
            self._check_in_at = time.monotonic() + max(0.05, decision.until_s - parts.clock())
            return
        try:
            self._report_bytes()
            instruction = parts.registry.check_in(self._manifest(), parts.journal.outbox(MAX_EVENTS))
            self._obey(instruction)
        except OtaError as error:
            self._check_in_failures += 1
            pause = self._backoff_s(self._check_in_failures)
            _log.warning("check-in failed, the next one in %.1f s: %s", pause, error)
            self._check_in_at = time.monotonic() + pause
            return
        self._check_in_failures = 0
        self._told_check_in_s = instruction.check_in_after_s
        self._check_in_at = time.monotonic() + self._interval_s() * (1 - JITTER * parts.jitter())

    def _obey(self, instruction: Instruction) -> None:
        """Take over what the registry says.

        Raises:
            MalformedError: the timestamp in it is not base64.
        """
        self._parts.journal.drop(instruction.accepted)
        self._work.hint = hint_of(instruction)
        self._work.part_s = min(30.0, self._interval_s())
        found = consider(self._parts, self._saved, instruction)
        if found is not None:
            self._work.forget()
            self._parts.downloads.interrupt()
            self._move(found)

    def _report_bytes(self) -> None:
        count = self._parts.ledger.count()
        if count.total_bytes - self._reported_bytes >= REPORT_BYTES or not self._reported_bytes:
            figures = {"sent": count.sent, "received": count.received, "period_start": count.period_start_s}
            self._parts.journal.append([self._parts.event(EventKind.BYTES, figures=figures)])
            self._reported_bytes = max(1, count.total_bytes)

    def _manifest(self) -> VehicleManifest:
        parts, active = self._parts, self._parts.slots.active
        return VehicleManifest(
            vehicle=parts.vehicle,
            agent=VERSION,
            runtime=parts.spec,
            active=active.release if active else None,
            state=self._saved.state.value,
            bases=tuple(parts.slots.held())[:16],
            link_class=parts.settings.link_class,
        )

    # ── steps ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _step(self, step: steps.Step) -> None:
        update = self._saved.update
        assert update is not None
        try:
            self._move(step(self._parts, self._work, update))
        except OtaError as error:
            try:
                self._move(self._failed(error))
            except StorageError as worse:
                _log.error("the state cannot be saved: %s", worse)
                self._step_at = time.monotonic() + self._parts.settings.backoff_max_s

    def _failed(self, error: OtaError) -> Result:
        """Judge a failure of the link or of our disk: again, later and later, and at last not for a while."""
        update = self._saved.update
        assert update is not None
        if self._parts.stop.is_set():
            return Result(Outcome.AGAIN, update)
        _log.warning("%s: %s", self._saved.state, error)
        attempts = update.attempts + 1
        # What no step has judged is a fault that the table has no row for: it is treated like a broken link.
        reason = {"attempts": attempts, "reason": str(error)[:512], "permanent": False}
        update = update.model_copy(update=reason)
        if attempts >= self._parts.settings.attempts and admits(self._saved.state, Outcome.REFUSED):
            return Result(Outcome.REFUSED, update)
        outcome = Outcome.NEXT if isinstance(error, PeerError) else Outcome.AGAIN
        if not admits(self._saved.state, outcome):
            outcome = Outcome.AGAIN
        return Result(outcome, update, backoff=True)

    def _move(self, result: Result) -> None:
        """Save where an outcome leads, and then be there.

        Raises:
            StorageError: it could not be saved; the state is unchanged.
        """
        old, state = self._saved, next_state(self._saved.state, result.outcome)
        if state is not old.state and result.outcome is Outcome.DONE:
            result = replace(result, update=result.update.model_copy(update={"attempts": 0}))
        saved = Saved(state, None if state is State.IDLE else result.update)
        if saved != old or result.events:
            self._parts.journal.save(saved, events=result.events, record=result.record, refusal=result.refusal)
        self._saved = saved
        pause = self._backoff_s(result.update.attempts) if result.backoff else result.pause_s
        self._step_at = time.monotonic() + pause
        if state is not old.state:
            _log.info("%s → %s (%s)%s", old.state, state, result.outcome, _because(result))
            self._observe(state)
        if any(event.kind in _URGENT for event in result.events):
            self._reported_bytes = 0
            self._check_in_at = time.monotonic()

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _interval_s(self) -> float:
        return self._parts.settings.check_in_s or max(1.0, self._told_check_in_s)

    def _backoff_s(self, failures: int) -> float:
        """Return a pause that doubles with each failure, half of it by chance."""
        settings = self._parts.settings
        longest = min(settings.backoff_max_s, settings.backoff_s * 2.0 ** min(failures - 1, 20))
        return longest * (1 - 0.5 * self._parts.jitter())

    def _pause_s(self) -> float:
        due = self._check_in_at if self._saved.update is None else min(self._check_in_at, self._step_at)
        return min(LONGEST_PAUSE_S, max(0.0, due - time.monotonic()))

    def _load_active(self) -> None:
        """Let the last model that was kept answer frames; one on trial is loaded by its step."""
        slots = self._parts.slots
        slot = slots.previous if slots.pointer.trial else slots.active
        if slot is None:
            return
        try:
            self._parts.inference.swap(load(slot.model_path, slot.manifest_path))
        except (PeerError, MalformedError) as error:
            _log.error("the active model cannot be loaded: %s", error)


def _because(result: Result) -> str:
    return f": {result.update.reason}" if result.outcome in (Outcome.REFUSED, Outcome.NEXT) else ""


@contextmanager
def exclusive(state: Path) -> Iterator[None]:
    """Hold the state folder for one agent.

    Raises:
        RequestError: another agent holds it.
    """
    with storage_errors("lock the state folder"), (state / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RequestError(
                f"another agent runs on {state}", remedy="stop it first, or give this one a folder of its own"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def compose(
    settings: AgentSettings,
    stop: threading.Event,
    *,
    disk: Disk | None = None,
    transport: httpx.BaseTransport | None = None,
    self_test: SelfTest | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Parts]:
    """Build the parts of an agent on its state folder, and close them.

    Args:
        settings: read at the rim.
        stop: set it to end the agent.
        disk, transport, self_test, clock: what a test replaces.

    Raises:
        RequestError: the vehicle is not enrolled, another agent runs, or there is no folder of frames.
        StorageError: the state folder cannot be used.
    """
    disk = disk or Disk()
    state = settings.state
    identity = Identity.read(state)
    frames = FrameFolder(settings.frames) if settings.frames else None
    with exclusive(state):
        ledger = Ledger(state / "ledger", period_s=settings.budget_period_s, clock=clock, disk=disk)
        pacer = Pacer(settings.rate_bytes_per_s, stop.wait)
        moving = transport or MeteredTransport(MeteredBackend(ledger, pacer, stop))
        client = make_client(moving, identity.registry, settings.request_timeout_s)
        downloads = Downloader(client, state / "downloads", disk, stop)
        parts = Parts(
            vehicle=identity.vehicle,
            settings=settings,
            disk=disk,
            journal=Journal(state / "journal.db"),
            slots=Slots(state / "slots", disk),
            ledger=ledger,
            registry=Registry(client, identity.token),
            trust=Trust(state / "metadata", identity.root, client, disk),
            downloads=downloads,
            verifier=Verifier(downloads, disk),
            inference=Inference(frames, settings.frame_interval_s, stop, read_frame_count(state), clock),
            self_test=self_test or self_test_in_child(settings.self_test_timeout_s),
            spec=runtime_spec(),
            stop=stop,
            clock=clock,
        )
        writer = StatusWriter(state, parts.inference, stop)
        writer.start()
        try:
            yield parts
        finally:
            stop.set()
            writer.join(timeout=5.0)
            client.close()
            parts.journal.close()
            ledger.close()
