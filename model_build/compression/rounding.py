"""Owns rounding one layer: codes that trade the error of the layer's output against the bits that they cost.

Sources: the column-wise second-order rounding of Frantar et al., "GPTQ" (2023, arXiv:2210.17323), resting on Optimal
Brain Compression (Frantar, Singh, Alistarh, 2022, arXiv:2208.11580); the rate in the choice of each code after
Conzelmann and Bamler, "Reducing Storage of Pretrained Neural Networks by Rate-Constrained Quantization and Entropy
Coding" (2025, arXiv:2505.18758). Fitting the target to inputs that are compressed already follows Li et al., "GPTAQ:
Efficient Finetuning-Free Quantization for Asymmetric Calibration" (2025, arXiv:2504.02692); the bias takes up the mean
error that is left (Nagel et al., "Data-Free Quantization", 2019, arXiv:1906.04721).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_build.compression.pairs import ALONE, PAIR_LIMIT, Index
from model_build.compression.rates import Codes, Rates
from model_build.compression.windows import Moments

LIMIT = 127
"""Largest code: -128 is left out, so that a kernel and its negative have the same steps."""
DAMPING = 0.005
"""Share of the mean diagonal added to the second moment, as in GPTQ: inputs that never fire stay invertible."""
PULL = 0.02
"""Share of the mean diagonal by which the fitted target is held to the trained weights."""
LEAST_LEVEL = 0.01
"""Least mean diagonal as a share of the input's energy: below, single precision leaves nothing but noise of it."""
_BLOCK = 32
"""Columns whose errors reach the columns beyond them in one product."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerProblem:
    """What rounding one layer has to minimise: the error E of the target gives the cost tr(E · second · Eᵀ).

    Args:
        target: (outputs, width) float64, the weights that fit the compressed input best.
        second: (width, width) float64, damped covariance of the compressed input.
        factor: (width, width) float64, upper Cholesky factor of second⁻¹.
    """

    target: NDArray[np.float64]
    second: NDArray[np.float64]
    factor: NDArray[np.float64]

    @property
    def stiffness(self) -> NDArray[np.float64]:
        """(width,): the cost of a unit error in each column after all later columns have made up for it."""
        return np.asarray(np.diag(self.factor) ** -2.0)

    def cost(self, weights: NDArray[np.float64]) -> float:
        """Return tr(E · second · Eᵀ) of rounded weights, (outputs, width)."""
        error = weights - self.target
        return float(((error @ self.second) * error).sum())


def layer_problem(kernel: NDArray[np.float32], found: Moments) -> LayerProblem:
    """Return the problem of a layer.

    Args:
        kernel: (outputs, inputs, height, width), as trained.
        found: moments of its input.
    """
    flat = kernel.reshape(len(kernel), -1).astype(np.float64)
    width = len(found.second)
    energy = (float(np.trace(found.second)) + float(found.mean_compressed @ found.mean_compressed)) / width
    level = max(float(np.trace(found.second)) / width, LEAST_LEVEL * energy) or 1.0
    eye, pull = np.eye(width), PULL * level
    target = np.linalg.solve(found.second + pull * eye, (flat @ found.cross + pull * flat).T).T
    second = found.second + DAMPING * level * eye
    inverse = np.linalg.inv(second)
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T
    return LayerProblem(np.asarray(target, np.float64), second, np.asarray(factor, np.float64))


def round_with_rate(
    problem: LayerProblem, steps: NDArray[np.float64], price: float, rates: Rates, paired: Index | None = None
) -> Codes:
    """Return codes, (outputs, width) int32 in -LIMIT … LIMIT, that minimise cost + price × bits, column by column.

    Args:
        steps: (outputs,) size of a step in each output channel.
        price: cost that one bit is worth.
        rates: bits of each code.
        paired: (width,) column whose codes are added to this one's in 16 bits, or `ALONE`; None if none are.
    """
    rest, factor = problem.target.astype(np.float32), problem.factor.astype(np.float32)
    width, size = rest.shape[1], steps.astype(np.float32)
    codes = np.empty(rest.shape, np.int32)
    for first in range(0, width, _BLOCK):
        last = min(width, first + _BLOCK)
        errors = np.empty((len(rest), last - first), np.float32)
        for column in range(first, last):
            wanted = rest[:, column] / size
            room = _room(codes, column, paired)
            possible = _candidates(wanted, rates.origin[:, column], room)
            weight = (size / factor[column, column]) ** 2
            costs = weight * (wanted - possible) ** 2 + np.float32(price) * rates.column(column, possible)
            chosen = np.take_along_axis(possible, np.argmin(costs, axis=0)[np.newaxis], axis=0)[0]
            error = (rest[:, column] - chosen * size) / factor[column, column]
            rest[:, column + 1 : last] -= np.outer(error, factor[column, column + 1 : last])
            codes[:, column], errors[:, column - first] = chosen, error
        rest[:, last:] -= errors @ factor[first:last, last:]
    return codes


def _room(codes: Codes, column: int, paired: Index | None) -> Codes | int:
    """Return how large the codes of a column may be, given those before it."""
    partner = ALONE if paired is None else int(paired[column])
    return LIMIT if not 0 <= partner < column else np.minimum(LIMIT, PAIR_LIMIT - np.abs(codes[:, partner]))


def _candidates(wanted: NDArray[np.float32], known: Codes, room: Codes | int) -> NDArray[np.float32]:
    """Return four codes for each output, (4, outputs): the known one, 0, and the two around `wanted`."""
    below = np.floor(wanted)
    stacked = np.stack([known.astype(np.float32), np.zeros_like(below), below, below + 1])
    return stacked.clip(-room, room)
