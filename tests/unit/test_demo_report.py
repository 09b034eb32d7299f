"""The report: it survives a file, its page explains every field, and the screen shows its figures."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from demo.checks import judge
from demo.report import Report, write_report
from demo.table import show
from ota_protocol.errors import StorageError
from tests.support.demo_report import good_report


def judged() -> Report:
    report = good_report()
    return report.model_copy(update={"checks": judge(report)})


def test_a_report_comes_back_from_its_file_and_is_judged_the_same(tmp_path: Path) -> None:
    report = judged()
    write_report(report, tmp_path / "report.json")
    read = Report.model_validate_json((tmp_path / "report.json").read_bytes())
    assert read == report
    assert judge(read) == report.checks
    assert read.ok


def test_one_failed_check_is_a_failed_report() -> None:
    report = good_report().model_copy(update={"updates": 99})
    assert not report.model_copy(update={"checks": judge(report)}).ok


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(StorageError, match="--report"):
        write_report(judged(), tmp_path / "taken" / "report.json")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_screen_shows_every_vehicle_saving_and_check() -> None:
    report = judged()
    console = Console(file=io.StringIO(), width=160)
    show(report, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, as given above
    for word in (
        "full, resumed 3×",
        "delta",
        "75,000 B",
        "coffee mug 0.40",
        "espresso 0.80",
        "VGG-16",
        "arXiv:1602.07360",
    ):
        assert word in shown
    assert shown.count("✓") == len(report.checks)
