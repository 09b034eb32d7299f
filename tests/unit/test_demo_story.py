"""The story: its order, what it waits for, what ends it, and the figures that come of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from demo.pictures import PHOTOGRAPHS
from demo.progress import Progress
from demo.report import Report
from demo.story import Story
from ota_protocol.errors import OtaError
from ota_protocol.reference import FP32_BYTES
from tests.support.demo_stage import MOVED, FakeStage

Tell = Callable[..., Report]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small stand-ins: what the pictures show does not matter here."""
    folder = tmp_path_factory.mktemp("photographs")
    for photograph in PHOTOGRAPHS:
        Image.new("RGB", (48, 40), "teal").save(folder / photograph.file)
    return folder


@pytest.fixture
def tell(photographs: Path) -> Tell:
    def tell_on(stage: FakeStage, screen: io.StringIO | None = None) -> Report:
        return Story(stage, photographs, Progress(Console(file=screen or io.StringIO(), width=120))).tell()

    return tell_on


def test_both_releases_are_rolled_out_and_every_vehicle_is_in_the_report(tmp_path: Path, tell: Tell) -> None:
    stage = FakeStage(tmp_path)
    report = tell(stage)
    assert stage.rolled_out == ["1.0.0", "1.1.0"]
    assert [vehicle.vehicle for vehicle in report.vehicles] == ["late", "metered", "wifi"]
    late, metered, _ = report.vehicles
    assert (late.before, list(metered.before)) == ({}, ["a.jpg"])
    assert (metered.before["a.jpg"].label, metered.after["a.jpg"].label) == ("1.0.0", "1.1.0")


def test_savings_are_counted_from_what_the_vehicles_moved(tmp_path: Path, tell: Tell) -> None:
    report = tell(FakeStage(tmp_path))
    assert report.moved_bytes == 3 * MOVED
    vgg = next(saving for saving in report.savings if saving.network == "vgg16")
    assert vgg.saved_bytes == 5 * FP32_BYTES["vgg16"] - 3 * MOVED


def test_a_figure_that_falls_short_is_a_failed_check_not_an_error(tmp_path: Path, tell: Tell) -> None:
    report = tell(FakeStage(tmp_path))
    assert "the second release came as a delta" in {check.check for check in report.checks if not check.ok}


def test_a_vehicle_is_looked_at_again_until_nothing_is_on_its_way(tmp_path: Path, tell: Tell) -> None:
    stage = FakeStage(tmp_path, looks_until_quiet=3)
    report = tell(stage)
    assert stage.looked[:5].count("wifi") >= 2
    assert all(vehicle.link_bytes == MOVED for vehicle in report.vehicles)


def test_a_vehicle_that_gives_up_ends_the_story_with_its_name(tmp_path: Path, tell: Tell) -> None:
    with pytest.raises(OtaError, match="wifi gave up to-1-0-0; read the logs"):
        tell(FakeStage(tmp_path, fails="wifi"))


def test_a_stage_that_dies_ends_the_story_with_what_died(tmp_path: Path, tell: Tell) -> None:
    with pytest.raises(OtaError, match="registry ended with code -9"):
        tell(FakeStage(tmp_path, dies=True))


def test_a_build_that_fails_ends_the_story_with_its_last_words(tmp_path: Path, tell: Tell) -> None:
    stage = FakeStage(tmp_path)
    (tmp_path / "ota-build").write_text("#!/bin/sh\necho 'no such weights' >&2\nexit 2\n")
    with pytest.raises(OtaError, match=r"`ota-build export` ended with code 2: .*no such weights"):
        tell(stage)


def test_steps_are_shown_and_kept(tmp_path: Path, tell: Tell) -> None:
    screen = io.StringIO()
    report = tell(FakeStage(tmp_path), screen)
    assert [step.step for step in report.steps if step.step not in screen.getvalue()] == []
    assert "wifi: enrolled, runs nothing yet" in screen.getvalue()
