"""Rounding with the rate in it: error against bits, zeros, known codes, and the target that fits compressed inputs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model_build.compression.known import KnownLayer
from model_build.compression.layer import compress_layer
from model_build.compression.pairs import PAIR_LIMIT, partners
from model_build.compression.plan import Plan
from model_build.compression.rates import rates_above, rates_of
from model_build.compression.rounding import LIMIT, LayerProblem, layer_problem, round_with_rate
from model_build.compression.windows import Moments, moments, sums
from model_build.network import FloatLayer

OUTPUTS, WIDTH = 40, 48


def correlated(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return inputs whose columns share a few causes, as neighbouring channels do."""
    chance = np.random.default_rng(seed)
    return np.maximum(chance.normal(size=(count, 12)) @ chance.normal(size=(12, WIDTH)), 0).astype(np.float32)


def inputs(seed: int = 0) -> Moments:
    found = correlated(4000, seed)
    return moments([sums(found, found)])


def kernel(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).laplace(0, 1, (OUTPUTS, WIDTH, 1, 1)).astype(np.float32)


def problem(seed: int = 0) -> LayerProblem:
    return layer_problem(kernel(seed), inputs(seed))


def cost(one: LayerProblem, codes: NDArray[np.int32], step: float) -> float:
    return one.cost(codes.astype(np.float64) * step)


@pytest.mark.parametrize("seed", range(4))
def test_feedback_beats_rounding_to_nearest(seed: int) -> None:
    one, step = problem(seed), 0.5
    nearest = np.rint(one.target / step).astype(np.int32)
    codes = round_with_rate(one, np.full(OUTPUTS, step), 0.0, rates_of(nearest, LIMIT))
    assert cost(one, codes, step) < 0.6 * cost(one, nearest, step)


def test_a_dearer_bit_buys_fewer_bits_and_more_error() -> None:
    one, step = problem(), 0.3
    rates = rates_of(np.rint(one.target / step).astype(np.int32), LIMIT)
    made = [round_with_rate(one, np.full(OUTPUTS, step), price, rates) for price in (0.0, 0.03, 0.3, 3.0)]
    bits = [rates.total(codes) for codes in made]
    errors = [cost(one, codes, step) for codes in made]
    assert bits == sorted(bits, reverse=True)
    assert errors == sorted(errors)
    assert bits[-1] < 0.9 * bits[0]


def test_at_equal_error_the_rate_saves_bits() -> None:
    """A finer step with priced bits is worth more than a coarser step without."""
    one = problem()
    priced_step, plain_step = 1.6, 2.0
    plain = round_with_rate(
        one, np.full(OUTPUTS, plain_step), 0.0, rates_of(np.zeros((OUTPUTS, WIDTH), np.int32), LIMIT)
    )
    budget = cost(one, plain, plain_step)
    codes = np.rint(one.target / priced_step).astype(np.int32)
    best = None
    for price in np.geomspace(1e-4, 1, 40):
        made = round_with_rate(one, np.full(OUTPUTS, priced_step), price, rates_of(codes, LIMIT))
        if cost(one, made, priced_step) <= budget:
            best = made
    assert best is not None
    assert rates_of(best, LIMIT).total(best) < rates_of(plain, LIMIT).total(plain)


def test_codes_stay_within_the_limit() -> None:
    one, steps, rates = problem(), np.full(OUTPUTS, 0.001), rates_of(np.zeros((OUTPUTS, WIDTH), np.int32), LIMIT)
    codes = round_with_rate(one, steps, 0.0, rates)
    assert np.abs(codes).max() == LIMIT
    pairs = partners(WIDTH, 1)
    found = round_with_rate(one, steps, 0.0, rates, pairs)
    assert np.abs(found).max() == LIMIT
    sums = [np.abs(found[:, pairs >= 0]) + np.abs(found[:, pairs[pairs >= 0]])]
    assert np.max(sums) <= PAIR_LIMIT < (np.abs(codes) + np.abs(codes[:, pairs])).max()


