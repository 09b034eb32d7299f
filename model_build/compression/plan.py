"""Owns what a walk through the network is done with: the trade-off, the sensitivities, the base release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from model_build.compression.known import KnownLayer
from model_build.network import ActivationScale


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What one walk is done with.

    Args:
        price: nats of KL that one bit is worth: the global trade-off.
        sensitivities: by convolution, nats for a unit of the layer's cost.
        known: by convolution, what the base release holds of it; empty without a base.
        activations: by tensor, how it is held in 8 bits; absent ones stay float32.
    """

    price: float
    sensitivities: Mapping[str, float]
    known: Mapping[str, KnownLayer] = field(default_factory=dict)
    activations: Mapping[str, ActivationScale] = field(default_factory=dict)
