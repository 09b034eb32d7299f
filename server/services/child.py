"""Owns how a bounded child process is run: its limits, its time, its answer, its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ota_protocol.errors import StorageError
from server.domain.refusals import CheckFailedError

PASSED_ON = ("PATH", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""Variables that a child sees; no token, no database password."""

MAX_ANSWER_BYTES = 1 << 20


def run_child(module: str, arguments: Sequence[str], *, timeout_s: float, what: str) -> dict[str, Any]:
    """Run ``python -m module arguments`` to its end and return the JSON object that it writes.

    Raises:
        CheckFailedError: the child refused, crashed on its input, or took too long or too much.
        StorageError: it could not be started.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603 our own module, our own arguments
            command, env=environment | threads, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CheckFailedError(f"{what} took more than {timeout_s:g} s", remedy="make the model smaller") from error
    except OSError as error:
        raise StorageError(f"cannot start a process: {error}", remedy="see the limits of the host") from error
    if done.returncode != 0 or len(done.stdout) > MAX_ANSWER_BYTES:
        raise CheckFailedError(f"{what} ended {_ending(done)}", remedy="check the file on your own machine")
    return _answer(done.stdout)


def _answer(stdout: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(stdout)
    if "refused" in answer:
        raise CheckFailedError(str(answer["refused"]), remedy=str(answer.get("remedy", "")))
    return answer


def _ending(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"by signal {-done.returncode}: it crashed, or went beyond its memory or CPU limit"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return f"with {lines[-1][:300] if lines else f'code {done.returncode}'}"
