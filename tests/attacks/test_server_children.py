"""Hostile work in child processes: whatever a child does, the registry gets an answer, and nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from server.domain.refusals import CheckFailedError
from server.services.child import Children, StoppingError
from tests.support.onnx_models import onnx_bytes
from tests.support.server_process import wait_until

PROGRAM = "tests.support.misbehaving_child"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("spin", "by signal"),
        ("crash", "by signal 6"),
        ("eat", "MemoryError"),
        ("mumble", "gave no answer"),
        ("sleep", "took more than"),
    ],
)
def test_a_child_that_misbehaves_is_a_failed_check(how: str, said: str) -> None:
    with pytest.raises(CheckFailedError, match=said):
        Children().run(PROGRAM, [how], timeout_s=0.8 if how == "sleep" else 30, what="the check")


def test_a_child_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEEZEOTA_DATABASE_URL", "postgresql://user:password@host/name")
    seen = Children().run(PROGRAM, ["tell"], timeout_s=30, what="the check")["environment"]
    assert not [name for name in seen if name.startswith("SQUEEZEOTA")]


def test_a_stop_ends_what_runs(tmp_path: Path) -> None:
    children, caught = Children(), list[Exception]()

    def work() -> None:
        try:
            children.run(PROGRAM, ["sleep", str(tmp_path / "pid")], timeout_s=60, what="the check")
        except StoppingError as error:
            caught.append(error)

    working = threading.Thread(target=work)
    working.start()
    wait_until((tmp_path / "pid").exists)
    began = time.monotonic()
    children.stop()
    working.join()
    assert time.monotonic() - began < 10
    assert len(caught) == 1
    with pytest.raises(StoppingError):
        children.run(PROGRAM, ["tell"], timeout_s=30, what="the check")


def test_a_child_does_not_outlive_a_killed_server(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = (
        "from server.services.child import Children;"
        f"Children().run({PROGRAM!r}, ['sleep', {str(pid_file)!r}], timeout_s=60, what='x')"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    wait_until(lambda: pid_file.exists() and bool(pid_file.read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    wait_until(lambda: not is_alive(int(pid_file.read_text())))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_the_onnx_check_runs_within_its_memory(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx_bytes())
    arguments = [str(1 << 30), "30", str(file)]
    graph = Children().run("server.children.check_onnx", arguments, timeout_s=60, what="the check")
    assert graph["opset"] == 17
    with pytest.raises(CheckFailedError):
        Children().run("server.children.check_onnx", [str(64 << 20), *arguments[1:]], timeout_s=60, what="the check")
