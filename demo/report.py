"""Owns the report: the figures of one run of the fleet, in a schema that the demo and the containers share.

`docs/demo.md` explains each field. Does not own how figures are gathered (`observation`) or judged (`checks`).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from demo.profiles import LinkClass
from ota_protocol.errors import StorageError
from ota_protocol.manifest import Frozen

SOURCE: Final = (
    "Parameters times four bytes: SqueezeNet 1.0 (1,248,424) and AlexNet (60,965,224) as in Iandola et al. 2016, "
    "arXiv:1602.07360; ResNet-50 (25,557,032) and VGG-16 (138,357,544) as in torchvision's tables."
)

Frame = str
"""File name of a frame, without its folder."""


class StepTime(Frozen):
    """One step of the story and how long it took."""

    step: str = Field(description="what was done")
    seconds: float = Field(description="how long it took")


class ReleaseFigures(Frozen):
    """One release as it was published."""

    release: str = Field(description="its name")
    artifact_bytes: int = Field(description="length of the ONNX file")
    manifest_bytes: int = Field(description="length of the model manifest")
    transfers: dict[str, int] = Field(
        description="length of each delta and compressed full that the registry made for it, by TUF target"
    )
    metrics: dict[str, float] = Field(description="what the build stage measured: top1, agreement, parameters, ...")


class UpdateFigures(Frozen):
    """One release on its way to one vehicle."""

    release: str = Field(description="what was brought")
    via: Literal["full", "delta", "chain", "raw"] = Field(description="how it came")
    resumed: int = Field(description="times a download went on after a drop or a wait for the budget")
    payload_bytes: int = Field(description="bytes of artifact and manifest transfers")
    wire_bytes: int = Field(description="bytes on the wire for it, headers and control traffic included")
    seconds: float = Field(description="from assignment to confirmation")


class PredictionFigures(Frozen):
    """What a vehicle saw in a frame."""

    label: str = Field(description="most probable class")
    probability: float = Field(description="its probability")


class VehicleFigures(Frozen):
    """One vehicle at the end of the story."""

    vehicle: str = Field(description="its name")
    profile: str = Field(description="wifi, metered, flaky or late")
    link_class: LinkClass = Field(description="class of its link")
    release: str | None = Field(description="the release that it confirmed last")
    updates: tuple[UpdateFigures, ...] = Field(description="its confirmed updates, oldest first")
    sent_bytes: int = Field(description="by its own ledger, since enrolment")
    received_bytes: int = Field(description="by its own ledger, since enrolment")
    link_bytes: int = Field(description="both ways, as its link counted them from outside")
    link_cuts: int = Field(description="connections that its link reset")
    budget_bytes: int | None = Field(description="bytes allowed in one period; null without a budget")
    budget_period_s: float | None = Field(description="length of that period")
    most_in_a_period_bytes: int | None = Field(description="the most that its link counted in one period")
    frames_served: int = Field(description="frames answered with a prediction")
    frames_lost: int = Field(description="frames not answered")
    before: dict[Frame, PredictionFigures] = Field(description="predictions of the first release; empty if it had none")
    after: dict[Frame, PredictionFigures] = Field(description="predictions of the second release")


class SavingFigures(Frozen):
    """Bytes moved against sending one large network in fp32 for each update."""

    network: str = Field(description="squeezenet, alexnet, resnet50 or vgg16")
    fp32_bytes: int = Field(description="its size in fp32")
    would_send_bytes: int = Field(description="that size times the fleet's confirmed updates")
    saved_bytes: int = Field(description="what was not sent: would_send_bytes less the fleet's moved_bytes")
    registry_saved_bytes: int = Field(description="the same by the registry's account")
    saved_share: float = Field(description="saved_bytes / would_send_bytes")


class CheckResult(Frozen):
    """One thing that has to hold."""

    check: str = Field(description="what has to hold")
    ok: bool = Field(description="whether it does")
    detail: str = Field(description="the figures that it was judged by")


class Report(Frozen):
    """One run of the fleet."""

    format: Literal[1] = Field(default=1, description="version of this schema")
    fleet: Literal["processes", "containers"] = Field(description="what the vehicles ran as")
    started_at: datetime = Field(description="when the story began (UTC)")
    seconds: float = Field(description="how long it took")
    steps: tuple[StepTime, ...] = Field(description="its steps")
    releases: tuple[ReleaseFigures, ...] = Field(description="the releases, oldest first")
    vehicles: tuple[VehicleFigures, ...] = Field(description="the vehicles, by name")
    updates: int = Field(description="confirmed updates of the whole fleet")
    moved_bytes: int = Field(description="bytes on the wire of the whole fleet, both ways, by its ledgers")
    registry_moved_bytes: int = Field(description="the same by the registry's account, which is a little behind")
    savings: tuple[SavingFigures, ...] = Field(description="against larger networks")
    savings_source: str = Field(default=SOURCE, description="where the sizes of those networks come from")
    checks: tuple[CheckResult, ...] = Field(description="all that has to hold")

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)


def write_report(report: Report, file: Path) -> None:
    """Write the report as JSON: whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    new = file.with_name(f"{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w") as out:
            out.write(report.model_dump_json(indent=2) + "\n")
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}", remedy="give another --report") from error
