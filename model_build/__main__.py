"""Owns the command line `ota-build`: its subcommands, and how an error becomes one line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from model_build.commands.describe import describe
from model_build.commands.evaluate import evaluate
from model_build.commands.export import export
from model_build.commands.finetune_head import finetune_head
from model_build.commands.publish import publish
from model_build.compress_command import compress
from ota_protocol.errors import OtaError

app = typer.Typer(
    help="Build, compress, evaluate, sign and publish SqueezeNet as ONNX releases.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(describe)
app.command()(export)
app.command()(compress)
app.command()(evaluate)
app.command("finetune-head")(finetune_head)
app.command()(publish)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `ota-build`; an error is one line on standard error and the exit code of its family.

    Args:
        arguments: what follows the command's name; None takes the process's own.
    """
    try:
        app(arguments)
    except OtaError as error:
        typer.echo(f"ota-build: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
