"""Real processes, a real socket, SIGKILL in every state, SIGTERM: after the restart, the same end state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_client.enrolment import enrol
from edge_client.journal import Journal
from edge_client.machine import State
from edge_client.status import report
from ota_protocol.digest import sha256_hex
from ota_protocol.wire import EventKind
from tests.support.model_fake import fine_tuned, make_frames, tiny_release
from tests.support.registry_fake import ENROLMENT_TOKEN, FakeRegistry, Reply, Request, serve

ROOT = Path(__file__).parents[2]
FIRST = tiny_release("1.0.0", 1, hidden=500)
SECOND = fine_tuned(FIRST, "1.1.0", 2)
PACE = ["--check-in-s", "0.2", "--frame-interval-s", "0.01", "--trial-frames", "5", "--backoff-s", "0.1"]

pytestmark = pytest.mark.slow


class Yard:
    """A registry on loopback, and one vehicle's folders."""

    def __init__(self, folder: Path, registry: FakeRegistry, address: str) -> None:
        self.registry = registry
        self.state = folder / "car"
        self.frames = make_frames(folder / "frames")
        self.address = address
        enrol(self.state, address, "car-1", enrolment_token=ENROLMENT_TOKEN, root=registry.repository.pinned_root)

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        command = ["run", "--state", str(self.state), "--frames", str(self.frames), *PACE, *options]
        process = subprocess.Popen([sys.executable, "-m", "edge_client", *command], cwd=ROOT, stderr=subprocess.PIPE)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)

    def run_until_killed(self, when: State, *options: str) -> None:
        where = [str(self.state), str(self.frames), when.value]
        command = [sys.executable, "-m", "tests.support.killed_agent", *where, *options]
        done = subprocess.run(command, cwd=ROOT, timeout=120, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    def saved_state(self) -> State:
        journal = Journal(self.state / "journal.db")
        try:
            return journal.load().state
        finally:
            journal.close()

    def status(self) -> dict[str, Any]:
        return report(self.state)


def agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_client", *arguments]
    return subprocess.run(command, cwd=ROOT, timeout=120, capture_output=True, text=True, check=False)


def wait_for(done: Callable[[], bool], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    registry = FakeRegistry.offering(FIRST)
    with serve(registry) as address:
        yield Yard(tmp_path, registry, address)


GOOD_WAY = [
    State.ASSIGNED,
    State.DOWNLOADING,
    State.VERIFYING,
    State.STAGING,
    State.ACTIVATING,
    State.TRIAL,
    State.CONFIRMING,
    State.IDLE,
]


def test_killed_in_every_state_of_an_update(yard: Yard) -> None:
    for when in GOOD_WAY:
        yard.run_until_killed(when)
        assert yard.saved_state() is when
    with yard.running():
        wait_for(lambda: EventKind.CONFIRMED in yard.registry.kinds())
    status = yard.status()
    assert status["state"] == "idle"
    assert status["active"]["artifact"] == sha256_hex(FIRST.artifact)
    assert [update["result"] for update in status["updates"]] == ["confirmed"]
    assert status["updates"][0]["payload_bytes"] == len(FIRST.artifact) + len(FIRST.manifest)
    assert yard.registry.kinds().count(EventKind.CONFIRMED) == 1
    assert status["frames"]["lost"] == 0


def test_killed_while_waiting(yard: Yard) -> None:
    with yard.running("--link-class", "roaming") as process:
        wait_for(lambda: EventKind.WAITING in yard.registry.kinds())
        process.kill()
        process.wait()
    assert yard.status()["state"] == "waiting"
    with yard.running():
        wait_for(lambda: EventKind.CONFIRMED in yard.registry.kinds())
    assert yard.status()["active"]["release"] == "1.0.0"


def test_killed_on_the_way_back(yard: Yard) -> None:
    with yard.running():
        wait_for(lambda: EventKind.CONFIRMED in yard.registry.kinds())
    yard.registry.publish(SECOND)
    yard.registry.assign("1.1.0", "second")
    for when in (State.ROLLING_BACK, State.FAILED):
        yard.run_until_killed(when, "trial_timeout_s=0.001", "trial_frames=100000")
        assert yard.saved_state() is when
    with yard.running():
        wait_for(lambda: EventKind.FAILED in yard.registry.kinds())
    status = yard.status()
    assert status["state"] == "idle"
    assert status["active"]["release"] == "1.0.0"
    assert [update["result"] for update in status["updates"]] == ["confirmed", "rolled_back"]
    assert yard.registry.kinds().count(EventKind.ROLLED_BACK) == 1


def test_killed_in_the_middle_of_a_download_resumes(yard: Yard) -> None:
    def slowly(each: FakeRegistry, request: Request) -> Reply | None:
        if not request.path.endswith(".onnx") or request.headers["range"] != f"bytes=0-{len(FIRST.artifact) - 1}":
            return None
        reply = each.honest(request)
        reply.chunk_bytes, reply.pause_s = 4096, 0.05
        return reply

    yard.registry.faults.append(slowly)
    part = yard.state / "downloads" / f"{sha256_hex(FIRST.artifact)}.part"
    with yard.running() as process:
        wait_for(lambda: part.exists() and part.stat().st_size >= 8192)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    held = part.stat().st_size
    assert 0 < held < len(FIRST.artifact)
    with yard.running():
        wait_for(lambda: EventKind.CONFIRMED in yard.registry.kinds())
    ranges = [request.headers["range"] for request in yard.registry.requests if request.path.endswith(".onnx")]
    assert ranges[1] == f"bytes={held}-{len(FIRST.artifact) - 1}"
    assert yard.status()["updates"][0]["resumed"] == 1


def test_sigterm_ends_a_slow_download_within_seconds(yard: Yard) -> None:
    def stall(each: FakeRegistry, request: Request) -> Reply | None:
        if not request.path.endswith(".onnx"):
            return None
        reply = each.honest(request)
        reply.chunk_bytes, reply.pause_s = 1000, 3.0
        return reply

    yard.registry.faults.append(stall)
    with yard.running() as process:
        wait_for(lambda: any(path.endswith(".onnx") for path in yard.registry.fetched()))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - began < 5


def test_commands_enrol_and_show_a_vehicle(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "root.json").write_bytes(yard.registry.repository.pinned_root)
    (tmp_path / "token").write_text(ENROLMENT_TOKEN + "\n")
    state, who = ["--state", str(tmp_path / "new")], ["--registry", yard.address, "--vehicle", "car-2"]
    trust = ["--enrolment-token-file", str(tmp_path / "token"), "--root", str(tmp_path / "root.json")]
    done = agent("enrol", *state, *who, *trust)
    assert (done.returncode, done.stderr) == (0, "")
    assert "car-2" in yard.registry.tokens
    assert json.loads(agent("status", *state).stdout)["vehicle"] == "car-2"


def test_second_agent_on_the_same_folder_is_refused(yard: Yard) -> None:
    with yard.running():
        wait_for(lambda: bool(yard.registry.check_ins))
        second = agent("run", "--state", str(yard.state), "--frames", str(yard.frames))
    assert second.returncode == 2
    assert "another agent runs" in second.stderr
    assert "Traceback" not in second.stderr


def test_ledger_counts_every_byte_that_crossed_the_socket(yard: Yard) -> None:
    before = yard.registry.wire.total  # of the enrolment, which has no ledger yet
    with yard.running("--check-in-s", "60"):  # so that no answer is on its way when the agent is stopped
        wait_for(lambda: EventKind.CONFIRMED in yard.registry.kinds())
        wait_for(lambda: yard.status()["outbox"] == 0)
    ledger = yard.status()["ledger"]
    assert ledger["sent"] + ledger["received"] == yard.registry.wire.total - before
    assert ledger["received"] > len(FIRST.artifact)


def test_rate_cap_is_kept(yard: Yard) -> None:
    began = time.monotonic()
    with yard.running("--rate-bytes-per-s", "30000"):
        wait_for(lambda: EventKind.DOWNLOADED in yard.registry.kinds())
    seconds = time.monotonic() - began
    # A bucket holds one second's worth at the start, which is not paced.
    assert len(FIRST.artifact) / seconds < 30_000 * (1 + 1 / seconds)
