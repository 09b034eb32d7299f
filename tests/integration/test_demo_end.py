"""However the demo ends, nothing of it goes on running: interrupted, failed, or killed and stopped afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.fleet import RECORD, Started, alive_in, read_record
from demo.one_machine import MARK

OTA_DEMO = str(Path(sys.executable).parent / "ota-demo")
WAIT_S = 60.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that has its registry up and is about to build; killed with its fleet at the end."""
    command = [OTA_DEMO, "run", "--state", str(tmp_path / "state"), "--report", str(tmp_path / "report.json")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        wait_for(lambda: bool(started(tmp_path / "state")) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.wait()
        subprocess.run([OTA_DEMO, "stop", "--state", str(tmp_path / "state")], check=True, capture_output=True)


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def started(state: Path) -> list[Started]:
    return read_record(state)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_its_fleet(demo: subprocess.Popen[str], tmp_path: Path, number: signal.Signals) -> None:
    fleet = started(tmp_path / "state")
    demo.send_signal(number)
    demo.communicate(timeout=WAIT_S)
    assert demo.returncode != 0
    assert fleet
    assert all(not Path(f"/proc/{entry.pid}").exists() for entry in fleet)
    assert not (tmp_path / "state" / RECORD).exists()
    assert not (tmp_path / "report.json").exists()


@pytest.mark.slow
def test_its_own_failure_is_one_line_and_stops_its_fleet(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    [registry] = started(tmp_path / "state")
    subprocess.run(["kill", "-9", str(registry.pid)], check=True)
    output, _ = demo.communicate(timeout=WAIT_S)
    assert demo.returncode not in (0, None)
    assert "ota-demo: " in output
    assert "Traceback" not in output
    assert not (tmp_path / "state" / RECORD).exists()


@pytest.mark.slow
def test_killed_it_leaves_a_fleet_that_stop_finds(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    demo.kill()
    demo.wait()
    assert alive_in(tmp_path / "state") == ["registry"]
    again = subprocess.run(
        [OTA_DEMO, "run", "--state", str(tmp_path / "state")], check=False, capture_output=True, text=True
    )
    assert again.returncode == 2
    assert "a fleet still runs" in again.stderr
    stopped = subprocess.run(
        [OTA_DEMO, "stop", "--state", str(tmp_path / "state")], check=True, capture_output=True, text=True
    )
    assert "stopped registry" in stopped.stdout
    assert alive_in(tmp_path / "state") == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    refused = subprocess.run([OTA_DEMO, "run", "--state", str(tmp_path)], check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "holds something else; give an empty folder as --state" in " ".join(refused.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert not (tmp_path / MARK).exists()