def test_known_codes_stay_where_a_change_does_not_pay() -> None:
    one, step = problem(), 0.3
    steps = np.full(OUTPUTS, step)
    base = round_with_rate(one, steps, 0.0, rates_of(np.zeros((OUTPUTS, WIDTH), np.int32), LIMIT))
    moved = layer_problem(kernel() + 0.02 * kernel(9), inputs())
    afresh = round_with_rate(moved, steps, 0.0, rates_of(base, LIMIT))
    aware = round_with_rate(moved, steps, 0.02, rates_above(base, base, LIMIT))
    dear = round_with_rate(moved, steps, 1e6, rates_above(base, base, LIMIT))
    assert (afresh != base).sum() > 10 * (aware != base).sum()
    assert np.array_equal(dear, base)
    assert cost(moved, aware, step) < 2 * cost(moved, afresh, step)


def test_the_target_makes_up_for_compressed_inputs() -> None:
    """Where the input lost half of one channel, its weights are doubled."""
    reference = correlated(4000) + np.random.default_rng(3).normal(0, 0.5, (4000, WIDTH)).astype(np.float32)
    compressed = reference.copy()
    compressed[:, 5] *= 0.5
    found = layer_problem(kernel(), moments([sums(reference, compressed)]))
    flat = kernel().reshape(OUTPUTS, WIDTH)
    ratio = found.target[:, 5] @ flat[:, 5] / (flat[:, 5] @ flat[:, 5])
    assert ratio == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("dead", [0, WIDTH])
def test_inputs_that_never_fire_are_borne(dead: int) -> None:
    found = correlated(500)
    found[:, :dead] = 0
    found[:, 7] = 0
    one = layer_problem(kernel(), moments([sums(found, found)]))
    codes = round_with_rate(one, np.full(OUTPUTS, 0.5), 0.01, rates_of(np.zeros((OUTPUTS, WIDTH), np.int32), LIMIT))
    assert np.isfinite(one.target).all()
    assert np.abs(codes).max() <= LIMIT


def test_zeros_of_a_pruned_kernel_stay() -> None:
    pruned = np.where(np.random.default_rng(1).random((OUTPUTS, WIDTH, 1, 1)) < 0.7, 0, kernel()).astype(np.float32)
    layer = FloatLayer(pruned, np.zeros(OUTPUTS, np.float32))
    made, figures = compress_layer("c", layer, inputs(), Plan(0.02, {"c": 1.0}))
    assert (made.codes[pruned == 0] == 0).mean() > 0.9
    assert figures.nonzero < 0.35


def test_the_mean_output_is_kept() -> None:
    found = correlated(4000)
    layer = FloatLayer(kernel(), np.random.default_rng(2).normal(size=OUTPUTS).astype(np.float32))
    made, figures = compress_layer("c", layer, moments([sums(found, found)]), Plan(1.0, {"c": 1.0}))
    before = found @ layer.kernel.reshape(OUTPUTS, -1).T + layer.bias
    after = found @ made.kernel.reshape(OUTPUTS, -1).T + made.bias
    assert np.abs(before.mean(axis=0) - after.mean(axis=0)).max() < 0.01 * before.std()
    assert figures.kl > 0


def test_a_base_lends_steps_codes_and_bias() -> None:
    layer = FloatLayer(kernel(), np.zeros(OUTPUTS, np.float32))
    first, _ = compress_layer("c", layer, inputs(), Plan(0.1, {"c": 1.0}))
    codes = first.codes.reshape(OUTPUTS, -1).astype(np.int32)
    known = KnownLayer(codes, np.full(OUTPUTS, float(first.scale)), first.bias, first)
    changed = FloatLayer((layer.kernel * 1.001).astype(np.float32), layer.bias)
    made, figures = compress_layer("c", changed, inputs(), Plan(0.1, {"c": 1.0}, {"c": known}))
    assert figures.changed == (made.codes != first.codes).sum()
    assert figures.changed < 0.01 * codes.size
    assert np.array_equal(made.scale, first.scale)
    assert np.array_equal(made.bias, first.bias)
