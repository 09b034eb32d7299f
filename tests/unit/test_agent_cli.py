"""The command line of the vehicle: one line and an exit status for every error, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_client.__main__ import app
from edge_client.settings import AgentSettings
from tests.support.agent_fake import driving, enrolled
from tests.support.model_fake import make_frames, tiny_release
from tests.support.registry_fake import FakeRegistry

RUNNER = CliRunner()


def refused(*arguments: str, exit_code: int = 2) -> str:
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == exit_code, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.output
    return result.stderr


def test_status_of_a_vehicle_that_is_not_enrolled(tmp_path: Path) -> None:
    assert "ota-agent enrol" in refused("status", "--state", str(tmp_path))


def test_run_of_a_vehicle_that_is_not_enrolled(tmp_path: Path) -> None:
    frames = make_frames(tmp_path / "frames")
    assert "not enrolled" in refused("run", "--state", str(tmp_path / "car"), "--frames", str(frames))


def test_run_without_frames(tmp_path: Path) -> None:
    assert "--frames" in refused("run", "--state", str(tmp_path))


@pytest.mark.parametrize(
    "option",
    [
        ("--link-class", "tin-can"),
        ("--budget-bytes", "5"),
        ("--budget-period-s", "0"),
        ("--trial-frames", "0"),
        ("--check-in-s", "-1"),
        ("--rate-bytes-per-s", "1"),
    ],
)
def test_impossible_setting_names_its_option(tmp_path: Path, option: tuple[str, str]) -> None:
    assert option[0] in refused("run", "--state", str(tmp_path), "--frames", str(tmp_path), *option)


def test_enrolment_token_that_is_not_there(tmp_path: Path) -> None:
    who = ["--registry", "http://x", "--vehicle", "car-1"]
    trust = ["--enrolment-token-file", str(tmp_path / "none"), "--root", str(tmp_path / "none")]
    assert "enrolment token" in refused("enrol", "--state", str(tmp_path / "car"), *who, *trust)


def test_registry_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    (tmp_path / "root.json").write_bytes(FakeRegistry().repository.pinned_root)
    who = ["--registry", "http://127.0.0.1:9", "--vehicle", "car-1"]
    trust = ["--enrolment-token-file", str(tmp_path / "token"), "--root", str(tmp_path / "root.json")]
    said = refused("enrol", "--state", str(tmp_path / "car"), *who, *trust, exit_code=4)
    assert "check the link" in said


def test_status_shows_what_the_demo_and_operators_read(tmp_path: Path) -> None:
    registry = FakeRegistry()
    registry.publish(tiny_release("1.0.0", 1))
    registry.assign("1.0.0")
    state = enrolled(tmp_path / "car", registry)
    with driving(state, registry) as driver:
        driver.until_runs("1.0.0")
        driver.until(lambda each: len(each.parts.inference.predictions) == 8)
        while_running = RUNNER.invoke(app, ["status", "--state", str(state)])
    assert while_running.exit_code == 0
    status = json.loads(RUNNER.invoke(app, ["status", "--state", str(state)]).stdout)
    assert (status["vehicle"], status["state"], status["active"]["release"]) == ("car-1", "idle", "1.0.0")
    assert status["frames"]["served"] > 0
    assert status["frames"]["lost"] == 0
    assert {"frame", "release", "label", "probability"} <= set(status["predictions"][0])
    assert {"release", "via", "resumed", "payload_bytes", "wire_bytes", "seconds"} <= set(status["updates"][0])
    assert {"sent", "received", "period_sent", "period_received"} <= set(status["ledger"])
    assert "token" not in json.dumps(status)


def test_environment_sets_and_the_command_line_overrides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SQUEEZEOTA_AGENT_BUDGET_BYTES", "4096")
    monkeypatch.setenv("SQUEEZEOTA_AGENT_LINK_CLASS", "cellular")
    monkeypatch.setenv("SQUEEZEOTA_AGENT_DOWNLOAD_ON", "wifi, roaming")
    settings = AgentSettings(state=tmp_path, budget_bytes=8192)
    assert (settings.budget_bytes, settings.link_class, settings.download_on) == (8192, "cellular", ("wifi", "roaming"))
