"""The story: its order, what it waits for, what ends it, and the figures that come of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from demo.pictures import data_folder
from demo.progress import Progress
from demo.story import Story
from ota_protocol.errors import OtaError
from ota_protocol.reference import FP32_BYTES
from tests.support.demo_stage import MOVED, FakeStage


def story_on(stage: FakeStage, screen: io.StringIO | None = None) -> Story:
    return Story(stage, data_folder(), Progress(Console(file=screen or io.StringIO(), width=120)))


def test_both_releases_are_rolled_out_and_every_vehicle_is_in_the_report(tmp_path: Path) -> None:
    stage = FakeStage(tmp_path)
    report = story_on(stage).tell()
    assert stage.rolled_out == ["1.0.0", "1.1.0"]
    assert [vehicle.vehicle for vehicle in report.vehicles] == ["late", "metered", "wifi"]
    late, metered, _ = report.vehicles
    assert (late.before, list(metered.before)) == ({}, ["a.jpg"])
    assert (metered.before["a.jpg"].label, metered.after["a.jpg"].label) == ("1.0.0", "1.1.0")


def test_savings_are_counted_from_what_the_vehicles_moved(tmp_path: Path) -> None:
    report = story_on(FakeStage(tmp_path)).tell()
    assert report.moved_bytes == 3 * MOVED
    vgg = next(saving for saving in report.savings if saving.network == "vgg16")
    assert vgg.saved_bytes == 5 * FP32_BYTES["vgg16"] - 3 * MOVED


def test_a_figure_that_falls_short_is_a_failed_check_not_an_error(tmp_path: Path) -> None:
    report = story_on(FakeStage(tmp_path)).tell()
    assert "the second release came as a delta" in {check.check for check in report.checks if not check.ok}


def test_a_vehicle_is_looked_at_again_until_nothing_is_on_its_way(tmp_path: Path) -> None:
    stage = FakeStage(tmp_path, looks_until_quiet=3)
    report = story_on(stage).tell()
    assert stage.looked[:5].count("wifi") >= 2
    assert all(vehicle.link_bytes == MOVED for vehicle in report.vehicles)


def test_a_vehicle_that_gives_up_ends_the_story_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(OtaError, match="wifi gave up to-1-0-0; read the logs"):
        story_on(FakeStage(tmp_path, fails="wifi")).tell()


def test_a_stage_that_dies_ends_the_story_with_what_died(tmp_path: Path) -> None:
    with pytest.raises(OtaError, match="registry ended with code -9"):
        story_on(FakeStage(tmp_path, dies=True)).tell()


def test_a_build_that_fails_ends_the_story_with_its_last_words(tmp_path: Path) -> None:
    stage = FakeStage(tmp_path)
    (tmp_path / "ota-build").write_text("#!/bin/sh\necho 'no such weights' >&2\nexit 2\n")
    with pytest.raises(OtaError, match=r"`ota-build export` ended with code 2: .*no such weights"):
        story_on(stage).tell()


def test_steps_are_shown_and_kept(tmp_path: Path) -> None:
    screen = io.StringIO()
    report = story_on(FakeStage(tmp_path), screen).tell()
    assert [step.step for step in report.steps if step.step not in screen.getvalue()] == []
    assert "wifi: enrolled, runs nothing yet" in screen.getvalue()
