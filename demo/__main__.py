"""Owns the command `ota-demo`: the fleet on one machine, its end, and the part that leads the containers' fleet."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from demo.command import Commands, scripts_folder
from demo.containers import Containers
from demo.fleet import Fleet, stop_recorded
from demo.one_machine import OneMachine, Places, prepare_state
from demo.pictures import data_folder
from demo.progress import Progress
from demo.report import Report, write_report
from demo.story import Story
from demo.table import show
from ota_protocol.errors import OtaError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The SqueezeOTA demo fleet.")

StateOption = Annotated[Path, typer.Option(help="Folder for all that the demo makes; emptied at the start.")]
ReportOption = Annotated[Path, typer.Option(help="Where the figures go, as JSON.")]

LOG_WIDTH = 130
FELL_SHORT = 1
STOPPED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Exit code where the story came to its end but a check does not hold."""


@app.command()
def run(
    state: StateOption = Path("demo-state"),
    report: ReportOption = Path("demo-report.json"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the fleet running, and say where to look.")] = False,
) -> None:
    """Bring two releases to four vehicles on this machine, and count the bytes."""
    console = _console()
    places = prepare_state(state.resolve())
    fleet = Fleet(places.state, scripts_folder())
    _end_in_order()
    kept = False
    try:
        stage = OneMachine(places, fleet, Commands(scripts_folder(), places.state / "logs"), data_folder())
        told = Story(stage, data_folder(), Progress(console)).tell()
        _finish(told, report, console)
        kept = keep
    finally:
        if not kept:
            _deaf_to_signals()
            fleet.stop()
    if keep:
        _say_where(console, places, stage.url)
    raise typer.Exit(0 if told.ok else FELL_SHORT)


@app.command()
def stop(state: StateOption = Path("demo-state")) -> None:
    """Stop a fleet that was left running."""
    names = stop_recorded(state.resolve())
    Console().print(f"stopped {', '.join(names)}" if names else f"nothing of {state} was running")


@app.command()
def lead(
    *,
    registry: Annotated[str, typer.Option(envvar="REGISTRY_URL", help="The registry's address.")],
    token_file: Annotated[Path, typer.Option(envvar="TOKEN_FILE", help="Holds the operator's token.")],
    targets_key: Annotated[Path, typer.Option(envvar="TARGETS_KEY", help="The offline key that signs releases.")],
    shown: Annotated[Path, typer.Option(envvar="SHOWN", help="Where vehicles show themselves.")],
    photographs: Annotated[Path, typer.Option(envvar="PHOTOGRAPHS", help="Folder of scikit-image's photographs.")],
    vehicles: Annotated[int, typer.Option(envvar="VEHICLES", min=1, help="How many vehicles there are.")],
    work: Annotated[Path, typer.Option(envvar="WORK", help="Where pictures and releases are kept.")],
    report: Annotated[Path, typer.Option(envvar="REPORT", help="Where the figures go, as JSON.")],
) -> None:
    """Bring two releases to a fleet that others started, such as that of docker-compose.yml, and count the bytes."""
    console = _console()
    if report.exists():
        told = Report.model_validate_json(report.read_bytes())
        show(told, console)
        console.print(f"This fleet's story is told already: {report}. Remove it and its volumes to begin again.")
        raise typer.Exit(0 if told.ok else FELL_SHORT)
    (work / "logs").mkdir(parents=True, exist_ok=True)
    commands = Commands(scripts_folder(), work / "logs")
    stage = Containers(registry, token_file, targets_key, work, shown, vehicles, commands)
    told = Story(stage, photographs, Progress(console)).tell()
    _finish(told, report, console)
    raise typer.Exit(0 if told.ok else FELL_SHORT)


def _finish(report: Report, file: Path, console: Console) -> None:
    write_report(report, file)
    show(report, console)
    console.print(f"\n[bold]{'All of it holds.' if report.ok else '[red]Something fell short.[/]'}[/] Figures: {file}")


def _console() -> Console:
    """Return the operator's terminal; a log has no width of its own, and gets one that the tables fit into."""
    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH)


def _say_where(console: Console, places: Places, url: str) -> None:
    console.print(f"\nThe fleet goes on. Registry: {url} (API: {url}/docs, metrics: {url}/metrics)")
    console.print(f"Operator's token: {places.operator_token}; enrolment token: {places.keys / 'enrolment.token'}")
    console.print(f"A vehicle: ota-agent status --state {places.vehicle('wifi')}; logs: {places.state / 'logs'}")
    console.print(f"Stop it: ota-demo stop --state {places.state}")


def _end_in_order() -> None:
    """Take every wish to end as Ctrl-C; SIGINT among them, which a shell makes its background jobs ignore."""
    for number in STOPPED_BY:
        signal.signal(number, _interrupted)


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _deaf_to_signals() -> None:
    """Let nothing interrupt the end: a second Ctrl-C would leave processes behind."""
    for number in STOPPED_BY:
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """Run the command; an error is one line and an exit code."""
    try:
        app()
    except OtaError as error:
        Console(stderr=True, soft_wrap=True).print(f"ota-demo: {error}", style="red", markup=False, highlight=False)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
