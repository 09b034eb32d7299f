"""Owns the parts that the steps of an update work with, and what they hold between two steps. No rules here."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import JsonValue

from edge_client.disk import Disk
from edge_client.download import Downloader
from edge_client.inference import Inference
from edge_client.journal import Journal
from edge_client.ledger import Ledger
from edge_client.policy import Link
from edge_client.registry import Registry
from edge_client.runtime import SelfTest
from edge_client.settings import AgentSettings
from edge_client.slots import Slots
from edge_client.trust import Hint, Trust, TrustedRelease, TrustedTargets
from edge_client.update import Update
from edge_client.verify import VerifiedArtifact, Verifier
from ota_protocol.manifest import RuntimeSpec
from ota_protocol.wire import Event, EventKind


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything an agent is made of; built once, by the composition root in `composition.compose`."""

    vehicle: str
    settings: AgentSettings
    disk: Disk
    journal: Journal
    slots: Slots
    ledger: Ledger
    registry: Registry
    trust: Trust
    downloads: Downloader
    verifier: Verifier
    inference: Inference
    self_test: SelfTest
    spec: RuntimeSpec
    stop: threading.Event
    clock: Callable[[], float]
    """Unix time in seconds."""
    jitter: Callable[[], float] = random.random
    """Uniform in [0, 1)."""

    @property
    def link(self) -> Link:
        """The network path, as the settings describe it."""
        settings = self.settings
        return Link(settings.link_class, settings.download_on, settings.budget_bytes, settings.budget_period_s)

    def event(
        self, kind: EventKind, update: Update | None = None, detail: str = "", figures: Mapping[str, JsonValue] = {}
    ) -> Event:
        """Return a new event about an update."""
        return Event(
            id=uuid.uuid4(),
            kind=kind,
            at=datetime.fromtimestamp(self.clock(), UTC),
            model=update.assignment.model if update else None,
            release=update.assignment.release if update else None,
            detail=detail[:512],
            figures=dict(figures),
        )

    def figures(self, update: Update) -> dict[str, JsonValue]:
        """Return what an update has cost so far."""
        return {
            "via": update.via,
            "bytes_payload": update.payload_bytes,
            "bytes_wire": self.ledger.count().total_bytes - update.bytes_at_start,
            "seconds": round(max(0.0, self.clock() - update.began_s), 3),
            "resumed": update.resumed,
        }


@dataclass(slots=True)
class Work:
    """What was earned for the update under way; in memory alone, so that a restart earns it again."""

    hint: Hint | None = None
    """From the last check-in of this process."""
    targets: TrustedTargets | None = None
    trusted: TrustedRelease | None = None
    verified: VerifiedArtifact | None = None
    bytes_per_s: float = field(default=0.0)
    """Measured speed of the link; 0 before the first transfer."""
    trial_began_s: float = field(default=0.0)
    """Monotonic seconds: the clock of a vehicle may jump by decades when it finds a time server."""
    part_s: float = field(default=30.0)
    """How long one part of a download may take, so that check-ins go on."""

    def forget(self) -> None:
        """Drop what belonged to one update."""
        self.targets = self.trusted = self.verified = None
