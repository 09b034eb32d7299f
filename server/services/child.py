"""Owns how bounded child processes are run: their time, their answer, their end, and the end of all at a stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from ota_protocol.errors import StorageError
from server.domain.refusals import CheckFailedError

PASSED_ON = ("PATH", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""Variables that a child sees; no token, no database password."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

MAX_ANSWER_BYTES = 1 << 20

MAX_RUNNING = 2
"""One that makes deltas and one that checks a publication; more would take the memory that each is granted."""


class StoppingError(StorageError):
    """The server is stopping, and so is all work that can be done later."""


class Children:
    """The child processes of one server. They end with it, however it ends (`server.children.limits`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._slots = threading.BoundedSemaphore(MAX_RUNNING)
        self._is_stopping = False

    def run(self, module: str, arguments: Sequence[str], *, timeout_s: float, what: str) -> dict[str, Any]:
        """Run ``python -m module arguments`` to its end and return the JSON object that it writes.

        Raises:
            CheckFailedError: the child refused, crashed on its input, or took too long or too much.
            StoppingError: the server is stopping.
            StorageError: it could not be started.
        """
        with self._slots:
            child = self._start([sys.executable, "-m", module, *arguments])
            try:
                stdout, stderr = child.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                child.kill()
                child.communicate()
                remedy = "make the model smaller"
                raise CheckFailedError(f"{what} took more than {timeout_s:g} s", remedy=remedy) from error
            finally:
                with self._lock:
                    self._running.discard(child)
        self._require_running()
        if child.returncode != 0 or len(stdout) > MAX_ANSWER_BYTES:
            ending = _ending(child.returncode, stderr)
            raise CheckFailedError(f"{what} ended {ending}", remedy="check the file on your own machine")
        return _answer(stdout, what)

    def stop(self) -> None:
        """Kill what runs, and start nothing more."""
        with self._lock:
            self._is_stopping = True
            for child in self._running:
                child.kill()

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | ONE_THREAD
        with self._lock:
            self._require_running()
            try:
                child = subprocess.Popen(  # noqa: S603 our own module, our own arguments
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            except OSError as error:
                raise StorageError(f"cannot start a process: {error}", remedy="see the limits of the host") from error
            self._running.add(child)
        return child

    def _require_running(self) -> None:
        if self._is_stopping:
            raise StoppingError("the registry is stopping", remedy="try again when it is back")


def _answer(stdout: bytes, what: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(stdout)
    except ValueError as error:
        raise CheckFailedError(f"{what} gave no answer", remedy="check the file on your own machine") from error
    if "refused" in answer:
        raise CheckFailedError(str(answer["refused"]), remedy=str(answer.get("remedy", "")))
    return answer


def _ending(returncode: int, stderr: bytes) -> str:
    if returncode < 0:
        return f"by signal {-returncode}: it crashed, or went beyond its memory or CPU limit"
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f"with {lines[-1][:300] if lines else f'code {returncode}'}"
