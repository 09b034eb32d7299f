"""Owns the loop over frames, in a thread of its own: every frame that is taken is answered, also while models change.

A model is swapped by one assignment between two frames. During a trial the model before it stays loaded: a frame on
which the new one fails is answered by the old one, and the failure is counted for the trial.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_client.frames import FrameFolder, read_frame
from edge_client.runtime import LoadedModel, Prediction
from ota_protocol.errors import SelfTestError

KEPT_PREDICTIONS: Final = 8
STOP_S: Final = 2.0
"""A frame that takes longer than this does not hold up the end of the process."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrameCount:
    """Frames since enrolment."""

    served: int = 0
    lost: int = 0
    """Frames that were taken while a model was active and that no model answered."""
    unreadable: int = 0
    """Files in the folder that are no pictures; they are not frames."""


@dataclass(frozen=True, slots=True)
class TrialCount:
    """Frames that the model on trial met."""

    served: int = 0
    failed: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    """Which models answer: one value, replaced in one assignment."""

    model: LoadedModel | None = None
    fallback: LoadedModel | None = None
    on_trial: bool = False


class Inference(threading.Thread):
    """Answers frames until `stop` is set.

    Args:
        frames: where they come from; None runs no inference.
        interval_s: pause between two frames.
        stop: set when the agent is to stop.
        counted: frames of earlier runs.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        frames: FrameFolder | None,
        interval_s: float,
        stop: threading.Event,
        counted: FrameCount,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name="inference", daemon=True)
        self._frames = frames
        self._interval_s = interval_s
        self._stop_event = stop
        self._clock = clock
        self._lock = threading.Lock()
        self._line = _Line()
        self._count = counted
        self._trial = TrialCount()
        self._predictions: deque[Prediction] = deque(maxlen=KEPT_PREDICTIONS)
        self._warned: set[str] = set()
        self._busy: tuple[LoadedModel, float] | None = None

    @property
    def count(self) -> FrameCount:
        """Frames so far."""
        with self._lock:
            return self._count

    @property
    def trial(self) -> TrialCount:
        """Frames of the trial under way."""
        with self._lock:
            return self._trial

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """The last answers, oldest first."""
        with self._lock:
            return tuple(self._predictions)

    @property
    def model(self) -> LoadedModel | None:
        """The model that answers."""
        return self._line.model

    def cancel_after(self, limit_s: float) -> None:
        """End the work on a frame that has taken longer than `limit_s`: its model fails on it."""
        busy = self._busy
        if busy is not None and time.monotonic() - busy[1] > limit_s:
            busy[0].cancel()

    def finish(self) -> None:
        """Wait for the frame that is worked on, but not long, once the stop event is set."""
        if self.is_alive():
            self.join(timeout=STOP_S)
            self.cancel_after(0.0)
            self.join(timeout=STOP_S)

    def swap(self, model: LoadedModel | None, *, fallback: LoadedModel | None = None, on_trial: bool = False) -> None:
        """Let `model` answer from the next frame on; starts the count of a trial anew."""
        with self._lock:
            self._line = _Line(model, fallback, on_trial)
            self._trial = TrialCount()

    def run(self) -> None:
        while self._frames is not None and not self._stop_event.is_set():
            for path in self._frames.paths():
                due = time.monotonic() + self._interval_s
                self._answer(path)
                if self._stop_event.wait(max(0.0, due - time.monotonic())):
                    return
            self._stop_event.wait(1.0)

    def _answer(self, path: Path) -> None:
        line = self._line
        if line.model is None:
            return
        try:
            pixels = read_frame(path, line.model.manifest.preprocessing)
        except Exception as error:
            # A file may break a decoder in ways that no decoder declares.
            self._skip(path, error)
            return
        self._busy = (line.model, time.monotonic())
        try:
            self._record(line, line.model.predict(pixels, path.name))
        except Exception as error:
            # Whatever it is (memory may be short): this thread outlives every frame.
            self._record_failure(line, error)
            self._answer_otherwise(line, path)
        finally:
            self._busy = None

    def _answer_otherwise(self, line: _Line, path: Path) -> None:
        """Answer a frame that the model failed on by the model before it."""
        try:
            if line.fallback is None:
                raise SelfTestError("no other model is loaded")
            pixels = read_frame(path, line.fallback.manifest.preprocessing)
            self._record(_Line(line.fallback), line.fallback.predict(pixels, path.name))
        except Exception as error:
            _log.error("frame %s is lost: %s", path.name, error or type(error).__name__)
            with self._lock:
                self._count = FrameCount(self._count.served, self._count.lost + 1, self._count.unreadable)

    def _record(self, line: _Line, prediction: Prediction) -> None:
        stamped = Prediction(
            prediction.frame,
            prediction.release,
            prediction.class_index,
            prediction.label,
            prediction.probability,
            self._clock(),
        )
        with self._lock:
            self._predictions.append(stamped)
            self._count = FrameCount(self._count.served + 1, self._count.lost, self._count.unreadable)
            if line.on_trial and line is self._line:
                self._trial = TrialCount(self._trial.served + 1, self._trial.failed, self._trial.reason)

    def _record_failure(self, line: _Line, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        _log.error("the model failed: %s", reason)
        with self._lock:
            if line.on_trial and line is self._line:
                self._trial = TrialCount(self._trial.served, self._trial.failed + 1, reason[:300])

    def _skip(self, path: Path, error: Exception) -> None:
        if path.name not in self._warned:
            _log.warning("%s is skipped: %s", path.name, error or type(error).__name__)
            self._warned.add(path.name)
        with self._lock:
            self._count = FrameCount(self._count.served, self._count.lost, self._count.unreadable + 1)
