"""The fleet of docker-compose.yml, run to its end on a real engine, and its report beside the demo's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.checks import RULES, judge
from demo.profiles import BY_NAME
from demo.report import Report
from tests.e2e.compose import BUILD_TIMEOUT_S, STORY_TIMEOUT_S, Compose, find_compose, run

pytestmark = pytest.mark.e2e

FLEET_SIZE = 5


@pytest.fixture(scope="module")
def fleet() -> Iterator[Compose]:
    """The fleet, with its story told; taken down with its volumes, whatever happens."""
    compose = find_compose()
    try:
        compose.run("build", timeout_s=BUILD_TIMEOUT_S)
        compose.run("up", "-d", "--scale", f"vehicle={FLEET_SIZE}")
        code = compose.exit_code("model_build", STORY_TIMEOUT_S)
        assert code == 0, compose.run("logs", "--tail=80")
        yield compose
    finally:
        compose.run("down", "-v", "--remove-orphans", "-t", "5")


@pytest.fixture(scope="module")
def containers_report(fleet: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("containers") / "compose-report.json"
    run(["docker", "cp", f"{fleet.container('model_build')}:/report/compose-report.json", str(file)])
    return file


@pytest.fixture(scope="module")
def processes_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    file = folder / "demo-report.json"
    ota_demo = str(Path(sys.executable).parent / "ota-demo")
    command = [ota_demo, "run", "--state", str(folder / "state"), "--report", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=STORY_TIMEOUT_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return file


def read(file: Path) -> Report:
    return Report.model_validate_json(file.read_bytes())


def fields(value: Any) -> Any:
    """Return the names of all fields below a JSON value, lists and mappings of names by their first entry."""
    if isinstance(value, dict):
        return {key: fields(inner) for key, inner in value.items() if not key.startswith("deltas/")}
    return [fields(value[0])] if isinstance(value, list) and value else None


def test_every_check_holds_in_processes(processes_report: Path) -> None:
    """First, while no containers share the machine."""
    report = read(processes_report)
    assert [check for check in judge(report) if not check.ok] == []
    assert {vehicle.profile for vehicle in report.vehicles} == set(BY_NAME)


def test_every_check_holds_in_containers(containers_report: Path) -> None:
    report = read(containers_report)
    assert [check for check in judge(report) if not check.ok] == []
    assert [check.check for check in report.checks] == list(RULES)
    assert report.fleet == "containers"


def test_five_vehicles_with_different_links_took_both_releases(containers_report: Path) -> None:
    vehicles = read(containers_report).vehicles
    assert [vehicle.vehicle for vehicle in vehicles] == [f"vehicle-{number}" for number in range(1, FLEET_SIZE + 1)]
    assert [vehicle.profile for vehicle in vehicles] == ["wifi", "metered", "flaky", "wifi", "metered"]
    for vehicle in vehicles:
        assert [(update.release, update.via) for update in vehicle.updates] == [("1.0.0", "full"), ("1.1.0", "delta")]


def test_both_fleets_report_the_same_things(containers_report: Path, processes_report: Path) -> None:
    containers, processes = read(containers_report), read(processes_report)
    assert fields(json.loads(containers_report.read_text())) == fields(json.loads(processes_report.read_text()))
    assert [check.check for check in containers.checks] == [check.check for check in processes.checks]
    assert processes.ok
    for there, here in zip(containers.releases, processes.releases, strict=True):
        assert (there.release, there.artifact_bytes) == (here.release, here.artifact_bytes)
    assert {saving.network: saving.fp32_bytes for saving in containers.savings} == {
        saving.network: saving.fp32_bytes for saving in processes.savings
    }


def test_each_part_sees_only_its_own_secrets(fleet: Compose) -> None:
    server, vehicle = fleet.container("server"), fleet.container("vehicle", 2)
    assert fleet.inside(server, "ls", "/keys").split() == ["online"]
    assert fleet.inside(vehicle, "ls", "/trust").split() == ["enrolment.token", "root.json"]
    for container in (server, vehicle):
        assert fleet.inside(container, "id", "-u").strip() == "1000"
    token = fleet.inside(vehicle, "cat", "/trust/enrolment.token").strip()
    assert token
    assert token not in run(["docker", "inspect", server, vehicle, fleet.container("model_build")])


def test_parts_hold_only_what_they_need(fleet: Compose) -> None:
    held = "import importlib.util as u; print([n for n in {!r} if u.find_spec(n)])"
    server = ["onnxruntime", "PIL", "torch", "edge_client", "model_build"]
    vehicle = ["fastapi", "sqlalchemy", "onnx", "server", "model_build"]
    for container, strange in ((fleet.container("server"), server), (fleet.container("vehicle"), vehicle)):
        assert fleet.inside(container, "python", "-c", held.format(strange)).strip() == "[]"


def test_a_second_up_tells_no_second_story(fleet: Compose, containers_report: Path) -> None:
    before = read(containers_report)
    fleet.run("up", "-d", "--scale", f"vehicle={FLEET_SIZE}")
    assert fleet.exit_code("model_build", 60.0) == 0
    logs = run(["docker", "logs", "--tail", "3", fleet.container("model_build")])
    assert "told already" in logs
    after = fleet.container("model_build")
    run(["docker", "cp", f"{after}:/report/compose-report.json", str(containers_report)])
    assert read(containers_report) == before
