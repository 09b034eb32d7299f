"""Measures the coder of weight codes on real networks, beside order-0 entropy and LZMA, in one run.

`python -m benchmarks.entropy` quantises SqueezeNet 1.1 (the `ndf` package) and, where its file is at hand, the paper's
own 1.0 to steps that are fractions of each layer's standard deviation, and takes exported models as they are. Writes
`benchmarks/results/entropy.json`, and the table between the marks of `docs/entropy.md`.
"""

from __future__ import annotations

import argparse
import json
import lzma
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from model_build.network import Network, QuantizedLayer
from model_build.weights import exported
from model_build.weights.source import load
from ota_protocol.delta.entropy import decode_many, decode_symbols, encode_many, encode_symbols
from tests.support.code_audit import audit

ROOT = Path(__file__).resolve().parent.parent
PAPER = ROOT.parent / "shared" / "data" / "deep-compression" / "compressed_SqueezeNet.net"
RESULTS = ROOT / "benchmarks" / "results" / "entropy.json"
PAGE = ROOT / "docs" / "entropy.md"
BEGIN, END = "<!-- entropy table: written by python -m benchmarks.entropy -->", "<!-- end of the entropy table -->"
STEPS = (0.5, 0.75, 1.0)
"""Of a layer's standard deviation."""
RUNS = 5
SYMBOLS = 10_000_000
LZMA_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
HEADINGS = (
    "codes",
    "weights",
    "order 0",
    "LZMA",
    "ours",
    "bits a weight",
    "of order 0",
    "of contexts",
    "make s",
    "read s",
)

Codes = NDArray[np.int32]
Figures = dict[str, float | int | str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, help="exported models (model.onnx) to measure too")
    console = Console()
    rows: list[Figures] = []
    for name, tensors in codes_of(parser.parse_args().models):
        rows.append(measure(name, tensors))
        console.print(rows[-1], highlight=False)
    report = {"machine": platform.machine(), "numpy": np.__version__, "codes": rows, "symbols": measure_symbols()}
    console.print(report["symbols"], highlight=False)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    write_table(rows)


def codes_of(models: Sequence[Path]) -> Iterator[tuple[str, list[Codes]]]:
    """Yield a name and the code tensors of each case."""
    networks = {"1.1": load("ndf")}
    if PAPER.exists():
        networks["1.0"] = load(f"deep-compression:{PAPER}")
    for version, network in networks.items():
        for step in STEPS:
            yield f"SqueezeNet {version}, step {step} σ", quantised(network, step)
    for path in models:
        layers = exported.read(path.read_bytes(), path.name).layers.values()
        yield path.parent.name, [layer.codes.astype(np.int32) for layer in layers if isinstance(layer, QuantizedLayer)]


def quantised(network: Network, step: float) -> list[Codes]:
    """Return each layer's weights, rounded to the nearest multiple of `step` standard deviations."""
    kernels = [layer.kernel for layer in network.layers.values()]
    return [np.rint(kernel / (step * kernel.std())).astype(np.int32) for kernel in kernels]


def measure(name: str, tensors: Sequence[Codes]) -> Figures:
    """Return bytes and processor seconds of coding these tensors jointly."""
    shapes = [tensor.shape for tensor in tensors]
    payload = encode_many(tensors)
    restored = decode_many(payload, shapes, max_abs=2**31 - 1)
    if not all(np.array_equal(tensor, found) for tensor, found in zip(tensors, restored, strict=True)):
        raise SystemExit(f"{name} did not come back")
    scales, entropy_bits = audit(tensors)
    plain = b"".join(tensor.astype(np.int8).tobytes() for tensor in tensors)
    return {
        "name": name,
        "weights": sum(tensor.size for tensor in tensors),
        "order0_bytes": round(sum(order0_bits(tensor) for tensor in tensors) / 8),
        "lzma_bytes": len(lzma.compress(plain, lzma.FORMAT_RAW, filters=LZMA_FILTERS)),
        "bytes": len(payload),
        "of_contexts": scales.decision_bits / entropy_bits,
        "make_s": seconds(lambda: encode_many(tensors)),
        "read_s": seconds(lambda: decode_many(payload, shapes, max_abs=2**31 - 1)),
    }


def measure_symbols() -> Figures:
    """Return bytes and processor seconds of ten million symbols in 256 given contexts."""
    generator = np.random.default_rng(0)
    contexts = generator.integers(0, 256, SYMBOLS).astype(np.uint8)
    symbols = np.minimum(generator.geometric(0.2 + contexts / 400), 24).astype(np.uint8)
    payload = encode_symbols(symbols, contexts, 25, 256)
    counts = np.bincount(contexts.astype(np.intp) * 25 + symbols, minlength=256 * 25).reshape(256, 25)
    chances = counts / counts.sum(axis=1, keepdims=True)
    entropy_bits = -float((counts * np.log2(np.where(counts > 0, chances, 1))).sum())
    return {
        "symbols": SYMBOLS,
        "bytes": len(payload),
        "of_contexts": 8 * len(payload) / entropy_bits,
        "read_s": seconds(lambda: decode_symbols(payload, SYMBOLS, contexts, 25, 256)),
    }


def order0_bits(tensor: Codes) -> float:
    """Return the empirical entropy of a tensor's codes; the model that it takes costs nothing here."""
    _, counts = np.unique(tensor, return_counts=True)
    return -float((counts * np.log2(counts / tensor.size)).sum())


def seconds(action: Callable[[], object]) -> float:
    """Return the least processor time of a few runs."""
    spent = []
    for _ in range(RUNS):
        start = time.process_time()
        action()
        spent.append(time.process_time() - start)
    return round(min(spent), 3)


def write_table(rows: Sequence[Figures]) -> None:
    """Replace the table in the page."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + rest.split(END)[1])


def _cells(row: Figures) -> list[str]:
    ours, order0 = float(row["bytes"]), float(row["order0_bytes"])
    counts = [f"{int(row[key]):,}" for key in ("weights", "order0_bytes", "lzma_bytes", "bytes")]
    shares = [f"{8 * ours / float(row['weights']):.3f}", f"{ours / order0:.3f}", f"{float(row['of_contexts']):.4f}"]
    return [str(row["name"]), *counts, *shares, f"{float(row['make_s']):.2f}", f"{float(row['read_s']):.2f}"]


if __name__ == "__main__":
    main()
