"""A vehicle in a test: a real agent on a real state folder, turned by hand, talking to a registry in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from edge_client.agent import Agent
from edge_client.composition import compose
from edge_client.disk import Disk
from edge_client.enrolment import enrol
from edge_client.journal import Journal
from edge_client.machine import State
from edge_client.parts import Parts
from edge_client.runtime import SelfTest, load
from edge_client.settings import AgentSettings
from tests.support.model_fake import make_frames
from tests.support.registry_fake import ENROLMENT_TOKEN, FakeRegistry, FakeTransport

ADDRESS = "http://registry.test"


def self_test_here(model_path: Path, manifest_path: Path) -> None:
    """The real self-test without the child process, for speed."""
    load(model_path, manifest_path).check_golden_samples()


def settings_for(state: Path, **changes: Any) -> AgentSettings:
    """Return settings that make an agent quick."""
    quick: dict[str, Any] = {
        "state": state,
        "frames": make_frames(state.parent / "frames"),
        "check_in_s": 0.01,
        "frame_interval_s": 0.001,
        "trial_frames": 3,
        "backoff_s": 0.01,
        "backoff_max_s": 0.02,
    }
    return AgentSettings(**(quick | changes))


def enrolled(state: Path, registry: FakeRegistry, vehicle: str = "car-1") -> Path:
    """Enrol a vehicle and return its state folder."""
    enrol(
        state,
        ADDRESS,
        vehicle,
        enrolment_token=ENROLMENT_TOKEN,
        root=registry.repository.pinned_root,
        transport=FakeTransport(registry),
    )
    return state


class Driver:
    """An agent and its parts; turns the loop by hand, so that a test decides how long."""

    def __init__(self, parts: Parts, states: list[State]) -> None:
        self.parts = parts
        self.states = states
        self.agent = Agent(parts, states.append)
        self.agent.resume()
        parts.inference.start()

    @property
    def state(self) -> State:
        return self.agent.saved.state

    def until(self, done: Callable[[Driver], bool], timeout_s: float = 60.0) -> None:
        """Turn the loop until `done`, or fail."""
        deadline = time.monotonic() + timeout_s
        while not done(self):
            assert time.monotonic() < deadline, f"stuck in {self.state} after {self.states}: {self.agent.saved}"
            self.agent.turn()
            time.sleep(0.001)

    def until_runs(self, release: str) -> None:
        """Turn the loop until a release is confirmed and the registry knows it."""
        self.until(lambda driver: driver.confirmed == release and not driver.parts.journal.outbox(1))

    @property
    def confirmed(self) -> str | None:
        slots = self.parts.slots
        return slots.active.release.release if slots.active and slots.pointer.trial is None else None


@contextmanager
def driving(
    state: Path,
    registry: FakeRegistry,
    *,
    disk: Disk | None = None,
    transport: httpx.BaseTransport | None = None,
    self_test: SelfTest = self_test_here,
    clock: Callable[[], float] = time.time,
    make_journal: Callable[[Path], Journal] = Journal,
    **changes: Any,
) -> Iterator[Driver]:
    """Run an agent on an enrolled state folder."""
    stop = threading.Event()
    settings = settings_for(state, **changes)
    with compose(
        settings,
        stop,
        disk=disk,
        transport=transport or FakeTransport(registry),
        self_test=self_test,
        clock=clock,
        make_journal=make_journal,
    ) as parts:
        yield Driver(parts, [])
