"""Measures the delta codec beside byte differs and plain compression on the same pairs, in one run.

`make bench-delta` runs it. Writes `benchmarks/results/delta.json`, and the table between the marks of
`docs/delta.md`. Peers live in an environment of their own, `.venvs/bench`; xdelta3 and zstd are programs.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.delta_measure import CODECS

ROOT = Path(__file__).resolve().parent.parent
WORK = Path(tempfile.gettempdir()) / "squeezeota-bench-delta"
PEERS_PYTHON = ROOT / ".venvs" / "bench" / "bin" / "python"
SHARED = ROOT.parent / "shared"
RESULTS = ROOT / "benchmarks" / "results" / "delta.json"
PAGE = ROOT / "docs" / "delta.md"
BEGIN, END = "<!-- delta table: written by make bench-delta -->", "<!-- end of the delta table -->"
OURS, OURS_FULL = "ours", "ours, no base"
FULLS = ("zstd 22", "xz 9e")
PEERS = tuple(name for name in CODECS if name not in (OURS, OURS_FULL, *FULLS))
SLACK_BYTES = 128
LARGE_BYTES = 50 << 20
TOO_SLOW = ("bsdiff4",)
"""Left out above `LARGE_BYTES`: sorting the suffixes of 100 MB did not end within our patience."""
UNCHANGED = (
    "identical",
    "metadata only",
    "producer and opset changed, nodes renamed",
    "raw_data to float_data",
    "int8 raw_data to int32_data",
    "an unrelated file",
)
"""Pairs in which no tensor changes its values, or has none."""
TIMEOUT_S = 3600
PROGRAMS = ("xdelta3", "zstd")
HEADINGS = ["pair", "result", "ours", "best differ", "ratio", "zstd/xz full", "our full"]
COSTS = ["make s", "apply s", "make MB", "apply MB"]

Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="measure pairs whose name contains this")
    parser.add_argument("--without", default="\0", help="leave out pairs whose name contains this")
    parser.add_argument("--ours", action="store_true", help="measure ours anew, keep the peers' figures")
    chosen = parser.parse_args()
    console = Console()
    make_pairs(console)
    old: dict[str, Figures] = json.loads(RESULTS.read_text())["pairs"] if RESULTS.exists() else {}
    for folder in sorted(WORK.glob("*/result")):
        name = folder.parent.name
        if chosen.only in name and chosen.without not in name:
            old[name] = measure_pair(folder.parent, old.get(name, {}) if chosen.ours else {}, console)
            write(old)
    console.print(table(old))


def make_pairs(console: Console) -> None:
    """Make the pairs that are not there yet."""
    WORK.mkdir(parents=True, exist_ok=True)
    pictures = SHARED / "data" / "imagenet-sample"
    if not (WORK / "all.npz").exists():
        console.print("fine-tuning")
        run(sys.executable, "-m", "benchmarks.delta_pairs", "base", WORK)
        run(PEERS_PYTHON, ROOT / "benchmarks" / "delta_finetune.py", WORK / "base.npz", pictures, WORK)
    console.print("making pairs")
    run(sys.executable, "-m", "benchmarks.delta_pairs", "pairs", WORK, SHARED)


def run(*words: str | Path) -> str:
    done = subprocess.run(  # noqa: S603 - our own scripts
        [str(word) for word in words],
        cwd=ROOT,
        check=True,
        timeout=TIMEOUT_S,
        stdout=subprocess.PIPE,
        text=True,
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )
    return done.stdout


def measure_pair(folder: Path, known: Figures, console: Console) -> Figures:
    """Return bytes, seconds and memory of every codec on one pair."""
    base, result = folder / "base", folder / "result"
    figures: Figures = {"base_bytes": base.stat().st_size, "result_bytes": result.stat().st_size, "codecs": {}}
    for codec in CODECS:
        if codec in TOO_SLOW and figures["result_bytes"] > LARGE_BYTES:
            continue
        if codec in known.get("codecs", {}) and not codec.startswith(OURS):
            figures["codecs"][codec] = known["codecs"][codec]
            continue
        measured = {action: _measure(codec, action, folder) for action in ("make", "apply")}
        if (folder / "restored").read_bytes() != result.read_bytes():
            raise SystemExit(f"{codec} did not restore {folder.name}")
        figures["codecs"][codec] = measured
        console.print(f"{folder.name:44} {codec:22} {measured['make']['bytes']:>11,}", highlight=False)
    return figures


def _measure(codec: str, action: str, folder: Path) -> Figures:
    python = sys.executable if codec.startswith(OURS) else PEERS_PYTHON
    script = ROOT / "benchmarks" / "delta_measure.py"
    delta = folder / "delta"
    program = codec.split(maxsplit=1)[0]
    if program in PROGRAMS and not shutil.which(program):
        raise SystemExit(f"{program} is not installed; on Debian: apt install xdelta3 zstd")
    figures: Figures = json.loads(run(python, script, codec, action, folder / "base", folder / "result", delta))
    return figures


# ── account ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bytes(figures: Figures, codec: str) -> int:
    return int(figures["codecs"][codec]["make"]["bytes"])


def best_peer(figures: Figures) -> str:
    """Return the name of the differ with the fewest bytes."""
    return min((codec for codec in PEERS if codec in figures["codecs"]), key=lambda codec: _bytes(figures, codec))


def best_full(figures: Figures) -> int:
    """Return the bytes of the compressed full by the better of zstd and xz."""
    return min(_bytes(figures, codec) for codec in FULLS)


def summary(pairs: Mapping[str, Figures]) -> Figures:
    """Return the figures that the bars are about."""
    ratios = {name: _bytes(figures, OURS) / _bytes(figures, best_peer(figures)) for name, figures in pairs.items()}
    changed = [ratio for name, ratio in ratios.items() if name not in UNCHANGED]
    over = {
        name: _bytes(figures, OURS) - min(_bytes(figures, best_peer(figures)), best_full(figures))
        for name, figures in pairs.items()
    }
    return {
        "ratio_to_best_peer": ratios,
        "geometric_mean_changed_tensors": math.exp(sum(map(math.log, changed)) / len(changed)) if changed else None,
        "pairs_over_the_best_by_more_than_128_bytes": {k: v for k, v in over.items() if v > SLACK_BYTES},
    }


def write(pairs: Mapping[str, Figures]) -> None:
    """Write the results, and the table of the page."""
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({**machine, "summary": summary(pairs), "pairs": pairs}, indent=1) + "\n")
    if PAGE.exists() and BEGIN in (page := PAGE.read_text()):
        head, rest = page.split(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n\n{table(pairs)}\n\n{END}{rest.split(END)[1]}")


def table(pairs: Mapping[str, Figures]) -> str:
    """Return the table of all pairs in Markdown."""
    return "\n".join(_lines(pairs))


def _lines(pairs: Mapping[str, Figures]) -> Iterator[str]:
    yield f"| {' | '.join(HEADINGS + COSTS)} |"
    yield "|---" * len(HEADINGS + COSTS) + "|"
    for name, figures in pairs.items():
        ours, peer = figures["codecs"][OURS], best_peer(figures)
        cells: Sequence[str] = (
            name,
            f"{figures['result_bytes']:,}",
            f"**{_bytes(figures, OURS):,}**",
            f"{_bytes(figures, peer):,} ({peer.split(' -')[0]})",
            f"{_bytes(figures, OURS) / _bytes(figures, peer):.3f}",
            f"{best_full(figures):,}",
            f"{_bytes(figures, OURS_FULL):,}",
            *(f"{ours[action]['seconds']:.2f}" for action in ("make", "apply")),
            *(f"{ours[action]['peak_bytes'] / 1e6:.0f}" for action in ("make", "apply")),
        )
        yield f"| {' | '.join(cells)} |"
    mean = summary(pairs)["geometric_mean_changed_tensors"]
    if mean is not None:
        yield ""
        yield f"Geometric mean of the ratio over the pairs whose tensors change: **{mean:.3f}**."


if __name__ == "__main__":
    main()
