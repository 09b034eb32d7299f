"""`ota-agent` installs from its own wheel, without the server's code or libraries, and works."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "dbos", "obstore", "onnx", "torch", "server")
"""None of these may be importable beside an agent; `onnx` is not `onnxruntime`."""

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    quiet = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=quiet, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def vehicle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the two wheels of a vehicle in it; the registry of packages must be in reach."""
    folder = tmp_path_factory.mktemp("vehicle")
    for distribution in ("ota_protocol", "edge_client"):
        build = (
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "-o",
            folder / "wheels",
            ROOT / distribution,
        )
        run(*build, cwd=folder)
    venv.create(folder / "env", with_pip=True)
    wheels = sorted((folder / "wheels").glob("*.whl"))
    pip = (folder / "env" / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    run(*pip, "-c", ROOT / "constraints.txt", *wheels, cwd=folder)
    return folder


def test_nothing_of_the_server_comes_along(vehicle: Path) -> None:
    names = ", ".join(repr(name) for name in FORBIDDEN)
    script = f"import importlib.util as u; print([n for n in ({names}) if u.find_spec(n)])"
    assert run(vehicle / "env" / "bin" / "python", "-c", script, cwd=vehicle) == "[]\n"


def test_agent_of_the_wheel_runs(vehicle: Path) -> None:
    assert "enrol" in run(vehicle / "env" / "bin" / "ota-agent", "--help", cwd=vehicle)
    script = (
        "import edge_client.agent, edge_client.composition, edge_client.runtime as r; print(r.newest_opset() >= 17)"
    )
    assert run(vehicle / "env" / "bin" / "python", "-c", script, cwd=vehicle) == "True\n"


def test_wheel_is_typed_and_small(vehicle: Path) -> None:
    installed = list((vehicle / "env" / "lib").glob("python3*/site-packages/edge_client"))
    assert len(installed) == 1
    assert (installed[0] / "py.typed").exists()
    assert sum(path.stat().st_size for path in (vehicle / "wheels").glob("squeezeota_agent*.whl")) < 100_000
