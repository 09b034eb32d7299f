"""Replicas of the containers' fleet: each takes a number of its own and keeps it while it lives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.command import Commands
from demo.containers import Containers
from demo.profiles import BY_NAME, FLAKY, METERED, WIFI, of_number
from demo.replica import MOST_REPLICAS, Replica, answer, check_health, take_number
from ota_protocol.errors import MalformedError

HOLDER = "import sys; from pathlib import Path; from demo.replica import take_number;\
 print(take_number(Path(sys.argv[1])).number, flush=True); sys.stdin.read()"


def holder(vehicles: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process that holds a number until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(vehicles)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_two_replicas_never_hold_one_number_and_a_free_one_is_taken_again(tmp_path: Path) -> None:
    first, one = holder(tmp_path)
    second, two = holder(tmp_path)
    assert (one, two) == (1, 2)
    first.communicate()
    again, number = holder(tmp_path)
    assert number == 1
    for process in (second, again):
        process.communicate()


def test_profiles_go_round() -> None:
    assert [of_number(number) for number in range(1, 6)] == [WIFI, METERED, FLAKY, WIFI, METERED]


def test_a_replica_is_named_by_its_number(tmp_path: Path) -> None:
    replica = Replica(2, tmp_path)
    assert (replica.name, replica.profile) == ("vehicle-2", METERED)


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    held = [take_number(tmp_path) for _ in range(MOST_REPLICAS)]
    assert len({replica.number for replica in held}) == MOST_REPLICAS
    with pytest.raises(RuntimeError, match="100 replicas"):
        take_number(tmp_path)


@pytest.mark.parametrize("name", BY_NAME)
def test_options_name_only_what_a_link_has(name: str) -> None:
    profile = BY_NAME[name]
    options = profile.agent_options() + profile.link_options()
    assert ("--budget-bytes" in options) == (profile.budget_bytes is not None)
    assert ("--cut-after" in options) == (profile.cut_after_bytes is not None)


def fake_agent(folder: Path, vehicle: str) -> None:
    """Put an `ota-agent` into `folder` that prints a status."""
    counts = {"ledger": {"sent": 3, "received": 4}, "frames": {"served": 9, "lost": 0}}
    status = {"vehicle": vehicle, "state": "idle", **counts}
    agent = folder / "ota-agent"
    agent.write_text(f"#!/bin/sh\necho '{json.dumps(status)}'\n")
    agent.chmod(0o755)


def stage(shown: Path) -> Containers:
    nothing = shown / "nothing"
    return Containers("http://registry", nothing, nothing, nothing, shown, 1, Commands(nothing, nothing))


def test_a_vehicle_shows_itself_when_asked_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_agent(tmp_path, "vehicle-2")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    replica, containers = Replica(2, tmp_path), stage(tmp_path)
    replica.traffic.write_text('{"up": 3, "down": 4, "cut": 0, "periods": {}}')
    answer(replica, tmp_path)
    assert not (tmp_path / "vehicle-2.json").exists()
    assert containers.observe("vehicle-2") is None
    assert containers.observe("vehicle-2") is None
    answer(replica, tmp_path)
    seen = containers.observe("vehicle-2")
    assert seen is not None
    assert (seen.status.vehicle, seen.profile, seen.is_quiet) == ("vehicle-2", "metered", True)
    assert containers.observe("vehicle-2") is None


def test_what_is_no_status_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vehicle-1.json").write_text('{"profile": "wifi"}')
    with pytest.raises(MalformedError, match="no status of a vehicle"):
        stage(tmp_path).observe("vehicle-1")


def test_health_is_a_fresh_status(tmp_path: Path) -> None:
    env = {"VEHICLES_DIR": str(tmp_path), "NUMBER_FILE": str(tmp_path / "number")}
    (tmp_path / "number").write_text("7")
    status = tmp_path / "7" / "status.json"
    status.parent.mkdir()
    status.touch()
    assert check_health(env) == 0
    os.utime(status, (0, 0))
    assert check_health(env) == 1
