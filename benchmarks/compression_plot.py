"""Draws bytes against KL for every arm: `compression_plot.py OUT.png`, the results as JSON on standard input."""

from __future__ import annotations

import json
import sys

import matplotlib as mpl  # type: ignore[import-not-found, unused-ignore]  # of the peers' environment

mpl.use("Agg")
import matplotlib.pyplot as plt  # type: ignore[import-not-found, unused-ignore]

STYLES = {
    "ours": ("o-", "SqueezeOTA, weights only"),
    "int8": ("s--", "SqueezeOTA, int8 activations"),
    "nncodec": ("^-", "NNCodec 2.1.3 (ISO/IEC 15938-17)"),
    "nearest": ("x:", "round to nearest, our coder"),
}


def main() -> None:
    networks = json.load(sys.stdin)["networks"]
    figure, axes = plt.subplots(1, len(networks), figsize=(6 * len(networks), 4.5), squeeze=False)
    for axis, (name, kept) in zip(axes[0], networks.items(), strict=True):
        for arm, points in kept["arms"].items():
            style, label = STYLES[arm]
            ordered = sorted(points, key=lambda point: point["bytes"])
            axis.plot([p["bytes"] / 1000 for p in ordered], [p["kl"] for p in ordered], style, label=label)
        axis.set(title=f"SqueezeNet {name}", xlabel="kB on the wire", ylabel="KL from fp32 (nats)", yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.tight_layout()
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
