"""Owns what the operator sees while the fleet works: the steps, and a live table of the vehicles."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo.report import StepTime
from ota_protocol.wire import Vehicle

_STATE_STYLE = {"idle": "green", "waiting": "yellow", "failed": "red", "rolling_back": "red", "trial": "cyan"}


class Progress:
    """Shows steps as they pass; on a terminal the vehicles move below the running one.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._last: dict[str, str] = {}
        self.times: list[StepTime] = []
        """The steps that are done."""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show one step while it runs, and keep how long it took if it succeeds."""
        began = time.monotonic()
        with Live(f"[bold]… {title}[/]", console=self._console, transient=True, refresh_per_second=4) as live:
            self._live = live
            self._title = title
            try:
                yield
            finally:
                self._live = None
        seconds = time.monotonic() - began
        self._console.print(f"[green]✓[/] {title} [dim]{seconds:.1f} s[/]")
        self.times.append(StepTime(step=title, seconds=round(seconds, 2)))

    def fleet(self, vehicles: tuple[Vehicle, ...], moved: Mapping[str, int]) -> None:
        """Show where the vehicles are; on a terminal as a table, elsewhere a line for each change.

        Args:
            vehicles: as the registry sees them.
            moved: bytes on each vehicle's link so far, as far as known.
        """
        if self._console.is_terminal and self._live is not None:
            self._live.update(_table(self._title, vehicles, moved))
            return
        for vehicle in vehicles:
            now = f"{_state(vehicle)}, runs {_runs(vehicle)}"
            if self._last.get(vehicle.vehicle) != now:
                self._last[vehicle.vehicle] = now
                self._console.print(f"  {vehicle.vehicle}: {now}")


def _table(title: str, vehicles: tuple[Vehicle, ...], moved: Mapping[str, int]) -> Table:
    table = Table(title=f"… {title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("vehicle", "state", "runs", "on the wire"):
        table.add_column(column, justify="right" if column == "on the wire" else "left", min_width=12)
    for vehicle in vehicles:
        state = _state(vehicle)
        wire = f"{moved[vehicle.vehicle]:,} B" if vehicle.vehicle in moved else "–"
        table.add_row(vehicle.vehicle, f"[{_STATE_STYLE.get(state, 'blue')}]{state}[/]", _runs(vehicle), wire)
    return table


def _state(vehicle: Vehicle) -> str:
    return vehicle.manifest.state if vehicle.manifest else "enrolled"


def _runs(vehicle: Vehicle) -> str:
    active = vehicle.manifest.active if vehicle.manifest else None
    return active.release if active else "nothing yet"
