"""Owns the command line of a vehicle: `ota-agent enrol | run | status`. Errors become one line and an exit status."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from edge_client.settings import AgentSettings
from ota_protocol.errors import OtaError, RequestError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

StateOption = Annotated[Path, typer.Option("--state", envvar="SQUEEZEOTA_AGENT_STATE", help="folder of the agent")]


@app.callback()
def describe() -> None:
    """The vehicle agent of SqueezeOTA."""


@app.command()
def enrol(
    state: StateOption,
    registry: Annotated[str, typer.Option(envvar="SQUEEZEOTA_AGENT_REGISTRY", help="address of the registry")],
    vehicle: Annotated[str, typer.Option(envvar="SQUEEZEOTA_AGENT_VEHICLE", help="name of this vehicle")],
    enrolment_token_file: Annotated[
        Path, typer.Option(envvar="SQUEEZEOTA_AGENT_ENROLMENT_TOKEN_FILE", help="file with the enrolment token")
    ],
    root: Annotated[Path, typer.Option(envvar="SQUEEZEOTA_AGENT_ROOT", help="root.json to trust from now on")],
) -> None:
    """Make this vehicle known to a registry; may be repeated."""
    from edge_client.enrolment import enrol as make_known  # noqa: PLC0415  (TUF takes 100 ms that --help need not pay)

    with _clear_errors():
        token = _read(enrolment_token_file, "the enrolment token").decode(errors="replace").strip()
        make_known(state, registry, vehicle, enrolment_token=token, root=_read(root, "the root"))
        typer.echo(f"{vehicle} is enrolled at {registry}")


@app.command()
def run(
    *,
    state: StateOption,
    frames: Annotated[Path | None, typer.Option(help="folder of pictures to infer on")] = None,
    link_class: Annotated[str | None, typer.Option(help="wifi, cellular or roaming")] = None,
    download_on: Annotated[str | None, typer.Option(help="link classes that may download, with commas")] = None,
    budget_bytes: Annotated[int | None, typer.Option(help="bytes allowed per period, both ways")] = None,
    budget_period_s: Annotated[float | None, typer.Option(help="length of a budget period")] = None,
    rate_bytes_per_s: Annotated[int | None, typer.Option(help="cap on bytes per second")] = None,
    check_in_s: Annotated[float | None, typer.Option(help="seconds between check-ins")] = None,
    frame_interval_s: Annotated[float | None, typer.Option(help="seconds between frames")] = None,
    trial_frames: Annotated[int | None, typer.Option(help="frames a new model must answer")] = None,
    trial_timeout_s: Annotated[float | None, typer.Option(help="longest trial")] = None,
    trial_boots: Annotated[int | None, typer.Option(help="starts within one trial before it rolls back")] = None,
    self_test_timeout_s: Annotated[float | None, typer.Option(help="longest self-test")] = None,
    request_timeout_s: Annotated[float | None, typer.Option(help="longest silence on the link")] = None,
    attempts: Annotated[int | None, typer.Option(help="failures before a release rests")] = None,
    backoff_s: Annotated[float | None, typer.Option(help="first wait after a failure")] = None,
    backoff_max_s: Annotated[float | None, typer.Option(help="longest wait after a failure")] = None,
    cooldown_s: Annotated[float | None, typer.Option(help="longest rest of a release")] = None,
) -> None:
    """Run the agent until SIGTERM; every option can be set as SQUEEZEOTA_AGENT_<NAME> too."""
    given = {name: value for name, value in locals().items() if value is not None}
    with _clear_errors():
        _run(_settings(given))


@app.command()
def status(state: StateOption) -> None:
    """Print what the agent does and has, as JSON."""
    from edge_client.status import report  # noqa: PLC0415  (as above)

    with _clear_errors():
        typer.echo(json.dumps(report(state), indent=2))


def _run(settings: AgentSettings) -> None:
    from edge_client.agent import Agent  # noqa: PLC0415  (onnxruntime takes 200 ms that --help need not pay)
    from edge_client.composition import compose  # noqa: PLC0415

    if settings.frames is None:
        raise RequestError("no folder of frames is given", remedy="give one with --frames")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("tuf").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _setter(stop))
    with compose(settings, stop) as parts:
        Agent(parts).run()


def _setter(stop: threading.Event) -> Callable[[int, object], None]:
    return lambda *_: stop.set()


def _settings(given: dict[str, Any]) -> AgentSettings:
    try:
        return AgentSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-") if first["loc"] else "settings"
        raise RequestError(f"--{name}: {first['msg']}", remedy="see `ota-agent run --help`") from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read {what} from {path}: {error.strerror}", remedy="check the path") from error


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except OtaError as error:
        typer.echo(f"ota-agent: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def main() -> None:
    """Entry point of `ota-agent`."""
    app()


if __name__ == "__main__":
    main()
