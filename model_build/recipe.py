"""Owns a recipe: passes in order, each checked before and after, and the gate that a build must get through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from model_build.evaluate import Evaluation
from model_build.network import Network
from ota_protocol.errors import RequestError

Progress = Callable[[str, float], None]
"""Called with the name of the step and the share of it that is done, from 0 to 1."""


class Pass(Protocol):
    """One rewrite of a network."""

    @property
    def name(self) -> str:
        """What it does with its settings, as the manifest's recipe names it."""
        ...

    def require(self, network: Network) -> None:
        """Raise RequestError if the pass cannot work on `network`."""
        ...

    def rewrite(self, network: Network, progress: Callable[[float], None]) -> Network:
        """Return the rewritten network."""
        ...

    def ensure(self, before: Network, after: Network) -> None:
        """Raise AssertionError if the rewrite broke its promise: a fault of the pass, not of its input."""
        ...


@dataclass(frozen=True)
class Recipe:
    """An ordered list of passes."""

    passes: Sequence[Pass] = ()

    @property
    def text(self) -> str:
        """The recipe in one line, for the manifest."""
        return " | ".join(step.name for step in self.passes) or "float32"

    def apply(self, network: Network, progress: Progress) -> Network:
        """Return `network` after all passes.

        Raises:
            RequestError: a pass cannot work on what it is given.
        """
        for step in self.passes:
            step.require(network)
            before = network
            network = step.rewrite(before, partial(progress, step.name))
            step.ensure(before, network)
        return network


@dataclass(frozen=True, slots=True)
class Gate:
    """Targets that a build must meet; None is no target.

    Args:
        min_top1, min_top5: share of labelled pictures, 0 to 1.
        min_agreement: share of pictures with the reference's first class, 0 to 1.
        max_kl: mean KL divergence from the reference, in nats.
        max_bytes: size of the ONNX file.
    """

    min_top1: float | None = None
    min_top5: float | None = None
    min_agreement: float | None = None
    max_kl: float | None = None
    max_bytes: int | None = None

    def check(self, found: Evaluation) -> None:
        """Let a build through.

        Raises:
            RequestError: it misses a target, or a target needs labels that were not given; names every figure.
        """
        missed = [
            *_below("top-1", found.top1, self.min_top1),
            *_below("top-5", found.top5, self.min_top5),
            *_below("agreement", found.agreement, self.min_agreement),
            *_above("KL", found.kl, self.max_kl),
            *_above("bytes", found.artifact_bytes, self.max_bytes),
        ]
        if missed:
            raise RequestError(
                "the build misses its targets: " + ", ".join(missed),
                remedy="nothing was written; ease them or the recipe",
            )


def _below(what: str, found: float | None, least: float | None) -> list[str]:
    if least is None or (found is not None and found >= least):
        return []
    return [f"{what} {'unknown (no labels)' if found is None else f'{found:.4f}'} < {least:g}"]


def _above(what: str, found: float | None, most: float | None) -> list[str]:
    if most is None or (found is not None and found <= most):
        return []
    return [f"{what} {'unknown' if found is None else f'{found:,.4g}' if found < 1000 else f'{found:,.0f}'} > {most:,}"]
