"""Owns what a compression is reported with: bytes, steps and bits of each layer, and the way the search took."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from model_build.compression.layer import LayerFigures
from model_build.passes.compress_weights import Outcome


def compression_report(
    outcome: Outcome, transfers: Mapping[str, int], *, fp32_bytes: int, seconds: float
) -> dict[str, JsonValue]:
    """Return the figures of one compression, for report.json.

    Args:
        transfers: bytes of each file that can travel, by its name.
        fp32_bytes: length of the weights in fp32.
        seconds: the whole took.
    """
    point = outcome.point
    layers = point.walked.network.layers
    return {
        "transfer_bytes": dict(transfers),
        "fp32_bytes": fp32_bytes,
        "times_smaller": round(fp32_bytes / min(transfers.values()), 1),
        "price_nats_a_bit": point.price,
        "kl_held_back": round(point.kl, 5),
        "tried": [{"price": price, "wire_bytes": length, "kl": round(kl, 5)} for price, length, kl in outcome.tried],
        "layers": {
            name: _layer(one, layers[name].kernel.size, outcome.sensitivities[name])
            for name, one in point.walked.figures.items()
        },
        "compress_seconds": round(seconds, 1),
    }


def _layer(one: LayerFigures, weights: int, sensitivity: float) -> dict[str, JsonValue]:
    return {
        "bytes": round(one.bits / 8),
        "bits_a_weight": round(one.bits / weights, 3),
        "step": one.step,
        "nonzero": round(one.nonzero, 4),
        "expected_kl": round(one.kl, 6),
        "changed_from_base": one.changed,
        "sensitivity": sensitivity,
    }
