"""Owns compressing one layer: its step, its codes, its bias, and what the file holds of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_build.compression.known import KnownLayer
from model_build.compression.pairs import ALONE, PAIR_LIMIT, Index, partners
from model_build.compression.plan import Plan
from model_build.compression.rates import Codes, Rates, rates_above, rates_of
from model_build.compression.rounding import LIMIT, LayerProblem, layer_problem, round_with_rate
from model_build.compression.windows import Moments
from model_build.network import Layer, QuantizedLayer

STEP_FACTOR = 8.66
"""Step² = factor × price / stiffness; at high rate 6/ln 2 makes one bit's worth of error cost one bit."""
ROUNDS = 2
"""Roundings of a layer, each with the prices that the codes of the one before suggest."""
BIAS_STEP = 1 / 512
"""Biases are whole multiples of this share of the median deviation of the outputs, taken down to a power of two.
An error of a bias is the same at every position and does not average out: 1/32 costs a twentieth more KL."""
KNOWN_BIAS_SLACK = 4
"""Steps by which a base release's bias may be off before it is replaced: a bias that stays costs no bytes."""


@dataclass(frozen=True, slots=True)
class LayerFigures:
    """How one layer came out.

    Args:
        step: mean size of its steps.
        bits: its codes by the tables that priced them.
        nonzero: share of its codes.
        kl: nats that its cost stands for.
        changed: codes that differ from the base release's; 0 without one.
    """

    step: float
    bits: float
    nonzero: float
    kl: float
    changed: int


def compress_layer(name: str, layer: Layer, found: Moments, plan: Plan) -> tuple[QuantizedLayer, LayerFigures]:
    """Return one layer compressed for the inputs that it will see, and how it came out.

    Args:
        name: of its convolution.
        layer: as trained.
        found: moments of its input.
    """
    problem, sensitivity = layer_problem(layer.kernel, found), plan.sensitivities[name]
    known, price = plan.known.get(name), plan.price / sensitivity
    paired = partners(*layer.kernel.shape[1:3]) if plan.activations else None
    steps = known.steps if known else np.full(len(layer.bias), _step(problem, price, paired))
    codes, rates = _rounded(problem, steps, price, known, paired)
    weights = codes * steps[:, np.newaxis]
    bias = _bias(layer, found, weights, known)
    scale = known.layer.scale if known else np.asarray(steps[0], np.float32)
    made = QuantizedLayer(codes.astype(np.int8).reshape(layer.kernel.shape), scale, bias)
    changed = int((codes != known.codes).sum()) if known else 0
    kl = sensitivity * problem.cost(weights)
    return made, LayerFigures(float(steps.mean()), rates.total(codes), float((codes != 0).mean()), kl, changed)


def _step(problem: LayerProblem, price: float, paired: Index | None) -> float:
    """Return the layer's step for a price in units of the layer's cost."""
    stiffness = problem.stiffness
    typical = np.exp(np.log(np.maximum(stiffness, stiffness.max() * 1e-6)).mean())
    return float(np.float32(max(np.sqrt(STEP_FACTOR * price / typical), _least_step(problem, paired), 1e-12)))


def _least_step(problem: LayerProblem, paired: Index | None) -> float:
    """Return the step at which the largest weight, and the largest pair of them, are within bounds."""
    sizes = np.abs(problem.target)
    least = float(sizes.max()) / LIMIT
    if paired is None:
        return least
    return max(least, float((sizes + np.where(paired == ALONE, 0, sizes[:, paired])).max()) / PAIR_LIMIT)


def _rounded(
    problem: LayerProblem, steps: NDArray[np.float64], price: float, known: KnownLayer | None, paired: Index | None
) -> tuple[Codes, Rates]:
    """Return the codes, and the prices under their own statistics."""

    def priced(codes: Codes) -> Rates:
        return rates_above(codes, known.codes, LIMIT) if known else rates_of(codes, LIMIT)

    codes = np.rint(problem.target / steps[:, np.newaxis]).clip(-LIMIT, LIMIT).astype(np.int32)
    rates = priced(known.codes if known else codes)
    for _ in range(ROUNDS):
        codes = round_with_rate(problem, steps, price, rates, paired)
        rates = priced(codes)
    return codes, rates


def _bias(layer: Layer, found: Moments, weights: NDArray[np.float64], known: KnownLayer | None) -> NDArray[np.float32]:
    """Return the bias that keeps the mean output, in steps small against what the outputs do."""
    flat = layer.kernel.reshape(len(layer.bias), -1).astype(np.float64)
    exact = layer.bias + flat @ found.mean_reference - weights @ found.mean_compressed
    variance = ((weights @ found.second) * weights).sum(axis=1)
    deviation = max(float(np.median(np.sqrt(np.maximum(variance, 0)))), 1e-9)
    step = 2.0 ** np.floor(np.log2(BIAS_STEP * deviation))
    fresh = np.asarray(np.rint(exact / step) * step, np.float32)
    if known is None:
        return fresh
    return np.where(np.abs(known.bias - exact) <= KNOWN_BIAS_SLACK * step, known.bias, fresh).astype(np.float32)
