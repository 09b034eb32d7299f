"""A stage without processes: a registry that answers from memory, and vehicles that confirm when they are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx

from demo.command import Commands
from demo.link import Traffic
from demo.observation import (
    AgentStatus,
    Observation,
    SeenFrames,
    SeenLedger,
    SeenPrediction,
    SeenRelease,
    SeenUpdate,
)
from demo.registry import Registry
from demo.releases import Publisher
from ota_protocol.errors import OtaError
from ota_protocol.reference import FP32_BYTES

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).isoformat()
FILE = {"digest": "0" * 64, "length_bytes": 1000}
MOVED = 10_000


class FakeStage:
    """Plays the story in memory.

    Args:
        folder: for the publisher, whose command `ota-build` is a script that does nothing.
        fails: a vehicle that gives up each rollout.
        dies: whether the stage dies at the first look.
        looks_until_quiet: looks at a vehicle in which bytes are still on the way.
    """

    fleet: Literal["processes"] = "processes"

    def __init__(self, folder: Path, *, fails: str = "", dies: bool = False, looks_until_quiet: int = 0) -> None:
        self._folder = folder
        self._fails = fails
        self._dies = dies
        self._busy = looks_until_quiet
        self._out: tuple[str, ...] = ()
        self.rolled_out: list[str] = []
        self.looked: list[str] = []
        script = folder / "ota-build"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)

    def registry(self) -> Registry:
        return Registry("http://registry", "token", httpx.MockTransport(self._answer))

    def publisher(self) -> Publisher:
        commands = Commands(self._folder, self._folder)
        return Publisher(commands, self._folder, "http://registry", self._folder / "token", self._folder / "key")

    def begin(self) -> None:
        """Nothing to bring up."""

    def send_out(self, act: Literal["first", "second"]) -> Set[str]:
        self._out = ("metered", "wifi") if act == "first" else ("late", "metered", "wifi")
        return set(self._out)

    def observe(self, vehicle: str) -> Observation:
        self.looked.append(vehicle)
        on_the_way = 100 if len(self.looked) <= self._busy else 0
        history = self.rolled_out if vehicle != "late" else self.rolled_out[-1:]
        release = self.rolled_out[-1]
        status = AgentStatus(
            vehicle=vehicle,
            state="idle",
            active=SeenRelease(release=release),
            ledger=SeenLedger(sent=1_000, received=9_000),
            frames=SeenFrames(served=50, lost=0),
            predictions=(SeenPrediction(frame="a.jpg", release=release, label=release, probability=0.5),),
            updates=tuple(SeenUpdate(release=each, result="confirmed", via="full") for each in history),
        )
        return Observation(profile=vehicle, status=status, traffic=Traffic(up=1_000, down=9_000 + on_the_way))

    def moved(self) -> Mapping[str, int]:
        return dict.fromkeys(self._out, MOVED)

    def require_alive(self) -> None:
        if self._dies:
            raise OtaError("the registry ended with code -9", remedy="read its log")

    def _answer(self, request: httpx.Request) -> httpx.Response:
        *_, noun, name = request.url.path.split("/")
        if request.url.path == "/api/v1/vehicles":
            return httpx.Response(200, json=[self._vehicle(each) for each in self._out])
        if request.url.path == "/api/v1/savings":
            updates = 2 * len(self._out) - 1
            moved = MOVED * len(self._out)
            fleet = _saving(updates, moved)
            return httpx.Response(200, json={"fleet": fleet, "vehicles": dict.fromkeys(self._out, fleet)})
        if noun == "releases":
            body = {"model": "squeezenet", "release": name, "release_counter": 1, "artifact": FILE, "manifest": FILE}
            return httpx.Response(200, json={**body, "published_at": NOW})
        assert noun == "rollouts"
        if request.method == "PUT":
            self.rolled_out.append(name.removeprefix("to-").replace("-", "."))
        return httpx.Response(200, json=self._rollout(name))

    def _rollout(self, name: str) -> dict[str, Any]:
        states = {each: "failed" if each == self._fails else "confirmed" for each in self._out}
        body = {"rollout": name, "model": "squeezenet", "release": self.rolled_out[-1], "state": "running"}
        return {**body, "created_at": NOW, "vehicles": states}

    def _vehicle(self, name: str) -> dict[str, Any]:
        return {"vehicle": name, "enrolled_at": NOW, "confirmed": self.rolled_out[-1]}


def _saving(updates: int, moved_bytes: int) -> dict[str, Any]:
    saved = {name: updates * length - moved_bytes for name, length in FP32_BYTES.items()}
    return {"updates": updates, "received_bytes": moved_bytes, "sent_bytes": 0, "saved_bytes": saved}
