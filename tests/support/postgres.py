"""A real PostgreSQL server for one test, on a socket of loopback; skipped where it is not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65_534
"""PostgreSQL refuses to run as root."""


def programs() -> Path | None:
    """Return the folder of initdb and pg_ctl, if there is one."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return folders[0] if folders else None


class Postgres:
    """One server on a folder of its own, that a test can stop and start again."""

    def __init__(self, programs: Path, place: Path, port: int) -> None:
        self.url = f"postgresql://registry@127.0.0.1:{port}/postgres"
        self._programs = programs
        self._place = place
        self._options = f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off -c unix_socket_directories={place}"

    def init(self) -> None:
        self._run("initdb", "-U", "registry", "-A", "trust", "-N", "-E", "UTF8")

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-l", str(self._place / "log"), "-o", self._options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), "-D", str(self._place / "db"), *arguments],
            user=NOBODY if os.getuid() == 0 else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (program, arguments)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Yield a fresh server that runs."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed here")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="registry-postgres-") as made:
        if os.getuid() == 0:
            os.chown(made, NOBODY, NOBODY)
        server = Postgres(folder, Path(made), port)
        server.init()
        server.start()
        try:
            yield server
        finally:
            server.stop()
