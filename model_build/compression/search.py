"""Owns finding the price of a bit at which the network meets a budget of bytes or a bound on the KL."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from model_build.compression.walk import Walked
from ota_protocol.errors import RequestError

FIRST_PRICE = 1e-7
"""Nats of KL a bit; SqueezeNet meets a KL of 0.05 within a factor of three of it."""
LEAST_PRICE, LARGEST_PRICE = 1e-12, 1e-3
"""Below, codes fill their eight bits; above, nothing of the network is left."""
MAX_TRIES = 6
FLATTEST = 0.05
"""Least slope believed, as a share of the usual one: where a curve is flat, the search takes long strides."""
INSIDE = 0.1
"""A new price stays this share of the bracket away from its ends, so that each try narrows it."""
NARROW = 0.03
"""Prices that differ by less, in ln(price), scatter more than they differ: there is nothing left to search."""
LEAST_FIGURE = 1e-9
LARGEST_STRIDE = math.log(64)
"""Bound on one step of the search in ln(price): far from the goal the curves bend."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What the compressed network has to keep within; one of both is given.

    Args:
        budget_bytes: of what travels: the delta if there is a base, else the compressed full.
        max_kl: nats, on pictures that were not calibrated on.
    """

    budget_bytes: int | None = None
    max_kl: float | None = None

    @property
    def bound(self) -> float:
        """The figure that must not be passed."""
        return float(self.budget_bytes) if self.budget_bytes is not None else float(self.max_kl or 0.0)

    @property
    def tolerance(self) -> float:
        """Share of the goal that a result may stay below it: bytes lie on a curve, the KL scatters about one."""
        return 0.01 if self.budget_bytes is not None else 0.04

    @property
    def slope(self) -> float:
        """d ln(figure) / d ln(price) to start with, as measured on both networks."""
        return -0.27 if self.budget_bytes is not None else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A network on the curve of bytes against KL."""

    price: float
    walked: Walked
    wire_bytes: int
    kl: float

    def figure(self, goal: Goal) -> float:
        """Return what `goal` bounds."""
        return float(self.wire_bytes) if goal.budget_bytes is not None else self.kl


def search(goal: Goal, attempt: Callable[[float], Point], first_price: float = FIRST_PRICE) -> Point:
    """Return the best point within `goal`: the most faithful within a budget, or the smallest within a KL.

    The figures are near straight lines in ln(price), so that a secant lands within the tolerance in a few attempts.

    Args:
        attempt: compresses at a price.

    Raises:
        RequestError: the goal is out of reach; names the smallest or the nearest that was reached.
    """
    tried: list[Point] = []
    price = first_price
    while len(tried) < MAX_TRIES:
        tried.append(attempt(price))
        figure = tried[-1].figure(goal)
        if goal.bound * (1 - goal.tolerance) <= figure <= goal.bound or _at_edge(price, goal, figure):
            break
        price = _next(goal, tried)
        if any(point.figure(goal) <= goal.bound for point in tried) and _is_near(price, tried):
            break
    within = [point for point in tried if point.figure(goal) <= goal.bound]
    if not within:
        raise _out_of_reach(goal, tried)
    return min(within, key=lambda point: point.kl if goal.budget_bytes is not None else point.wire_bytes)


def _is_near(price: float, tried: list[Point]) -> bool:
    """Tell whether a price was as good as tried."""
    return any(abs(math.log(price / point.price)) < NARROW for point in tried)


def _at_edge(price: float, goal: Goal, figure: float) -> bool:
    """Tell whether the price cannot go further in the direction that `figure` asks for."""
    dearer = (figure > goal.bound) == (goal.budget_bytes is not None)
    return price >= LARGEST_PRICE if dearer else price <= LEAST_PRICE


def _next(goal: Goal, tried: list[Point]) -> float:
    """Return the price where the line through the last points meets the goal, inside what is known to bracket it."""
    last = tried[-1]
    aim = math.log(goal.bound * (1 - goal.tolerance / 2) / max(last.figure(goal), LEAST_FIGURE))
    stride = max(-LARGEST_STRIDE, min(LARGEST_STRIDE, aim / _slope(goal, tried)))
    price = min(max(last.price * math.exp(stride), LEAST_PRICE), LARGEST_PRICE)
    rising = goal.budget_bytes is None
    low = [point.price for point in tried if (point.figure(goal) <= goal.bound) == rising]
    high = [point.price for point in tried if (point.figure(goal) <= goal.bound) != rising]
    if not low or not high:
        return price
    below, width = max(low), math.log(min(high) / max(low))
    share = math.log(price / below) / width if width > 0 else INSIDE
    return float(below * math.exp(width * min(max(share, INSIDE), 1 - INSIDE)))


def _slope(goal: Goal, tried: list[Point]) -> float:
    """Return d ln(figure) / d ln(price) near the last point: measured where that makes sense, else the usual one."""
    last, slope = tried[-1], goal.slope
    if len(tried) > 1:
        before = min(tried[:-1], key=lambda point: abs(math.log(point.price / last.price)))
        run = math.log(last.price / before.price)
        rise = math.log(max(last.figure(goal), LEAST_FIGURE) / max(before.figure(goal), LEAST_FIGURE))
        if run:
            return slope * max(rise / run / slope, FLATTEST)
    return slope


def _out_of_reach(goal: Goal, tried: list[Point]) -> RequestError:
    if goal.budget_bytes is not None:
        least = min(point.wire_bytes for point in tried)
        return RequestError(
            f"{goal.budget_bytes:,} bytes are out of reach", remedy=f"the smallest reached is {least:,} bytes"
        )
    nearest = min(tried, key=lambda point: point.kl)
    return RequestError(
        f"a KL of {goal.bound:g} is out of reach",
        remedy=f"the nearest reached is {nearest.kl:.4g} at {nearest.wire_bytes:,} bytes",
    )
