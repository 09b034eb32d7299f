"""Owns the processes that the demo starts: each in a process group of its own, all recorded, all stopped.

The record (`fleet.json` in the state folder) is written before the demo goes on, so that `ota-demo stop` finds the
processes of a demo that was killed, or was told to leave its fleet running.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ota_protocol.errors import OtaError, RequestError, StorageError

RECORD: Final = "fleet.json"
GRACE_S: Final = 10.0
"""How long a process may take to end after SIGTERM before it is killed."""
_LOG_LINES: Final = 6


@dataclass(frozen=True, slots=True)
class Started:
    """One process of the fleet.

    Args:
        name: what the demo calls it.
        pid: its id, which is the id of its process group too.
        born: when it started, in the system's own words; tells it from a later process of the same id.
        log: where its output goes.
    """

    name: str
    pid: int
    born: str
    log: str


class Fleet:
    """Starts processes, watches them, and stops them all.

    Args:
        state: the demo's folder; logs go to `logs/`, the record to `fleet.json`.
        scripts: folder of the `ota-*` commands.
        grace_s: how long a process may take to end after SIGTERM.
    """

    def __init__(self, state: Path, scripts: Path, grace_s: float = GRACE_S) -> None:
        self._state = state
        self._scripts = scripts
        self._grace_s = grace_s
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: list[Started] = []
        (state / "logs").mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start one process; its output goes to `logs/<name>.log`.

        Args:
            name: unique in the fleet.
            command: program and arguments; a program `ota-*` is taken from the scripts folder.
            env: variables beyond our own.

        Raises:
            OtaError: the program is not there.
        """
        log = self._state / "logs" / f"{name}.log"
        program = _program(self._scripts, command[0])
        with log.open("ab") as out:
            try:
                process = subprocess.Popen(  # noqa: S603  (our own commands, no shell)
                    [program, *command[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,
                )
            except OSError as error:
                raise OtaError(f"{command[0]} does not start: {error}", remedy="run `make install`") from error
        self._running[name] = process
        self._started.append(Started(name, process.pid, _born(process.pid), str(log)))
        _write_record(self._state, self._started)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one process."""
        self._running[name].send_signal(number)

    def require_alive(self) -> None:
        """Check that every process still runs.

        Raises:
            OtaError: one ended by itself; the last lines of its log are in the message.
        """
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                log = self._state / "logs" / f"{name}.log"
                raise OtaError(f"{name} ended with code {code}: {last_lines(log)}", remedy=f"read {log}")

    def stop(self) -> None:
        """Stop every process group, in reverse order of start, and wait until they are gone."""
        stop_started(reversed(self._started), self._grace_s)
        for process in self._running.values():
            process.wait()
        self._running.clear()
        self._started.clear()
        (self._state / RECORD).unlink(missing_ok=True)


def stop_recorded(state: Path) -> list[str]:
    """Stop the fleet that `state` records, and return the names of what still ran.

    Raises:
        RequestError: the record is not one.
    """
    started = read_record(state)
    alive = [entry.name for entry in started if _is_alive(entry)]
    stop_started(reversed(started))
    (state / RECORD).unlink(missing_ok=True)
    return alive


def read_record(state: Path) -> list[Started]:
    """Return the processes that `state` records; none if there is no record.

    Raises:
        RequestError: the record is not one.
    """
    try:
        entries = json.loads((state / RECORD).read_bytes())
        return [Started(**entry) for entry in entries]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise RequestError(
            f"{state / RECORD} is no record of a fleet", remedy="stop its processes by hand, then remove the folder"
        ) from error


def alive_in(state: Path) -> list[str]:
    """Return the names of the recorded processes that still run."""
    return [entry.name for entry in read_record(state) if _is_alive(entry)]


def stop_started(started: Iterable[Started], grace_s: float = GRACE_S) -> None:
    """Send SIGTERM to each group, wait up to `grace_s` seconds for all of them, and kill what is left."""
    groups = [entry for entry in started if _is_alive(entry)]
    for entry in groups:
        _signal_group(entry.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while any(_is_alive(entry) for entry in groups) and time.monotonic() < deadline:
        time.sleep(0.05)
    for entry in groups:  # also where the leader is gone: a child that it left behind is in its group
        _signal_group(entry.pid, signal.SIGKILL)


def last_lines(log: Path) -> str:
    """Return the last lines of a log, as one line of text."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "(no log)"
    return " | ".join(line.strip() for line in lines[-_LOG_LINES:]) or "(empty log)"


def _program(scripts: Path, name: str) -> str:
    return str(scripts / name) if name.startswith("ota-") else name


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _is_alive(entry: Started) -> bool:
    """Whether this very process runs still: the id is taken, by one that was born then, and it is no zombie."""
    try:
        os.kill(entry.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return entry.born != "" and _born(entry.pid) == entry.born


def _born(pid: int) -> str:
    """Return the start time of a process as `/proc` or `ps` puts it; empty for none, and for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return _born_by_ps(pid)
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _born_by_ps(pid: int) -> str:
    """The same where there is no `/proc`."""
    if Path("/proc/self").exists():
        return ""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    with suppress(OSError):
        state, _, start = subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition(" ")  # noqa: S603
        return "" if state.startswith("Z") else start.strip()
    return ""


def _write_record(state: Path, started: Sequence[Started]) -> None:
    """Replace the record as a whole; after a power cut no process of it lives, so it need not be durable."""
    new = state / f"{RECORD}.new"
    try:
        new.write_text(json.dumps([asdict(entry) for entry in started], indent=2))
        new.replace(state / RECORD)
    except OSError as error:
        raise StorageError(f"cannot write {state / RECORD}: {error}", remedy="free disk space") from error
