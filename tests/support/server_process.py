"""A registry as an operating-system process: started, stopped, killed and started again on the same folders."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from server.services.clock import utc_now
from server.services.initialise import initialise
from server.store.database import Database, database_url
from tests.support.registry import HandClock, HandQueue, Registry

START_S = 30.0


class ServerProcess:
    """One registry on folders of its own; `python -m server` with a port that stays the same."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.data = folder / "data"
        self.keys = folder / "keys"
        self.log = folder / "server.log"
        self._environment = {**os.environ, "SQUEEZEOTA_SEEN_FLUSH_S": "0.2", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.registry = Registry(self.client, self.keys, HandClock(), HandQueue())

    def run(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `ota-server command` to its end."""
        return subprocess.run(
            [*self._command(command), *options],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def init(self) -> None:
        """What `ota-server init` does, without the seconds of its start."""
        self.data.mkdir(parents=True)
        database = Database(database_url(self._environment.get("SQUEEZEOTA_DATABASE_URL"), self.data))
        initialise(database, self.keys, utc_now)
        database.close()

    def start(self, before: Callable[[], None] | None = None) -> None:
        """Start, and wait until it is ready; `before` runs in the child before the server does."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command("serve"), "--port", str(self.port)],
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=before,  # noqa: PLW1509 it sets a limit and nothing else
            )
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a power cut would: `kill -9`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self, timeout_s: float = 30) -> int:
        """End it as an operator would, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout_s)

    def close(self) -> None:
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def _is_ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _command(self, command: str) -> list[str]:
        return [sys.executable, "-m", "server", command, "--data", str(self.data), "--keys", str(self.keys)]


@contextmanager
def server_process(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """Yield an initialised registry that is not started yet; it is gone after the block."""
    process = ServerProcess(folder, environment)
    try:
        process.init()
        yield process
    finally:
        process.close()


def wait_until(is_so: Callable[[], bool], timeout_s: float = 30) -> None:
    """Wait for something that a background worker does."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
