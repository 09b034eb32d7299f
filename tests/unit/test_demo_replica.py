"""Replicas of the containers' fleet: each takes a number of its own and keeps it while it lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo.profiles import BY_NAME, FLAKY, METERED, WIFI, of_number
from demo.replica import MOST_REPLICAS, Replica, take_number

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
