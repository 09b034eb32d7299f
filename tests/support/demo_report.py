"""A report of a fleet in which everything holds, to be spoiled by tests in one place at a time."""

from __future__ import annotations

from datetime import UTC, datetime

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

FULL = UpdateFigures(release="1.0.0", via="full", resumed=0, payload_bytes=640_000, wire_bytes=650_000, seconds=4.0)
DELTA = UpdateFigures(release="1.1.0", via="delta", resumed=0, payload_bytes=70_000, wire_bytes=75_000, seconds=2.0)


def vehicle(profile: str, *updates: UpdateFigures, budget_bytes: int | None = None, cuts: int = 0) -> VehicleFigures:
    """Return one vehicle that did well."""
    answer = {"coffee.jpg": PredictionFigures(label="espresso", probability=0.8)}
    earlier = {"coffee.jpg": PredictionFigures(label="coffee mug", probability=0.4)}
    received = sum(update.wire_bytes for update in updates)
    return VehicleFigures(
        vehicle=profile,
        profile=profile,
        link_class="cellular" if budget_bytes else "wifi",
        release="1.1.0",
        updates=updates,
        sent_bytes=1_000,
        received_bytes=received,
        link_bytes=1_000 + received,
        link_cuts=cuts,
        budget_bytes=budget_bytes,
        budget_period_s=8.0 if budget_bytes else None,
        most_in_a_period_bytes=budget_bytes - 10_000 if budget_bytes else None,
        frames_served=300,
        frames_lost=0,
        before=earlier if len(updates) > 1 else {},
        after=answer,
    )


def good_report() -> Report:
    """Return a report in which every check holds; its own `checks` are empty."""
    resumed = FULL.model_copy(update={"resumed": 3})
    vehicles = (
        vehicle("flaky", resumed, DELTA, cuts=3),
        vehicle("late", FULL.model_copy(update={"release": "1.1.0"})),
        vehicle("metered", resumed, DELTA, budget_bytes=300_000),
        vehicle("wifi", FULL, DELTA),
    )
    moved = sum(each.sent_bytes + each.received_bytes for each in vehicles)
    return Report(
        fleet="processes",
        started_at=datetime(2026, 11, 23, 8, 0, tzinfo=UTC),
        seconds=80.0,
        steps=(StepTime(step="Bring up the registry", seconds=1.5),),
        releases=(
            ReleaseFigures(
                release="1.0.0",
                artifact_bytes=1_300_000,
                manifest_bytes=30_000,
                transfers={"deltas/empty-0123.sqd": 630_000},
                metrics={"top1": 0.6},
            ),
        ),
        vehicles=vehicles,
        updates=7,
        moved_bytes=moved,
        registry_moved_bytes=moved - 2_000,
        savings=tuple(_saving(name, moved) for name in FP32_BYTES),
        checks=(),
    )


def _saving(network: str, moved_bytes: int) -> SavingFigures:
    would = 7 * FP32_BYTES[network]
    saved = would - moved_bytes
    return SavingFigures(
        network=network,
        fp32_bytes=FP32_BYTES[network],
        would_send_bytes=would,
        saved_bytes=saved,
        registry_saved_bytes=saved + 2_000,
        saved_share=saved / would,
    )
