"""Owns the stage in containers: registry and vehicles are started by Compose; this waits for them and looks on."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from demo.command import Commands
from demo.observation import MAX_OBSERVATION_BYTES, Observation
from demo.registry import Registry, read_token, wait_until
from demo.releases import Publisher
from ota_protocol.errors import MalformedError

READY_TIMEOUT_S: Final = 120.0
ENROL_TIMEOUT_S: Final = 120.0


@dataclass(slots=True)
class Containers:
    """The stage of `ota-demo lead`.

    Args:
        url: the registry.
        token_file: holds the operator's token.
        targets_key: the offline key that signs releases.
        folder: where pictures and releases are kept.
        shown: folder in which vehicles show themselves when asked.
        vehicles: how many vehicles there are.
        commands: runs `ota-build`.
    """

    url: str
    token_file: Path
    targets_key: Path
    folder: Path
    shown: Path
    vehicles: int
    commands: Commands
    _registry: Registry | None = None

    @property
    def fleet(self) -> Literal["containers"]:
        """See `Stage`."""
        return "containers"

    def registry(self) -> Registry:
        """See `Stage`."""
        if self._registry is None:
            self._registry = Registry(self.url, read_token(self.token_file))
        return self._registry

    def publisher(self) -> Publisher:
        """See `Stage`."""
        return Publisher(self.commands, self.folder, self.url, self.token_file, self.targets_key)

    def begin(self) -> None:
        """Wait until the registry is ready."""
        wait_until(self.registry().is_ready, f"{self.url} is ready", timeout_s=READY_TIMEOUT_S)

    def send_out(self, act: Literal["first", "second"]) -> Set[str]:
        """Wait until all vehicles are enrolled; Compose has started them."""
        what = f"{act} act: {self.vehicles} vehicles are enrolled"
        wait_until(lambda: len(self._names()) >= self.vehicles, what, timeout_s=ENROL_TIMEOUT_S)
        return self._names()

    def observe(self, vehicle: str) -> Observation | None:
        """Ask a vehicle to show itself, or return what it has shown since it was asked.

        Raises:
            MalformedError: it has shown something else.
        """
        wanted, answer = self.shown / f"{vehicle}.wanted", self.shown / f"{vehicle}.json"
        if wanted.exists():
            return None
        if not answer.exists():
            wanted.touch()
            return None
        seen = _read(answer)
        answer.unlink()
        return seen

    def moved(self) -> Mapping[str, int]:
        """See `Stage`: the links are in other containers, so nothing is known."""
        return {}

    def require_alive(self) -> None:
        """See `Stage`: Compose watches over the containers."""

    def _names(self) -> Set[str]:
        return {vehicle.vehicle for vehicle in self.registry().vehicles()}


def _read(file: Path) -> Observation:
    with file.open("rb") as source:
        data = source.read(MAX_OBSERVATION_BYTES + 1)
    try:
        return Observation.model_validate_json(data)
    except ValidationError as error:
        raise MalformedError(f"{file} is no status of a vehicle: {error.errors()[0]['msg']}") from error
