"""Owns the figures of a network that a reader of the paper expects: sizes, kernels, parameters, operations."""

from __future__ import annotations

from dataclasses import dataclass

from model_build.squeezenet import Architecture, Convolution, Fire, MaxPool, Stage


@dataclass(frozen=True, slots=True)
class Row:
    """One stage, or one convolution of a Fire module.

    Args:
        output: (height, width, channels) after it.
        kernel: such as `7×7/2`.
    """

    name: str
    output: tuple[int, int, int]
    kernel: str
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A Fire module against one plain 3×3 convolution between the same channels; biases are left out."""

    inputs: int
    outputs: int
    squeeze: int
    plain: int
    fire: int

    @property
    def saved(self) -> float:
        """Share of the parameters that the Fire module saves."""
        return 1 - self.fire / self.plain


def rows(architecture: Architecture) -> tuple[Row, ...]:
    """Return the table of a network, top to bottom, Fire modules opened up."""
    found: list[Row] = []
    channels = 0
    for stage, before, after in architecture.sizes():
        channels = channels if isinstance(stage, MaxPool) else stage.outputs
        found.extend(_rows(stage, before, after, channels))
    return tuple(found)


def compare(inputs: int, outputs: int, squeeze: int) -> Comparison:
    """Return what a Fire module (half of its expand filters 3×3) needs against a plain 3×3 convolution.

    Args:
        inputs: input channels M.
        outputs: output channels N; even.
        squeeze: squeeze filters s: s·M + N/2·s + 9·N/2·s weights, against 9·M·N.
    """
    half = outputs // 2
    fire = Fire("fire", inputs, squeeze, outputs - half, half)
    plain = Convolution("plain", inputs, outputs, kernel_px=3, padding=1)
    weights = sum(one.parameters - one.outputs for one in fire.convolutions)
    return Comparison(inputs, outputs, squeeze, plain.parameters - plain.outputs, weights)


def _rows(stage: Stage, before: int, after: int, channels: int) -> list[Row]:
    if isinstance(stage, MaxPool):
        return [Row(stage.name, (after, after, channels), f"max {_kernel(stage)}", 0, 0)]
    parts = (stage,) if isinstance(stage, Convolution) else stage.convolutions
    return [
        Row(part.name, (after, after, part.outputs), _kernel(part), part.parameters, part.macs(before))
        for part in parts
    ]


def _kernel(stage: Convolution | MaxPool) -> str:
    stride = f"/{stage.stride}" if stage.stride > 1 else ""
    return f"{stage.kernel_px}×{stage.kernel_px}{stride}"
