"""Owns the architecture: SqueezeNet 1.0 and 1.1, and the Fire generator of the paper's design space. No weights.

Source: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size" (2016,
arXiv:1602.07360), table 1 for 1.0 and section 5.1 for the metaparameters; 1.1 and the padding of conv10 as in the
network definitions that the authors released with their weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

INPUT_PX = 227
"""Side of the square input of both released networks."""
INPUT_CHANNELS = 3
CLASSES = 1000
FIRST_FIRE = 2
"""Layers are numbered as in the paper: conv1, fire2 ... fire9, conv10."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """A square convolution with bias, followed by ReLU."""

    name: str
    inputs: int
    outputs: int
    kernel_px: int = 1
    stride: int = 1
    padding: int = 0

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """(outputs, inputs, height, width)."""
        return (self.outputs, self.inputs, self.kernel_px, self.kernel_px)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.outputs * (self.inputs * self.kernel_px**2 + 1)

    def output_px(self, input_px: int) -> int:
        """Return the side of the output for a square input of side `input_px`."""
        return (input_px + 2 * self.padding - self.kernel_px) // self.stride + 1

    def macs(self, input_px: int) -> int:
        """Return the multiply-accumulate operations for a square input of side `input_px`; biases are not counted."""
        return self.output_px(input_px) ** 2 * self.outputs * self.inputs * self.kernel_px**2


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Overlapping 3×3 maximum at stride 2; the last window may reach over the edge, as in Caffe (ceil mode)."""

    name: str
    kernel_px: int = 3
    stride: int = 2

    def output_px(self, input_px: int) -> int:
        """Return the side of the output for a square input of side `input_px`."""
        return -((self.kernel_px - input_px) // self.stride) + 1


@dataclass(frozen=True, slots=True)
class Fire:
    """A squeeze layer of 1×1 filters that feeds an expand layer of 1×1 and 3×3 filters, concatenated."""

    name: str
    inputs: int
    squeeze: int
    expand1x1: int
    expand3x3: int

    @property
    def outputs(self) -> int:
        """Channels after the concatenation, 1×1 filters first."""
        return self.expand1x1 + self.expand3x3

    @property
    def convolutions(self) -> tuple[Convolution, Convolution, Convolution]:
        """Squeeze, expand 1×1, expand 3×3."""
        return (
            Convolution(f"{self.name}/squeeze1x1", self.inputs, self.squeeze),
            Convolution(f"{self.name}/expand1x1", self.squeeze, self.expand1x1),
            Convolution(f"{self.name}/expand3x3", self.squeeze, self.expand3x3, kernel_px=3, padding=1),
        )

    @property
    def parameters(self) -> int:
        """Weights and biases of all three convolutions."""
        return sum(convolution.parameters for convolution in self.convolutions)


Stage = Convolution | MaxPool | Fire


@dataclass(frozen=True, slots=True)
class Architecture:
    """The stages from the picture to the class maps; global average pooling and softmax follow."""

    name: str
    stages: tuple[Stage, ...]
    input_px: int = INPUT_PX

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """Every layer that has weights, in the order of the computation."""
        return tuple(self._convolutions())

    @property
    def head(self) -> Convolution:
        """conv10: the linear classifier."""
        return self.convolutions[-1]

    @property
    def classes(self) -> int:
        """Classes that the network tells apart."""
        return self.head.outputs

    @property
    def rim_share(self) -> float:
        """Share of the head's positions that see padding alone: zeros, if its kernel is one pixel."""
        size = next(side for stage, side, _ in self.sizes() if stage is self.stages[-1])
        return 1 - (size / (size + 2 * self.head.padding)) ** 2 if self.head.kernel_px == 1 else 0.0

    @property
    def parameters(self) -> int:
        """Weights and biases of all layers."""
        return sum(convolution.parameters for convolution in self.convolutions)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations for one picture."""
        return sum(convolution.macs(size) for convolution, size in self._sized_convolutions())

    def with_classes(self, classes: int) -> Architecture:
        """Return the same network with a head for `classes` classes."""
        return replace(self, stages=(*self.stages[:-1], replace(self.head, outputs=classes)))

    def sizes(self) -> Iterator[tuple[Stage, int, int]]:
        """Yield each stage with the side of its input and of its output, in pixels."""
        size = self.input_px
        for stage in self.stages:
            after = size if isinstance(stage, Fire) else stage.output_px(size)
            yield stage, size, after
            size = after

    def _convolutions(self) -> Iterator[Convolution]:
        for stage in self.stages:
            if isinstance(stage, Convolution):
                yield stage
            elif isinstance(stage, Fire):
                yield from stage.convolutions

    def _sized_convolutions(self) -> Iterator[tuple[Convolution, int]]:
        for stage, size, _ in self.sizes():
            if isinstance(stage, Convolution):
                yield stage, size
            elif isinstance(stage, Fire):
                yield from ((convolution, size) for convolution in stage.convolutions)


@dataclass(frozen=True, slots=True)
class FireGenerator:
    """The metaparameters of section 5.1, from which every Fire module of a network follows.

    Fire module i (from 0) has `base_expand + expand_increment * floor(i / frequency)` expand filters, of which the
    share `share_3x3` is 3×3, and `squeeze_ratio` times as many squeeze filters.
    """

    base_expand: int = 128
    expand_increment: int = 128
    frequency: int = 2
    squeeze_ratio: float = 0.125
    share_3x3: float = 0.5

    def __post_init__(self) -> None:
        if self.base_expand < 1 or self.expand_increment < 0 or self.frequency < 1:
            raise ValueError("base_expand and frequency must be at least 1, expand_increment at least 0")
        if not 0 < self.squeeze_ratio <= 1 or not 0 <= self.share_3x3 <= 1:
            raise ValueError("squeeze_ratio must be in (0, 1], share_3x3 in [0, 1]")

    def fire(self, index: int, inputs: int) -> Fire:
        """Return Fire module `index` (from 0) for `inputs` input channels."""
        expand = self.base_expand + self.expand_increment * (index // self.frequency)
        expand3x3 = round(expand * self.share_3x3)
        squeeze = max(1, round(expand * self.squeeze_ratio))
        return Fire(f"fire{index + FIRST_FIRE}", inputs, squeeze, expand - expand3x3, expand3x3)

    def fires(self, inputs: int, count: int = 8) -> tuple[Fire, ...]:
        """Return `count` Fire modules in a row, the first with `inputs` input channels."""
        made: list[Fire] = []
        for index in range(count):
            made.append(self.fire(index, made[-1].outputs if made else inputs))
        return tuple(made)


def squeezenet(
    name: str, conv1: Convolution, generator: FireGenerator, pools_after: tuple[str, ...], conv10_padding: int
) -> Architecture:
    """Return a SqueezeNet: `conv1`, eight Fire modules, a 1×1 head, and max pools after the named stages."""
    fires = generator.fires(conv1.outputs)
    head = Convolution(f"conv{FIRST_FIRE + len(fires)}", fires[-1].outputs, CLASSES, padding=conv10_padding)
    stages: list[Stage] = []
    chain: tuple[Convolution | Fire, ...] = (conv1, *fires, head)
    for stage in chain:
        stages.append(stage)
        if stage.name in pools_after:
            stages.append(MaxPool("pool" + stage.name.removeprefix("conv").removeprefix("fire")))
    return Architecture(name, tuple(stages))


def squeezenet_1_0(generator: FireGenerator | None = None) -> Architecture:
    """Return the network of table 1 of the paper, 1,248,424 parameters, or one with other Fire modules."""
    conv1 = Convolution("conv1", INPUT_CHANNELS, 96, kernel_px=7, stride=2)
    return squeezenet(
        "squeezenet-1.0", conv1, generator or FireGenerator(), ("conv1", "fire4", "fire8"), conv10_padding=1
    )


def squeezenet_1_1(generator: FireGenerator | None = None) -> Architecture:
    """Return the authors' later network, 1,235,496 parameters and 2.2 times cheaper to run, or with other modules."""
    conv1 = Convolution("conv1", INPUT_CHANNELS, 64, kernel_px=3, stride=2)
    return squeezenet(
        "squeezenet-1.1", conv1, generator or FireGenerator(), ("conv1", "fire3", "fire5"), conv10_padding=0
    )


def released() -> tuple[Architecture, ...]:
    """Return the architectures that weights exist for."""
    return (squeezenet_1_0(), squeezenet_1_1())
