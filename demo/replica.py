"""Owns one vehicle of the containers' fleet: which number it is, its link, its enrolment, and what it shows.

Every replica starts from the same image and the same settings. It takes the lowest number that no other replica holds,
in a folder that all of them share; the number gives it its name and its profile, and a container that comes back finds
its old state again. Standard library alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from demo.link import read_traffic
from demo.profiles import Profile, of_number

MOST_REPLICAS: Final = 100
NUMBER_LOCK: Final = "replica.lock"
"""Not the lock that the agent itself takes on its folder."""
LINK_PORT: Final = 9000
ENROL_ATTEMPTS: Final = 10
ENROL_AGAIN_S: Final = 2.0
LOOK_EVERY_S: Final = 0.5
SILENCE_S: Final = 60.0
"""An agent that wrote no status for so long hangs."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One container of the fleet.

    Args:
        number: from 1; held for as long as the process lives.
        state: what the vehicle keeps.
    """

    number: int
    state: Path

    @property
    def name(self) -> str:
        """The vehicle's name."""
        return f"vehicle-{self.number}"

    @property
    def profile(self) -> Profile:
        """What kind of vehicle it is."""
        return of_number(self.number)

    @property
    def traffic(self) -> Path:
        """What its link counted."""
        return self.state / "traffic.json"


def take_number(vehicles: Path) -> Replica:
    """Take the lowest number that nobody holds. Its lock is held until this process ends.

    Raises:
        RuntimeError: all numbers are taken.
    """
    for number in range(1, MOST_REPLICAS + 1):
        state = vehicles / str(number)
        state.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(state / NUMBER_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return Replica(number, state)
    raise RuntimeError(f"{MOST_REPLICAS} replicas run already in {vehicles}")


def start_link(replica: Replica, registry: str) -> subprocess.Popen[bytes]:
    """Start the replica's link, which leads from LINK_PORT on loopback to `registry` (host:port)."""
    command = [sys.executable, "-m", "demo.link", "--listen", str(LINK_PORT), "--to", registry]
    command += ["--count-file", str(replica.traffic), *replica.profile.link_options()]
    return subprocess.Popen(command)  # noqa: S603  (our own command, no shell)


def enrol(replica: Replica, trust: Path) -> None:
    """Enrol over the link, which takes a moment to listen.

    Raises:
        subprocess.CalledProcessError: it does not succeed; the agent has said why.
    """
    where = ["--state", str(replica.state), "--registry", f"http://127.0.0.1:{LINK_PORT}"]
    command = ["ota-agent", "enrol", *where, "--vehicle", replica.name]
    command += ["--enrolment-token-file", str(trust / "enrolment.token"), "--root", str(trust / "root.json")]
    for attempt in range(1, ENROL_ATTEMPTS + 1):
        ended = subprocess.run(command, check=attempt == ENROL_ATTEMPTS)  # noqa: S603  (our own command, no shell)
        if ended.returncode == 0:
            return
        time.sleep(ENROL_AGAIN_S)


def drive(env: Mapping[str, str]) -> int:
    """Run the agent of a free number until it ends, and answer who wants to see it; return the agent's exit code."""
    replica = take_number(Path(env["VEHICLES_DIR"]))
    Path(env["NUMBER_FILE"]).write_text(str(replica.number))
    link = start_link(replica, env["REGISTRY"])
    enrol(replica, Path(env["TRUST_DIR"]))
    link.send_signal(signal.SIGUSR1)  # the ledger begins after the enrolment, so the link's count does too
    options = ["--state", str(replica.state), "--frames", f"{env['FRAMES_DIR']}/{replica.profile.name}"]
    command = ["ota-agent", "run", *options, *replica.profile.agent_options()]
    agent = subprocess.Popen(command)  # noqa: S603  (our own command; its other settings are in the environment)
    signal.signal(signal.SIGTERM, lambda *_: agent.terminate())
    while agent.poll() is None:
        answer(replica, Path(env["SHOWN_DIR"]))
        time.sleep(LOOK_EVERY_S)
    link.terminate()
    return agent.returncode


def answer(replica: Replica, shown: Path) -> None:
    """Put the vehicle's status and its link's count into the shared folder, if somebody asked for it there.

    A status costs most of a second of a processor, so it is not made unasked.
    """
    wanted = shown / f"{replica.name}.wanted"
    if not wanted.exists():
        return
    command = ["ota-agent", "status", "--state", str(replica.state)]
    status = subprocess.run(command, capture_output=True, check=True).stdout  # noqa: S603  (our own command, no shell)
    traffic = asdict(read_traffic(replica.traffic))
    new = shown / f"{replica.name}.new"
    new.write_text(json.dumps({"profile": replica.profile.name, "status": json.loads(status), "traffic": traffic}))
    new.replace(shown / f"{replica.name}.json")
    wanted.unlink()


def check_health(env: Mapping[str, str]) -> int:
    """Return 0 if the agent has written its status lately, as it does each second."""
    state = Path(env["VEHICLES_DIR"]) / Path(env["NUMBER_FILE"]).read_text()
    return 0 if time.time() - (state / "status.json").stat().st_mtime < SILENCE_S else 1


def main() -> None:
    """Run as a container's command (`drive`) or as its health check (`health`)."""
    sys.exit({"drive": drive, "health": check_health}[sys.argv[1]](os.environ))


if __name__ == "__main__":
    main()
