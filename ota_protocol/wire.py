"""Owns the bodies of the HTTP API; `docs/protocol.md` says who sends which to where. No I/O."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import Field, JsonValue

from ota_protocol.digest import DigestHex
from ota_protocol.manifest import MAX_ARTIFACT_BYTES, FileRef, Frozen, Name, ReleaseName, VehicleManifest

MAX_CHECK_IN_BYTES = 64 << 10
"""A check-in with a full outbox page (`MAX_EVENTS`) stays under 40 kB."""
MAX_EVENTS = 64
"""Events in one check-in; the vehicle keeps the rest in its outbox for the next one."""

TargetPath = str
"""Path of a TUF target: `models/<model>/<release>/model.onnx`, `.../manifest.json`, `deltas/<base>-<result>.sqd`."""


# ── vehicle ↔ registry ──────────────────────────────────────────────────────────────────────────────────────────────


class EventKind(StrEnum):
    """What can happen on a vehicle that the registry is told."""

    ASSIGNED = "assigned"
    WAITING = "waiting"
    DOWNLOADED = "downloaded"
    RESUMED = "resumed"
    VERIFIED = "verified"
    STAGED = "staged"
    ACTIVATED = "activated"
    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    BYTES = "bytes"


class Event(Frozen):
    """Something that happened on the vehicle. `id` makes its delivery idempotent."""

    id: UUID
    kind: EventKind
    at: datetime
    model: Name | None = None
    release: ReleaseName | None = None
    detail: str = Field(default="", max_length=512)
    figures: dict[str, JsonValue] = Field(default_factory=dict, max_length=16)
    """Numbers of the event; `downloaded` carries `via` (full, delta, chain), `bytes_wire`, `seconds`, `resumed`;
    `bytes` carries `sent`, `received` and `period_start` of the ledger."""


class CheckIn(Frozen):
    """`POST /api/v1/check-in`: poll and report in one call."""

    vehicle: VehicleManifest
    events: tuple[Event, ...] = Field(default=(), max_length=MAX_EVENTS)


class TransferOffer(Frozen):
    """One file that can be fetched: a TUF target."""

    target: TargetPath = Field(max_length=256)
    digest: DigestHex
    length_bytes: int = Field(ge=1, le=MAX_ARTIFACT_BYTES)
    base: DigestHex | None = None
    """The file that the delta starts from; None for a raw file or a compressed full (empty base)."""
    result: DigestHex
    """What the transfer yields; equals `digest` for a raw file."""


class Candidate(Frozen):
    """One way to come by a file: its transfers are fetched and applied in order."""

    kind: Literal["delta", "chain", "compressed_full", "raw"]
    transfers: tuple[TransferOffer, ...] = Field(min_length=1, max_length=8)

    @property
    def length_bytes(self) -> int:
        """Bytes of payload that this candidate moves over the link."""
        return sum(transfer.length_bytes for transfer in self.transfers)


class FileOffer(Frozen):
    """A file that the vehicle should hold, and the ways to come by it, cheapest first, the raw file last."""

    target: TargetPath = Field(max_length=256)
    file: FileRef
    candidates: tuple[Candidate, ...] = Field(min_length=1, max_length=8)


class Assignment(Frozen):
    """(vehicle, release) decided by a rollout."""

    rollout: Name
    model: Name
    release: ReleaseName
    release_counter: int = Field(ge=1)
    artifact: FileOffer
    manifest: FileOffer


class Instruction(Frozen):
    """The reply to a check-in. Level, not edge: what the vehicle should run, not what it should do next."""

    check_in_after_s: float = Field(ge=0, le=7 * 86_400)
    root_version: int = Field(ge=1)
    """Newest root of the TUF repository, so that the vehicle need not ask for the next one in vain."""
    timestamp_base64: str | None = Field(default=None, max_length=16 << 10)
    """The current TUF timestamp; saves the vehicle a request."""
    assignment: Assignment | None = None
    accepted: tuple[UUID, ...] = ()
    """Events that the registry holds durably; the vehicle drops them from its outbox."""


# ── publisher and operator → registry ───────────────────────────────────────────────────────────────────────────────


class PublishRelease(Frozen):
    """`PUT /api/v1/models/{model}/releases/{release}`: names two blobs uploaded before, and signs for them."""

    artifact: FileRef
    manifest: FileRef
    targets_base64: str = Field(max_length=16 << 20)
    """The next version of TUF `targets` metadata, signed offline, which lists both files of this release."""


class Release(Frozen):
    """One release as the registry shows it."""

    model: Name
    release: ReleaseName
    release_counter: int
    artifact: FileRef
    manifest: FileRef
    published_at: datetime
    metrics: dict[str, float] = Field(default_factory=dict)
    deltas: tuple[TransferOffer, ...] = ()
    """Deltas and the compressed full that lead to this release's artifact and manifest, made so far."""


class Model(Frozen):
    """A named network and its releases, newest first."""

    model: Name
    releases: tuple[Release, ...]


class Enrolment(Frozen):
    """`PUT /api/v1/vehicles/{vehicle}`: the token is made on the vehicle; the registry keeps its sha256 alone."""

    token_sha256: DigestHex


class Vehicle(Frozen):
    """One vehicle as the registry shows it."""

    vehicle: Name
    enrolled_at: datetime
    last_seen_at: datetime | None = None
    manifest: VehicleManifest | None = None
    confirmed: ReleaseName | None = None
    """The release that the vehicle confirmed last: installed is not confirmed."""


class RolloutRequest(Frozen):
    """`PUT /api/v1/rollouts/{rollout}`: bring this release to the fleet."""

    model: Name
    release: ReleaseName
    vehicles: tuple[Name, ...] = Field(default=(), max_length=100_000)
    """The vehicles of the one wave; empty means the whole fleet, with those enrolled later."""


class VehicleProgress(StrEnum):
    """How far one vehicle of a rollout has come."""

    PENDING = "pending"
    UPDATING = "updating"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    FAILED = "failed"


class Rollout(Frozen):
    """A rollout and its progress."""

    rollout: Name
    model: Name
    release: ReleaseName
    state: Literal["preparing", "running", "finished", "superseded"]
    """`preparing` until its deltas are made; `finished` when every vehicle has confirmed."""
    created_at: datetime
    forecast_bytes: int = 0
    """Bytes that the wave would move if every vehicle took its cheapest candidate now."""
    vehicles: dict[Name, VehicleProgress] = Field(default_factory=dict)
    counts: dict[VehicleProgress, int] = Field(default_factory=dict)


class Saving(Frozen):
    """Bytes of one vehicle or of the fleet against sending large models."""

    updates: int
    """Confirmed releases that were brought over the air."""
    received_bytes: int
    sent_bytes: int
    """On the wire, headers and control traffic included, by the vehicles' ledgers."""
    saved_bytes: dict[str, int]
    """By the model that would have been sent instead, in fp32: squeezenet, alexnet, resnet50, vgg16."""


class FleetSavings(Frozen):
    """`GET /api/v1/savings`."""

    fleet: Saving
    vehicles: dict[Name, Saving]


class Problem(Frozen):
    """RFC 9457 problem details: the body of every error, as application/problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    remedy: str = ""
    """What the caller can do (an extension member)."""
