"""`ota-agent` installs from its own wheel, without the server's code or libraries, and works there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clean_environment import CleanEnvironment, make_environment
from tests.support.model_fake import make_frames, tiny_release
from tests.support.registry_fake import ENROLMENT_TOKEN, FakeRegistry, serve

pytestmark = [pytest.mark.slow]

FOREIGN = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "dbos", "obstore", "onnx", "torch"}
FOREIGN_CODE = ("server", "model_build", "demo", "tests")

EXERCISE = """
import importlib.util, sys, threading
from pathlib import Path
from edge_client.agent import Agent
from edge_client.composition import compose
from edge_client.machine import State
from edge_client.settings import AgentSettings
absent = [name for name in sys.argv[3].split(",") if importlib.util.find_spec(name)]
assert not absent, absent
stop = threading.Event()
timer = threading.Timer(60, stop.set)
timer.start()
settings = AgentSettings(state=sys.argv[1], frames=sys.argv[2], check_in_s=0.1, frame_interval_s=0.01, trial_frames=3)
with compose(settings, stop) as parts:
    Agent(parts, lambda state: stop.set() if state is State.IDLE else None).run()
    print(parts.journal.history()[-1].result)
timer.cancel()
"""
"""Runs a whole update, self-test in its child process included, with nothing but the wheels of a vehicle."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> CleanEnvironment:
    return make_environment(tmp_path_factory.mktemp("clean"), "ota_protocol", "edge_client")


def test_nothing_foreign_is_declared(environment: CleanEnvironment) -> None:
    assert not environment.names & FOREIGN
    assert {"squeezeota-agent", "squeezeota-protocol", "onnxruntime", "tuf", "httpx"} <= environment.names


def test_the_installed_agent_runs_an_update(environment: CleanEnvironment, tmp_path: Path) -> None:
    registry = FakeRegistry()
    registry.publish(tiny_release("1.0.0", 1))
    registry.assign("1.0.0")
    (tmp_path / "root.json").write_bytes(registry.repository.pinned_root)
    (tmp_path / "token").write_text(ENROLMENT_TOKEN)
    frames = make_frames(tmp_path / "frames")
    state = str(tmp_path / "car")
    trust = ["--enrolment-token-file", str(tmp_path / "token"), "--root", str(tmp_path / "root.json")]
    with serve(registry) as address:
        who = ["--registry", address, "--vehicle", "car-1"]
        done = environment.run("-m", "edge_client", "enrol", "--state", state, *who, *trust)
        assert done.returncode == 0, done.stderr
        absent = ",".join(sorted(FOREIGN) + list(FOREIGN_CODE))
        done = environment.run("-c", EXERCISE, state, str(frames), absent)
    assert (done.returncode, done.stdout) == (0, "confirmed\n"), done.stderr
