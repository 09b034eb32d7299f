"""Owns what a compression is reported with: bytes, steps and bits of each layer, and the way the search took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from model_build.compression.layer import LayerFigures
from model_build.compression.search import Point
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
        "tried": [{"price": one.price, "wire_bytes": one.wire_bytes, "kl": round(one.kl, 5)} for one in outcome.tried],
        "layers": {
            name: _layer(one, layers[name].kernel.size, outcome.sensitivities[name])
            for name, one in point.walked.figures.items()
        },
        "compress_seconds": round(seconds, 1),
    }


def trade_offs(outcome: Outcome, judged: Sequence[Mapping[str, float]]) -> dict[str, JsonValue]:
    """Return deltas from the base beside the one from scratch, for report.json.

    Args:
        judged: figures of each of `networks_to_judge`, in their order.
    """
    rows: list[JsonValue] = [
        {
            "price": one.price,
            "delta_bytes": one.wire_bytes,
            "changed_codes": sum(layer.changed for layer in one.walked.figures.values()),
            **{name: round(value, 5) for name, value in figures.items()},
        }
        for one, figures in zip(outcome.swept, judged, strict=False)
    ]
    assert outcome.scratch is not None
    scratch = {name: round(value, 5) for name, value in judged[-1].items()}
    return {"from_base": rows, "from_scratch": {"delta_bytes": outcome.scratch.wire_bytes, **scratch}}


def networks_to_judge(outcome: Outcome) -> list[Point]:
    """Return the networks that a report compares: those from the base, then the one from scratch; none without."""
    return [*outcome.swept, outcome.scratch] if outcome.scratch is not None else []


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
