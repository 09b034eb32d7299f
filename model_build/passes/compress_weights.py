"""Owns the pass that compresses weights for the wire: few bits a weight, chosen for what the network answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from model_build.compression.flow import Workers, portions, workers
from model_build.compression.known import Base, known_layers
from model_build.compression.plan import Plan
from model_build.compression.reference import Reference, observe
from model_build.compression.search import (
    FIRST_PRICE,
    LARGEST_PRICE,
    LEAST_FIGURE,
    LEAST_PRICE,
    Goal,
    Point,
    search,
)
from model_build.compression.sensitivity import sensitivities
from model_build.compression.walk import walk
from model_build.evaluate import closeness
from model_build.export import to_onnx
from model_build.inference import Session
from model_build.network import FloatLayer, Network, QuantizedLayer
from ota_protocol.delta.encode import encode
from ota_protocol.errors import RequestError

OBSERVING, SENSING = 0.1, 0.3
"""Shares of the pass's time up to the end of each stage, for the progress bar; the search takes the rest."""
EXPECTED_TRIES = 4
SWEPT_PRICES = (1e-8, 3e-8, 1e-7)
"""Prices that a base's codes are kept at besides those of the search: from twenty kilobytes to two for SqueezeNet."""
NEAR = 1.5
"""Prices within this factor of one that was tried say nothing new."""
SCRATCH_TRIES = 2
"""Walks without the base, to come near the KL of the walk from it."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """How the pass came to its result.

    Args:
        point: the chosen network.
        tried: every network on the way.
        sensitivities: by convolution.
        swept: from a base: networks at several prices, the chosen one among them, the dearest first.
        scratch: with a base: the network compressed without it, near the KL of the chosen one.
    """

    point: Point
    tried: Sequence[Point]
    sensitivities: Mapping[str, float]
    swept: Sequence[Point] = ()
    scratch: Point | None = None


@dataclass(frozen=True, eq=False)
class CompressWeights:
    """Rounds every layer with the rate in it, at the price of a bit that meets a goal.

    Args:
        learn: (N, 3, side, side) preprocessed pictures that layers are rounded for.
        check: (M, 3, side, side) views of pictures that the KL is measured on.
        goal: budget or bound on the KL.
        base: the release that vehicles hold, whose codes are kept where that pays.
        threads: None takes one a processor; the result does not depend on it.
        on_outcome: told how it went.
    """

    learn: NDArray[np.float32]
    check: NDArray[np.float32]
    goal: Goal
    base: Base | None = None
    threads: int | None = None
    on_outcome: Callable[[Outcome], None] = field(default=lambda _: None)

    @property
    def name(self) -> str:
        kept = f"{self.goal.budget_bytes} bytes" if self.goal.budget_bytes is not None else f"KL {self.goal.max_kl:g}"
        start = ", from a base" if self.base is not None else ""
        return f"compress_weights({kept}{start}, {len(self.learn)} pictures, {len(self.check)} views)"

    def require(self, network: Network) -> None:
        if not len(self.learn) or not len(self.check):
            raise RequestError("compression needs calibration pictures", remedy="give a folder of photographs")
        if not all(isinstance(layer, FloatLayer) for layer in network.layers.values()):
            raise RequestError("the network is quantised already", remedy="start from float weights")
        if self.base is not None:
            known_layers(self.base.network, network)

    def rewrite(self, network: Network, progress: Callable[[float], None]) -> Network:
        plain = replace(network, activations={})
        with workers(self.threads) as threads:
            reference = observe(plain, portions(self.learn), threads, lambda share: progress(OBSERVING * share))
            found = sensitivities(reference, threads, partial(_part, progress, OBSERVING, SENSING - OBSERVING))
            known = known_layers(self.base.network, network) if self.base is not None else {}
            activations = network.activations if self.base is None else self.base.network.activations
            plan = Plan(FIRST_PRICE, found, known, activations)
            outcome = self._search(reference, plan, threads, progress)
        self.on_outcome(outcome)
        return outcome.point.walked.network

    def ensure(self, before: Network, after: Network) -> None:
        assert before.layers.keys() == after.layers.keys()
        assert all(isinstance(layer, QuantizedLayer) for layer in after.layers.values())

    def _search(self, reference: Reference, plan: Plan, threads: Workers, progress: Callable[[float], None]) -> Outcome:
        check = portions(self.check)

        def answers(artifact: bytes) -> NDArray[np.float32]:
            return np.concatenate(threads.map(Session(artifact).probabilities, check))

        wanted = answers(to_onnx(reference.network))
        base = self.base.artifact if self.base is not None else None
        tried: list[Point] = []

        def attempt(price: float, given: Plan = plan) -> Point:
            first = SENSING + (1 - SENSING) * min(len(tried) / self._expected_tries, 0.9)
            report = partial(_part, progress, first, (1 - SENSING) / self._expected_tries)
            walked = walk(reference, replace(given, price=price), threads, report)
            artifact = to_onnx(walked.network)
            kl = closeness(answers(artifact), wanted)["kl"]
            tried.append(Point(price, walked, len(encode(base, artifact)), kl))
            return tried[-1]

        # From a base the dearest price comes first: where nothing has to change, one try shows it.
        point = search(self.goal, attempt, FIRST_PRICE if self.base is None else LARGEST_PRICE)
        outcome = Outcome(point, tuple(tried), plan.sensitivities)
        if self.base is not None:
            swept = [*tried, *(attempt(price) for price in _unlike(SWEPT_PRICES, tried))]
            scratch = self._from_scratch(point.kl, partial(attempt, given=replace(plan, known={})))
            swept.sort(key=lambda one: -one.price)
            outcome = replace(outcome, swept=tuple(swept), scratch=scratch)
        progress(1.0)
        return outcome

    @property
    def _expected_tries(self) -> int:
        return EXPECTED_TRIES if self.base is None else EXPECTED_TRIES + len(SWEPT_PRICES) + SCRATCH_TRIES

    @staticmethod
    def _from_scratch(kl: float, attempt: Callable[[float], Point]) -> Point:
        """Return the network without the base that comes nearest to a KL; near the goal, KL and price go together."""
        price, made = FIRST_PRICE, []
        for _ in range(SCRATCH_TRIES):
            made.append(attempt(price))
            price = min(max(price * kl / max(made[-1].kl, LEAST_FIGURE), LEAST_PRICE), LARGEST_PRICE)
        return min(made, key=lambda one: abs(one.kl - kl))


def _unlike(prices: Sequence[float], tried: Sequence[Point]) -> list[float]:
    """Return the prices that are not near one that was tried."""
    return [price for price in prices if all(max(price / one.price, one.price / price) > NEAR for one in tried)]


def _part(progress: Callable[[float], None], first: float, width: float, share: float) -> None:
    progress(min(1.0, first + width * share))
