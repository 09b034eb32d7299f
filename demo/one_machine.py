"""Owns the stage on one machine: a registry, and vehicles with their links, as processes on loopback."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from demo.command import Commands
from demo.fleet import Fleet, alive_in
from demo.link import read_traffic
from demo.observation import Observation, parse_status
from demo.pictures import write_frames
from demo.profiles import FLAKY, LATE, METERED, WIFI, Profile
from demo.registry import Registry, read_token, wait_until
from demo.releases import Publisher
from ota_protocol.errors import RequestError, StorageError

READY_TIMEOUT_S: Final = 120.0
"""Ready takes three seconds; the rest is for a machine that is busy with other things."""
CHECK_IN_S: Final = 2.0
"""Often enough to watch; a vehicle in the field asks every few minutes."""
FRAME_INTERVAL_S: Final = 0.25
TRIAL_FRAMES: Final = 12
"""More than there are frames, so that every frame was answered before a release is confirmed."""
MARK: Final = "squeezeota-demo"
"""An empty file of this name tells a demo's folder, which may be emptied, from any other."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies in the state folder."""

    state: Path

    @property
    def keys(self) -> Path:
        """Keys, tokens and the root to pin."""
        return self.state / "registry" / "keys"

    @property
    def data(self) -> Path:
        """The registry's database and blobs."""
        return self.state / "registry" / "data"

    @property
    def operator_token(self) -> Path:
        """The operator's token."""
        return self.keys / "operator.token"

    def vehicle(self, name: str) -> Path:
        """What one vehicle keeps."""
        return self.state / "vehicles" / name

    def frames(self, name: str) -> Path:
        """What one vehicle's camera sees."""
        return self.state / "frames" / name

    def traffic(self, name: str) -> Path:
        """What one vehicle's link counted."""
        return self.state / "links" / f"{name}.json"


class OneMachine:
    """The stage of `ota-demo run`.

    Args:
        places: where everything lies.
        fleet: starts and stops processes.
        commands: runs the `ota-*` commands.
        photographs: folder of the photographs.
    """

    def __init__(self, places: Places, fleet: Fleet, commands: Commands, photographs: Path) -> None:
        self._places = places
        self._processes = fleet
        self._commands = commands
        self._photographs = photographs
        self._port = _free_port()
        self._registry: Registry | None = None
        self._out: dict[str, Profile] = {}

    @property
    def fleet(self) -> Literal["processes"]:
        """See `Stage`."""
        return "processes"

    @property
    def url(self) -> str:
        """Where the registry listens."""
        return f"http://127.0.0.1:{self._port}"

    def registry(self) -> Registry:
        """See `Stage`. Raises StorageError: before `begin` there is no token."""
        if self._registry is None:
            self._registry = Registry(self.url, read_token(self._places.operator_token))
        return self._registry

    def publisher(self) -> Publisher:
        """See `Stage`."""
        return Publisher(
            commands=self._commands,
            folder=self._places.state / "releases",
            registry=self.url,
            token_file=self._places.operator_token,
            targets_key=self._places.keys / "offline" / "targets.pem",
        )

    def begin(self) -> None:
        """Make keys and database, start the registry, and wait until it is ready."""
        folders = ("--data", str(self._places.data), "--keys", str(self._places.keys))
        self._commands.run("ota-server", "init", *folders)
        self._processes.start("registry", ["ota-server", "serve", *folders, "--port", str(self._port)])
        wait_until(self._is_ready, "the registry is ready", timeout_s=READY_TIMEOUT_S, every_s=0.2)

    def send_out(self, act: Literal["first", "second"]) -> Set[str]:
        """Start the three vehicles of the first act, and the late one in the second."""
        for profile in (WIFI, METERED, FLAKY) if act == "first" else (LATE,):
            self._send_out(profile)
        return self._out.keys()

    def observe(self, vehicle: str) -> Observation:
        """Ask a vehicle for its status, and its link for its count."""
        status = parse_status(self._commands.run("ota-agent", "status", "--state", self._places.vehicle(vehicle)))
        traffic = read_traffic(self._places.traffic(vehicle))
        return Observation(profile=self._out[vehicle].name, status=status, traffic=traffic)

    def moved(self) -> Mapping[str, int]:
        """See `Stage`."""
        traffic = {name: read_traffic(self._places.traffic(name)) for name in self._out}
        return {name: seen.up + seen.down for name, seen in traffic.items()}

    def require_alive(self) -> None:
        """See `Stage`."""
        self._processes.require_alive()

    def _is_ready(self) -> bool:
        self._processes.require_alive()
        return self.registry().is_ready()

    def _send_out(self, profile: Profile) -> None:
        """Give one vehicle frames and a link, enrol it over that link, and start its agent."""
        name = profile.name
        state, frames = self._places.vehicle(name), self._places.frames(name)
        write_frames(frames, name, self._photographs)
        self._enrol(name, state, self._start_link(name, profile))
        self._processes.signal(f"link-{name}", signal.SIGUSR1)
        pace = ["--check-in-s", str(CHECK_IN_S), "--frame-interval-s", str(FRAME_INTERVAL_S)]
        pace += ["--trial-frames", str(TRIAL_FRAMES)]
        agent = ["ota-agent", "run", "--state", str(state), "--frames", str(frames), *pace, *profile.agent_options()]
        self._processes.start(name, agent)
        self._out[name] = profile

    def _start_link(self, name: str, profile: Profile) -> int:
        """Start one vehicle's link, and return the port on which it leads to the registry."""
        port, count_file = _free_port(), self._places.traffic(name)
        count_file.parent.mkdir(exist_ok=True)
        link = [sys.executable, "-m", "demo.link", "--listen", str(port), "--to", f"127.0.0.1:{self._port}"]
        self._processes.start(f"link-{name}", [*link, "--count-file", str(count_file), *profile.link_options()])
        wait_until(lambda: _listens(port), f"the link of {name} listens", timeout_s=READY_TIMEOUT_S, every_s=0.05)
        return port

    def _enrol(self, name: str, state: Path, port: int) -> None:
        keys = self._places.keys
        where = ("--state", state, "--registry", f"http://127.0.0.1:{port}", "--vehicle", name)
        trust = ("--enrolment-token-file", keys / "enrolment.token", "--root", keys / "root.json")
        self._commands.run("ota-agent", "enrol", *where, *trust)


def prepare_state(state: Path) -> Places:
    """Make an empty folder for one run of the demo; what an earlier run left there is removed.

    Raises:
        RequestError: the folder holds something else, or a fleet that still runs.
        StorageError: it cannot be written.
    """
    if alive := alive_in(state):
        raise RequestError(f"a fleet still runs in {state}: {', '.join(alive)}", remedy="stop it: `ota-demo stop`")
    try:
        if state.exists() and any(state.iterdir()) and not (state / MARK).exists():
            raise RequestError(f"{state} holds something else", remedy="give an empty folder as --state")
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        (state / MARK).touch()
        (state / "releases").mkdir()
        (state / "registry").mkdir()
    except OSError as error:
        raise StorageError(f"cannot make {state}: {error.strerror}", remedy="give another --state") from error
    return Places(state)


def _free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
