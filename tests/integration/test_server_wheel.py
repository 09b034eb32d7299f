"""The server installs from its own wheel, without what it does not need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clean_environment import CleanEnvironment, make_environment

pytestmark = [pytest.mark.slow]

FOREIGN = {"onnxruntime", "torch", "pillow", "squeezeota-agent", "squeezeota-build", "squeezeota-demo"}

EXERCISE = """
import importlib.util, sys
from pathlib import Path
from server.app import create_app
from server.children import check_onnx, encode_delta
from server.settings import Settings
from ota_protocol.delta.encode import encode
assert encode(None, b"some bytes")
assert create_app(Settings(data=Path(sys.argv[1]), keys=Path(sys.argv[2])))
absent = [name for name in ("onnxruntime", "torch", "PIL", "edge_client", "model_build", "demo", "pytest")
          if importlib.util.find_spec(name)]
assert not absent, absent
print("whole")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> CleanEnvironment:
    return make_environment(tmp_path_factory.mktemp("clean"), "ota_protocol", "server")


def test_nothing_foreign_is_declared(environment: CleanEnvironment) -> None:
    assert not environment.names & FOREIGN
    assert {"squeezeota-server", "squeezeota-protocol", "fastapi", "sqlalchemy", "dbos"} <= environment.names


def test_the_installed_server_initialises_and_assembles(environment: CleanEnvironment, tmp_path: Path) -> None:
    folders = (str(tmp_path / "data"), str(tmp_path / "keys"))
    done = environment.run("-m", "server", "init", "--data", folders[0], "--keys", folders[1])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "keys" / "root.json").exists()
    done = environment.run("-c", EXERCISE, *folders)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
