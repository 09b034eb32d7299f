"""Owns one run of docker-compose.yml under a project name of its own, with whichever Compose is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD_TIMEOUT_S = 1200.0
STORY_TIMEOUT_S = 900.0
COMMAND_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Compose:
    """A Compose project that nobody else uses."""

    command: tuple[str, ...]
    project: str = field(default_factory=lambda: f"squeezeota-e2e-{uuid.uuid4().hex[:8]}")

    def run(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run one Compose command, and return its standard output; fails the test with what it said."""
        return run([*self.command, "-p", self.project, *arguments], timeout_s)

    def container(self, service: str, number: int = 1) -> str:
        """Return the id of one container of a service."""
        label = "com.docker.compose"
        filters = (f"project={self.project}", f"service={service}", f"container-number={number}")
        listed = run(["docker", "ps", "-aq", *(part for f in filters for part in ("--filter", f"label={label}.{f}"))])
        return listed.strip()

    def inside(self, container: str, *command: str) -> str:
        """Run a command in a container, and return its standard output."""
        return run(["docker", "exec", container, *command])

    def exit_code(self, service: str, timeout_s: float) -> int:
        """Wait until a one-shot service ends, and return its exit code."""
        container, deadline = self.container(service), time.monotonic() + timeout_s
        shown = ["docker", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container]
        while not (state := run(shown)).startswith("exited"):
            assert time.monotonic() < deadline, f"{service} is still {state}: {self.run('logs', '--tail=60')}"
            time.sleep(2.0)
        return int(state.split()[1])


def find_compose() -> Compose:
    """Return the Compose at hand; fails the test, and says so, if no engine answers."""
    if shutil.which("docker") is None:
        pytest.fail("docker is not installed; `make e2e` needs a Docker engine", pytrace=False)
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.fail("no Docker engine answers `docker info`; start one, then run `make e2e` again", pytrace=False)
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return Compose(("docker", "compose"))
    if shutil.which("docker-compose") is None:
        pytest.fail("neither `docker compose` nor `docker-compose` is installed; `make e2e` needs one", pytrace=False)
    return Compose(("docker-compose",))


def run(command: list[str], timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run a command in the project's folder; fails the test with what it said."""
    env = {**os.environ, "SQUEEZEOTA_PORT": "0", "VEHICLES": "5"}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
    return ended.stdout
