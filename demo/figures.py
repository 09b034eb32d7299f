"""Owns the step from what was seen to the report's figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from demo.observation import AgentStatus, Observation
from demo.profiles import BY_NAME
from demo.report import (
    PredictionFigures,
    ReleaseFigures,
    Report,
    SavingFigures,
    StepTime,
    UpdateFigures,
    VehicleFigures,
)
from ota_protocol.reference import FP32_BYTES
from ota_protocol.wire import FleetSavings, Release, Vehicle

Via = Literal["full", "delta", "chain", "raw"]


@dataclass(frozen=True, slots=True)
class Run:
    """All that was seen of one run.

    Args:
        fleet: what the vehicles ran as.
        started_at: when the story began (UTC).
        seconds: how long it took.
        steps: its steps.
        releases: as the registry shows them at the end, oldest first.
        vehicles: as the registry shows them at the end.
        savings: the registry's account.
        before: the vehicles after they confirmed the first release.
        after: the vehicles at the end.
    """

    fleet: Literal["processes", "containers"]
    started_at: datetime
    seconds: float
    steps: tuple[StepTime, ...]
    releases: tuple[Release, ...]
    vehicles: tuple[Vehicle, ...]
    savings: FleetSavings
    before: Mapping[str, Observation]
    after: Mapping[str, Observation]


def figures(run: Run) -> Report:
    """Return the report of a run, without its checks."""
    confirmed = {vehicle.vehicle: vehicle.confirmed for vehicle in run.vehicles}
    fleet = run.savings.fleet
    moved = sum(seen.status.ledger.sent + seen.status.ledger.received for seen in run.after.values())
    return Report(
        fleet=run.fleet,
        started_at=run.started_at,
        seconds=round(run.seconds, 1),
        steps=run.steps,
        releases=tuple(map(_release, run.releases)),
        vehicles=tuple(
            _vehicle(name, run.after[name], run.before.get(name), confirmed.get(name)) for name in sorted(run.after)
        ),
        updates=fleet.updates,
        moved_bytes=moved,
        registry_moved_bytes=fleet.received_bytes + fleet.sent_bytes,
        savings=tuple(_saving(name, fleet.updates, moved, saved) for name, saved in fleet.saved_bytes.items()),
        checks=(),
    )


def _release(release: Release) -> ReleaseFigures:
    return ReleaseFigures(
        release=release.release,
        artifact_bytes=release.artifact.length_bytes,
        manifest_bytes=release.manifest.length_bytes,
        transfers={offer.target: offer.length_bytes for offer in release.deltas},
        metrics=release.metrics,
    )


def _vehicle(name: str, seen: Observation, before: Observation | None, confirmed: str | None) -> VehicleFigures:
    profile, status, traffic = BY_NAME[seen.profile], seen.status, seen.traffic
    return VehicleFigures(
        vehicle=name,
        profile=profile.name,
        link_class=profile.link_class,
        release=confirmed,
        updates=tuple(_updates(status)),
        sent_bytes=status.ledger.sent,
        received_bytes=status.ledger.received,
        link_bytes=traffic.up + traffic.down,
        link_cuts=traffic.cut,
        budget_bytes=profile.budget_bytes,
        budget_period_s=profile.budget_period_s,
        most_in_a_period_bytes=max(traffic.periods.values(), default=None),
        frames_served=status.frames.served,
        frames_lost=status.frames.lost,
        before=_predictions(before.status) if before else {},
        after=_predictions(status),
    )


def _updates(status: AgentStatus) -> Iterable[UpdateFigures]:
    for update in status.updates:
        if update.result == "confirmed":
            yield UpdateFigures(
                release=update.release,
                via=cast("Via", update.via),
                resumed=update.resumed,
                payload_bytes=update.payload_bytes,
                wire_bytes=update.wire_bytes,
                seconds=round(update.seconds, 2),
            )


def _predictions(status: AgentStatus) -> dict[str, PredictionFigures]:
    return {
        seen.frame: PredictionFigures(label=seen.label, probability=round(seen.probability, 4))
        for seen in sorted(status.predictions, key=lambda seen: seen.frame)
    }


def _saving(network: str, updates: int, moved_bytes: int, registry_saved_bytes: int) -> SavingFigures:
    would_send = FP32_BYTES[network] * updates
    saved_bytes = would_send - moved_bytes
    return SavingFigures(
        network=network,
        fp32_bytes=FP32_BYTES[network],
        would_send_bytes=would_send,
        saved_bytes=saved_bytes,
        registry_saved_bytes=registry_saved_bytes,
        saved_share=round(saved_bytes / would_send, 4) if would_send else 0.0,
    )
