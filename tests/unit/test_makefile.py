"""The Makefile: every target that is promised is there, explained, and leads to programs that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISED = ("install", "demo", "demo-keep", "test", "check", "e2e", "bench", "help")


def dry_run(target: str) -> str:
    command = ["make", "--dry-run", "--always-make", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.parametrize("target", PROMISED)
def test_a_promised_target_can_be_made_and_is_explained(target: str) -> None:
    assert dry_run(target)
    explained = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert re.search(rf"^{target} ", explained.stdout, re.MULTILINE)


def test_bench_runs_every_benchmark_that_has_a_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    modules = set(re.findall(r"-m (benchmarks\.\w+)", makefile))
    assert modules
    assert set(re.findall(r"-m (benchmarks\.\w+)", dry_run("bench"))) == modules
    assert all((ROOT / f"{module.replace('.', '/')}.py").is_file() for module in modules)
