"""Every process that the demo starts is recorded and stopped, children included, by whatever way the demo ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from demo.fleet import RECORD, Fleet, alive_in, read_record, stop_recorded
from ota_protocol.errors import OtaError, RequestError

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print(child.pid, flush=True); time.sleep(60)",
]


def fleet_in(state: Path) -> Fleet:
    return Fleet(state, scripts=Path(sys.executable).parent)


def wait_for_log(state: Path, name: str) -> str:
    for _ in range(100):
        if text := (state / "logs" / f"{name}.log").read_text():
            return text
        time.sleep(0.05)
    raise AssertionError(f"{name} said nothing")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_stop_ends_every_process_and_the_record(tmp_path: Path) -> None:
    fleet = fleet_in(tmp_path)
    for name in ("one", "two"):
        fleet.start(name, SLEEPER)
    pids = [entry.pid for entry in read_record(tmp_path)]
    assert all(map(is_running, pids))
    assert alive_in(tmp_path) == ["one", "two"]
    fleet.stop()
    assert not any(map(is_running, pids))
    assert not (tmp_path / RECORD).exists()


def test_stop_ends_children_too(tmp_path: Path) -> None:
    fleet = fleet_in(tmp_path)
    fleet.start("parent", PARENT)
    child = int(wait_for_log(tmp_path, "parent"))
    assert is_running(child)
    fleet.stop()
    for _ in range(50):  # its new parent, the system's first process, reaps it when it gets to it
        if not is_running(child):
            return
        time.sleep(0.05)
    raise AssertionError("the child outlived its group")


def test_a_process_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, scripts=Path(sys.executable).parent, grace_s=0.3)
    fleet.start("stubborn", STUBBORN)
    wait_for_log(tmp_path, "stubborn")
    [entry] = read_record(tmp_path)
    fleet.stop()
    assert not is_running(entry.pid)


def test_a_process_that_ends_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    fleet = fleet_in(tmp_path)
    fleet.start("short", [sys.executable, "-c", "import sys; print('out of luck'); sys.exit(7)"])
    wait_for_log(tmp_path, "short")
    time.sleep(0.2)
    with pytest.raises(OtaError, match=r"short ended with code 7: out of luck; read .*short\.log"):
        fleet.require_alive()
    fleet.stop()


def test_a_missing_command_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OtaError, match="make install"):
        fleet_in(tmp_path).start("none", ["ota-nothing"])


def test_the_record_of_a_killed_demo_stops_its_fleet(tmp_path: Path) -> None:
    fleet = fleet_in(tmp_path)
    fleet.start("left", SLEEPER)
    [entry] = read_record(tmp_path)
    assert stop_recorded(tmp_path) == ["left"]
    os.waitpid(entry.pid, 0)
    assert stop_recorded(tmp_path) == []


def test_a_reused_process_id_is_left_alone(tmp_path: Path) -> None:
    fleet = fleet_in(tmp_path)
    fleet.start("other", SLEEPER)
    record = tmp_path / RECORD
    [entry] = read_record(tmp_path)
    record.write_text(record.read_text().replace(entry.born, "1"))
    assert stop_recorded(tmp_path) == []
    assert is_running(entry.pid)
    fleet.stop()


def test_a_broken_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("[{]")
    with pytest.raises(RequestError, match="by hand"):
        stop_recorded(tmp_path)
