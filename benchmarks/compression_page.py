"""Writes the tables and the plot of `docs/compression.md` from the benchmark's results."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- tables: written by make bench-compression -->", "<!-- end of the tables -->"
ARMS = {
    "ours": "SqueezeOTA, weights only",
    "int8": "SqueezeOTA, int8",
    "nncodec": "NNCodec 2.1.3",
    "nearest": "nearest",
}

Figures = Mapping[str, Any]


def write_page(results: Figures, docs: Path, python: Path) -> None:
    """Put the tables between the marks of the page, and draw the plot with `python`, which has matplotlib."""
    page = docs / "compression.md"
    if page.exists() and BEGIN in (text := page.read_text()):
        head, rest = text.split(BEGIN)
        page.write_text(f"{head}{BEGIN}\n\n{tables(results)}\n\n{END}{rest.split(END)[1]}")
    script = Path(__file__).with_name("compression_plot.py")
    if python.exists():
        subprocess.run(  # noqa: S603 - our own script
            [python, script, docs / "compression.png"], input=json.dumps(results), text=True, check=True
        )


def tables(results: Figures) -> str:
    """Return all tables in Markdown."""
    return "\n".join(line for name, kept in results["networks"].items() for line in _network(name, kept))


def _network(name: str, kept: Figures) -> Iterator[str]:
    yield f"### SqueezeNet {name}\n"
    yield "| method | setting | bytes | top-1 | top-5 | agreement | KL |"
    yield "|---|---|---|---|---|---|---|"
    yield _row("uncompressed", "fp32", kept["reference"])
    for arm, points in kept["arms"].items():
        yield from (_row(ARMS[arm], point["setting"], point) for point in points)
    yield ""
    yield from _equal(kept)
    if "search" in kept:
        yield "\n| whole compression | bytes | seconds | top-1 | top-5 | KL | ten views: top-1 | top-5 | KL |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for mode, point in {"uncompressed": kept["reference"], **kept["search"]}.items():
            cells = f"{point['bytes']:,} | {point.get('seconds', 0):.0f}"
            yield f"| {mode} | {cells} | {_judged(point)} | {_judged(point['views'])} |"
        yield ""
    if "digests" in kept:
        yield f"- compressed on 1, 2, 3 and all threads, and once more: {len(set(kept['digests']))} different digest(s)"
    for mode, point in kept.get("search", {}).items():
        own, reference = point["latency_ms"], point["reference_latency_ms"]
        words = f"{own:.2f} ms against {reference:.2f} in fp32, medians of {point['runs']} runs in turn"
        yield f"- {mode}, one picture on one thread: {words}; ratio {own / reference:.3f}"
    if "delta" in kept:
        heads = ["bytes", "top-1", "top-5", "agreement", "KL", "ten views: top-1", "top-5", "KL"]
        yield f"\n| delta to a full fine-tune (40 steps) | {' | '.join(heads)} |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for way, point in kept["delta"].items():
            yield f"| {way} | {point['bytes']:,} | {_accuracy(point)} | {_judged(point['views'])} |"
    yield ""


def _row(method: str, setting: str, point: Figures) -> str:
    return f"| {method} | {setting} | {point['bytes']:,} | {_accuracy(point)} |"


def _judged(point: Figures) -> str:
    return f"{100 * point['top1']:.1f} % | {100 * point['top5']:.1f} % | {point['kl']:.3f}"


def _accuracy(point: Figures) -> str:
    shares = f"{100 * point['top1']:.1f} % | {100 * point['top5']:.1f} % | {point['agreement']:.3f}"
    return f"{shares} | {point['kl']:.3f}"


def _equal(kept: Figures) -> Iterator[str]:
    """Yield the bytes of the arms where they lose equally much."""
    for kl, found in kept.get("bytes_at_kl", {}).items():
        known = {arm: length for arm, length in found.items() if length}
        words = ", ".join(f"{ARMS[arm]} {length:,.0f} B" for arm, length in known.items())
        ratio = (
            f"; ratio to NNCodec {known['ours'] / known['nncodec']:.2f}" if {"ours", "nncodec"} <= set(known) else ""
        )
        yield f"- at KL {kl}: {words}{ratio}"
