"""Owns `ota-build describe`: the architecture as tables, in the terms of the paper."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model_build.commands.options import ArchitectureName
from model_build.describe import Row, compare, rows
from model_build.squeezenet import INPUT_CHANNELS, Architecture, FireGenerator, squeezenet_1_0, squeezenet_1_1
from ota_protocol.errors import RequestError
from ota_protocol.reference import FP32_PARAMETERS

FIRE_INPUTS, FIRE_OUTPUTS = 256, 512
"""Channels between which a Fire module is compared with a plain convolution: M and N."""
FIRE_SQUEEZES = (32, 64)
"""Squeeze filters s: at squeeze ratio 0.125, the paper's, 512 expand filters have 64."""


def describe(
    *,
    architecture: Annotated[ArchitectureName, typer.Option(help="Which SqueezeNet.")] = ArchitectureName.V1_0,
    base_expand: Annotated[int | None, typer.Option(help="Expand filters of the first Fire modules.", min=1)] = None,
    expand_increment: Annotated[
        int | None, typer.Option(help="Expand filters that are added at each step.", min=0)
    ] = None,
    frequency: Annotated[int | None, typer.Option(help="Fire modules from one step to the next.", min=1)] = None,
    squeeze_ratio: Annotated[float | None, typer.Option(help="Squeeze filters per expand filter.")] = None,
    share_3x3: Annotated[float | None, typer.Option(help="Share of expand filters that is 3×3.")] = None,
) -> None:
    """Print a network layer by layer, and Fire against plain convolution; metaparameters vary the Fire modules."""
    given = {
        "base_expand": base_expand,
        "expand_increment": expand_increment,
        "frequency": frequency,
        "squeeze_ratio": squeeze_ratio,
        "share_3x3": share_3x3,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    make = squeezenet_1_0 if architecture is ArchitectureName.V1_0 else squeezenet_1_1
    try:
        network = make(FireGenerator(**chosen))  # type: ignore[arg-type]
    except ValueError as error:
        raise RequestError(f"no Fire modules can be made: {error}") from error
    console = Console(highlight=False)
    console.print(_layers(network))
    console.print(_fire())
    console.print(_totals(network))


def _layers(network: Architecture) -> Table:
    side = network.input_px
    table = Table(title=f"{network.name}, input {side}×{side}×{INPUT_CHANNELS}", title_justify="left")
    table.add_column("layer")
    for title in ("output", "kernel", "parameters", "MACs"):
        table.add_column(title, justify="right")
    for row in rows(network):
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row("total", f"1×1×{network.classes}", "", f"{network.parameters:,}", f"{network.macs:,}")
    return table


def _cells(row: Row) -> tuple[str, ...]:
    height, width, channels = row.output
    counts = (f"{count:,}" if count else "" for count in (row.parameters, row.macs))
    return (row.name, f"{height}×{width}×{channels}", row.kernel, *counts)


def _fire() -> Table:
    found = [compare(FIRE_INPUTS, FIRE_OUTPUTS, squeeze) for squeeze in FIRE_SQUEEZES]
    table = Table("module", title=f"Fire against plain, M={FIRE_INPUTS}, N={FIRE_OUTPUTS}", title_justify="left")
    table.add_column("weights", justify="right")
    table.add_column("fewer", justify="right")
    table.add_row("plain 3×3: 9·M·N", f"{found[0].plain:,}", "")
    for one in found:
        table.add_row(f"Fire, s={one.squeeze}: s·(M + N/2 + 9·N/2)", f"{one.fire:,}", f"{100 * one.saved:.2f} %")
    return table


def _totals(network: Architecture) -> Table:
    alexnet = FP32_PARAMETERS["alexnet"]
    table = Table("", "parameters", "fp32 MB", title="Beside AlexNet", title_justify="left")
    for name, count in ((network.name, network.parameters), ("AlexNet", alexnet)):
        table.add_row(name, f"{count:,}", f"{4 * count / 1e6:.2f}")
    table.add_row("AlexNet is larger", f"{alexnet / network.parameters:.1f} times", "")
    return table
