"""Owns the loop: check in, run the step of the state, save where it led, wait.

Nothing that goes wrong with the registry, the link or the disk ends the loop: it waits longer each time and keeps the
model that runs. Does not own what a step does (`steps`) nor where it leads (`machine`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from edge_client import VERSION
from edge_client.instruction import consider, hint_of
from edge_client.journal import Saved
from edge_client.machine import RESUME, Outcome, State, next_state
from edge_client.parts import Parts, Work
from edge_client.policy import check_in_interval_s, may_check_in
from edge_client.result import Result, Step, failed
from edge_client.runtime import load
from edge_client.slots import NAMES
from edge_client.steps import STEPS
from edge_client.supervisor import tell_supervisor
from ota_protocol.errors import OtaError, PeerError, StorageError
from ota_protocol.manifest import VehicleManifest
from ota_protocol.wire import MAX_EVENTS, EventKind, Instruction

DEFAULT_CHECK_IN_S: Final = 60.0
JITTER: Final = 0.2
"""Share of the interval that is left to chance, so that a fleet does not arrive in one second."""
FIRST_CHECK_IN_S: Final = 5.0
"""Longest wait before the first one: when the power returns to a depot, its vehicles do not arrive together."""
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
        self._check_in_bytes = 0
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
        tell_supervisor("READY=1")
        while not self._parts.stop.is_set():
            self.turn()
            tell_supervisor(f"WATCHDOG=1\nSTATUS={self._saved.state}")
            self._parts.stop.wait(self._pause_s())
        tell_supervisor("STOPPING=1")

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
        self._check_in_at = time.monotonic() + min(FIRST_CHECK_IN_S, self._interval_s() * JITTER) * parts.jitter()
        _log.info("%s: state %s", parts.vehicle, state)

    def turn(self) -> None:
        """Check in if it is time, then run one step if it is time; end the work on a frame that hangs."""
        self._parts.inference.cancel_after(self._parts.settings.self_test_timeout_s)
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
        before = parts.ledger.count().total_bytes
        try:
            self._report_bytes()
            instruction = parts.registry.check_in(self._manifest(), parts.journal.outbox(MAX_EVENTS))
            self._obey(instruction)
        except OtaError as error:
            self._postpone_check_in(error)
            return
        except Exception as error:
            _log.exception("a fault in the agent")
            self._postpone_check_in(error)
            return
        self._check_in_failures = 0
        self._told_check_in_s = instruction.check_in_after_s
        self._check_in_bytes = parts.ledger.count().total_bytes - before
        self._check_in_at = time.monotonic() + self._interval_s() * (1 - JITTER * parts.jitter())

    def _postpone_check_in(self, error: Exception) -> None:
        self._check_in_failures += 1
        pause = self._backoff_s(self._check_in_failures)
        _log.warning("check-in failed, the next one in %.1f s: %s", pause, error)
        self._check_in_at = time.monotonic() + pause

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

    def _step(self, step: Step) -> None:
        update = self._saved.update
        assert update is not None
        try:
            self._move(step(self._parts, self._work, update))
        except OtaError as error:
            self._fail(error)
        except Exception as error:
            # The last barrier: a fault in this program must not stop the model that runs.
            _log.exception("a fault in the agent")
            self._fail(OtaError(f"a fault in the agent: {error!r}"))

    def _fail(self, error: OtaError) -> None:
        update = self._saved.update
        assert update is not None
        try:
            self._move(failed(self._parts, self._saved.state, update, error))
        except StorageError as worse:
            _log.error("the state cannot be saved: %s", worse)
            self._step_at = time.monotonic() + self._parts.settings.backoff_max_s

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
        pause = self._backoff_s(result.update.attempts + result.update.faults) if result.backoff else result.pause_s
        self._step_at = time.monotonic() + pause
        if state is not old.state:
            _log.info("%s → %s (%s)%s", old.state, state, result.outcome, _because(result))
            self._observe(state)
        if any(event.kind in _URGENT for event in result.events):
            self._reported_bytes = 0
            self._check_in_at = time.monotonic()

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _interval_s(self) -> float:
        wished = self._parts.settings.check_in_s or max(1.0, self._told_check_in_s)
        return check_in_interval_s(self._parts.link, wished, self._check_in_bytes)

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
        for _ in NAMES:
            slot = slots.previous if slots.pointer.trial else slots.active
            if slot is None:
                return
            try:
                self._parts.inference.swap(load(slot.model_path, slot.manifest_path))
                return
            except PeerError as error:
                _log.error("%s was kept and cannot be loaded any more: %s", slot.release.release, error)
                if slots.pointer.trial is None:
                    slots.leave_active()


def _because(result: Result) -> str:
    return f": {result.update.reason}" if result.outcome in (Outcome.REFUSED, Outcome.NEXT) else ""
