"""Owns how the report looks on the operator's screen."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table

from demo.report import PredictionFigures, Report, VehicleFigures

FRAMES_SHOWN = 2
"""Frames whose answer changed most, shown for each vehicle; the report has all of them."""
_NETWORKS = {"squeezenet": "SqueezeNet", "alexnet": "AlexNet", "resnet50": "ResNet-50", "vgg16": "VGG-16"}


def show(report: Report, console: Console) -> None:
    """Print the whole report."""
    console.print(Group("", _vehicles(report), "", _predictions(report), "", _savings(report), "", *_checks(report)))


def _vehicles(report: Report) -> Table:
    table = _table(
        "How the releases came", "vehicle", "link", "release", "came as", "on the wire", "time", "frames", "lost"
    )
    for vehicle in report.vehicles:
        first, *_ = cells = [_update_cells(vehicle, index) for index in range(len(vehicle.updates))] or [("–",) * 4]
        frames = (f"{vehicle.frames_served:,}", f"{vehicle.frames_lost}")
        table.add_row(vehicle.vehicle, _link(vehicle), *first, *frames)
        for row in cells[1:]:
            table.add_row("", "", *row, "", "")
        table.add_section()
    return table


def _update_cells(vehicle: VehicleFigures, index: int) -> tuple[str, ...]:
    update = vehicle.updates[index]
    came = f"{update.via}, resumed {update.resumed}×" if update.resumed else update.via
    return update.release, came, f"{update.wire_bytes:,} B", f"{update.seconds:.1f} s"


def _link(vehicle: VehicleFigures) -> str:
    if vehicle.budget_bytes is not None:
        return f"{vehicle.link_class}, {vehicle.budget_bytes:,} B in {vehicle.budget_period_s:g} s"
    return f"{vehicle.link_class}, cut {vehicle.link_cuts}×" if vehicle.link_cuts else vehicle.link_class


def _predictions(report: Report) -> Table:
    table = _table("What the vehicles see", "vehicle", "frame", "first release", "second release")
    for vehicle in report.vehicles:
        for frame in _most_changed(vehicle):
            table.add_row(vehicle.vehicle, frame, _shown(vehicle.before.get(frame)), _shown(vehicle.after.get(frame)))
        table.add_section()
    return table


def _most_changed(vehicle: VehicleFigures) -> list[str]:
    def change(frame: str) -> float:
        before, after = vehicle.before.get(frame), vehicle.after[frame]
        if before is None:
            return 0.0
        return abs(after.probability - before.probability) + (after.label != before.label)

    return sorted(vehicle.after, key=change, reverse=True)[:FRAMES_SHOWN]


def _shown(prediction: PredictionFigures | None) -> str:
    if prediction is None:
        return "–"
    return f"{prediction.label.partition(',')[0]} {prediction.probability:.2f}"


def _savings(report: Report) -> Table:
    title = f"{report.updates} updates moved {report.moved_bytes:,} B, control traffic included. The same in fp32:"
    table = _table(title, "network", "one copy", "all updates", "saved", "share")
    for saving in report.savings:
        table.add_row(
            _NETWORKS.get(saving.network, saving.network),
            f"{saving.fp32_bytes:,} B",
            f"{saving.would_send_bytes:,} B",
            f"{saving.saved_bytes:,} B",
            f"{saving.saved_share:.2%}",
        )
    table.caption = report.savings_source
    table.caption_justify = "left"
    return table


def _checks(report: Report) -> Iterator[RenderableType]:
    for check in report.checks:
        mark = "[green]✓[/]" if check.ok else "[bold red]✗[/]"
        yield f"{mark} {check.check} [dim]({check.detail})[/]"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        figure = column in {"on the wire", "time", "frames", "lost", "one copy", "all updates", "saved", "share"}
        table.add_column(column, justify="right" if figure else "left")
    return table
