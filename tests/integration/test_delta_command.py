"""`ota-delta` as people use it: files in, files out, one line and an exit code where that is impossible."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.delta_files import pairs


def ota_delta(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_build.delta_command", *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    base, result = pairs()["float"]
    assert base is not None
    (tmp_path / "base").write_bytes(base)
    (tmp_path / "result").write_bytes(result)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_make_show_and_apply(files: Path) -> None:
    made = ota_delta("make", files / "base", files / "result", files / "delta")
    assert made.returncode == 0, made.stderr
    assert f"{(files / 'delta').stat().st_size:,} bytes" in made.stdout
    shown = ota_delta("show", files / "delta")
    assert shown.returncode == 0 and "emit" in shown.stdout and "weave" in shown.stdout
    applied = ota_delta("apply", files / "base", files / "delta", files / "restored")
    assert applied.returncode == 0, applied.stderr
    assert (files / "restored").read_bytes() == (files / "result").read_bytes()
    assert names(files) == {"base", "result", "delta", "restored"}


def test_the_empty_base(files: Path) -> None:
    assert ota_delta("make", "-", files / "result", files / "full").returncode == 0
    assert "a compressed full" in ota_delta("show", files / "full").stdout
    assert ota_delta("apply", "-", files / "full", files / "restored").returncode == 0
    assert (files / "restored").read_bytes() == (files / "result").read_bytes()


def test_a_missing_file(files: Path) -> None:
    done = ota_delta("make", files / "base", files / "nowhere", files / "delta")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "nowhere" in done.stderr
    assert names(files) == {"base", "result"}


def test_the_wrong_base_leaves_no_file(files: Path) -> None:
    ota_delta("make", files / "base", files / "result", files / "delta")
    done = ota_delta("apply", files / "result", files / "delta", files / "restored")
    assert done.returncode == 3 and "delta base: it is meant for the base" in done.stderr
    assert names(files) == {"base", "result", "delta"}


def test_a_broken_delta_leaves_the_old_result(files: Path) -> None:
    ota_delta("make", files / "base", files / "result", files / "delta")
    data = bytearray((files / "delta").read_bytes())
    data[-20] ^= 255
    (files / "delta").write_bytes(data)
    (files / "restored").write_bytes(b"what was there before")
    done = ota_delta("apply", files / "base", files / "delta", files / "restored")
    assert done.returncode == 3 and done.stderr.startswith("ota-delta: delta ") and "Traceback" not in done.stderr
    assert (files / "restored").read_bytes() == b"what was there before"
    assert names(files) == {"base", "result", "delta", "restored"}


def test_a_folder_that_is_not_there(files: Path) -> None:
    done = ota_delta("make", files / "base", files / "result", files / "nowhere" / "delta")
    assert done.returncode == 2 and "check the path" in done.stderr


def test_memory_that_is_not_allowed(files: Path) -> None:
    ota_delta("make", files / "base", files / "result", files / "delta")
    done = ota_delta("apply", files / "base", files / "delta", files / "restored", "--memory-mb", "1")
    assert done.returncode == 3 and "above the limit" in done.stderr
