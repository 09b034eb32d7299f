"""The search for a goal, on curves that are known."""

from __future__ import annotations

import math

import pytest

from model_build.compression.search import LARGEST_PRICE, LEAST_PRICE, MAX_TRIES, Goal, Point, search
from model_build.compression.walk import Walked
from ota_protocol.errors import RequestError
from tests.support.tiny_network import tiny_network


def curve(price: float) -> Point:
    """Return bytes and KL as both networks show them: straight in the logarithm, bent at the ends."""
    size = 150_000 + 300_000 * (price / 4e-8) ** -0.3
    return Point(price, Walked(tiny_network(), {}), round(size), 0.05 * (price / 4e-8) ** 0.9)


@pytest.mark.parametrize("budget", [200_000, 350_000, 500_000, 900_000])
def test_a_budget_is_met_from_below(budget: int) -> None:
    found = search(Goal(budget_bytes=budget), curve)
    assert 0.98 * budget <= found.wire_bytes <= budget


@pytest.mark.parametrize("kl", [0.001, 0.05, 0.15, 2.0])
def test_a_kl_is_met_from_below(kl: float) -> None:
    found = search(Goal(max_kl=kl), curve)
    assert 0.92 * kl <= found.kl <= kl


def test_the_search_is_short() -> None:
    prices: list[float] = []

    def attempt(price: float) -> Point:
        prices.append(price)
        return curve(price)

    search(Goal(max_kl=0.05), attempt)
    assert len(prices) <= 4


def test_noise_does_not_lead_it_astray() -> None:
    def noisy(price: float) -> Point:
        point = curve(price)
        return Point(price, point.walked, point.wire_bytes, point.kl * (1 + 0.1 * math.sin(1e9 * price)))

    found = search(Goal(max_kl=0.05), noisy)
    assert 0.03 <= found.kl <= 0.05


def test_an_impossible_budget_names_the_smallest() -> None:
    with pytest.raises(RequestError, match=r"out of reach; the smallest reached is 1[56]\d,\d{3} bytes"):
        search(Goal(budget_bytes=1000), curve)


def test_an_impossible_kl_names_the_nearest() -> None:
    def floor(price: float) -> Point:
        point = curve(price)
        return Point(price, point.walked, point.wire_bytes, point.kl + 0.3)

    with pytest.raises(RequestError, match=r"KL of 0.1 is out of reach; the nearest reached is 0.3"):
        search(Goal(max_kl=0.1), floor)


def test_prices_stay_in_bounds_and_tries_few() -> None:
    prices: list[float] = []

    def flat(price: float) -> Point:
        prices.append(price)
        return Point(price, Walked(tiny_network(), {}), 1000, 0.01)

    assert search(Goal(max_kl=0.5), flat).kl == 0.01
    assert len(prices) <= MAX_TRIES
    assert all(LEAST_PRICE <= price <= LARGEST_PRICE for price in prices)
