"""Owns what can be seen of one vehicle from outside: its own status, and what its link counted.

On one machine it is gathered by a command; in containers a vehicle that is asked leaves it in a shared folder.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from demo.link import Traffic
from ota_protocol.errors import MalformedError

MAX_OBSERVATION_BYTES: Final = 1 << 20
"""A status with 200 past updates stays under 100 kB."""


class Seen(BaseModel):
    """Base of what the agent prints: fields that the demo has no use for are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SeenRelease(Seen):
    """A release in a slot."""

    release: str


class SeenUpdate(Seen):
    """How one update ended."""

    release: str
    result: str
    via: str | None = None
    resumed: int = 0
    payload_bytes: int = 0
    wire_bytes: int = 0
    seconds: float = 0.0


class SeenPrediction(Seen):
    """What the vehicle saw in one frame."""

    frame: str
    release: str
    label: str
    probability: float


class SeenLedger(Seen):
    """Bytes that crossed the vehicle's sockets since enrolment."""

    sent: int
    received: int


class SeenFrames(Seen):
    """Frames since the agent was first started."""

    served: int
    lost: int


class AgentStatus(Seen):
    """What `ota-agent status` prints."""

    vehicle: str
    state: str
    active: SeenRelease | None = None
    ledger: SeenLedger
    frames: SeenFrames
    predictions: tuple[SeenPrediction, ...] = ()
    updates: tuple[SeenUpdate, ...] = ()

    def runs(self, release: str) -> bool:
        """Whether `release` is active and confirmed, and has answered every frame that is shown."""
        answered = bool(self.predictions) and all(seen.release == release for seen in self.predictions)
        return answered and self.active is not None and self.active.release == release and self.state == "idle"


class Observation(Seen):
    """One vehicle at one moment."""

    profile: str
    status: AgentStatus
    traffic: Traffic

    @property
    def is_quiet(self) -> bool:
        """Whether the vehicle's ledger has all that its link has: nothing is on the way between them."""
        return self.status.ledger.sent + self.status.ledger.received == self.traffic.up + self.traffic.down


def parse_status(text: str) -> AgentStatus:
    """Return what `ota-agent status` printed.

    Raises:
        MalformedError: it printed something else.
    """
    try:
        return AgentStatus.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise MalformedError(f"the agent's status is malformed at {where}: {first['msg']}") from error
