"""Owns the periodic work of a running server: a thread a task, stopped within its period."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ota_protocol.errors import OtaError

log = logging.getLogger(__name__)


class Periodic:
    """Calls one function every so often, in a thread of its own. A failure is logged and tried again."""

    def __init__(self, name: str, work: Callable[[], object], every_s: float) -> None:
        self._work = work
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call comes after one period."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End, and wait for a call that is under way."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._work()
            except OtaError as error:
                log.error("%s: %s", self._thread.name, error)
            except Exception:
                log.exception("%s failed", self._thread.name)
