"""`kill -9` and SIGTERM at a bad moment: after the next start the same end state."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from ota_protocol.digest import sha256_hex
from server.services.clock import utc_now
from tests.support.registry import Build, HandClock, Registry, build, event, running_registry
from tests.support.server_process import ServerProcess, server_process, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server_process")]

FIRST, SECOND = build("1.0.0"), build("1.1.0", changed=20)


def end_state(registry: Registry) -> dict[str, Any]:
    """Return what is published and offered, without what depends on the time."""
    models = registry.get("/api/v1/models").json()
    for model in models:
        for release in model["releases"]:
            del release["published_at"]
            release["deltas"].sort(key=lambda delta: delta["target"])
    targets = registry.current_targets().signed
    return {"models": models, "targets": sorted(targets.targets), "version": targets.version}


def deltas_settled(server: ServerProcess) -> bool:
    with sqlite3.connect(f"file:{server.data / 'registry.sqlite'}?mode=ro", uri=True) as connection:
        states = {state for (state,) in connection.execute("SELECT state FROM deltas")}
    return states <= {"offered", "dropped"}


def publish_until_done(server: ServerProcess, made: Build, counter: int) -> None:
    """Publish as the build stage does, which asks again after whatever a dead server left."""
    assert server.registry.publish(made, counter).status_code in {200, 201}
    wait_until(lambda: deltas_settled(server))


def undisturbed(folder: Path) -> dict[str, Any]:
    """Return what is published and offered where nothing is killed, in this process."""
    with running_registry(folder, HandClock(utc_now())) as registry:
        for counter, made in enumerate((FIRST, SECOND), start=1):
            assert registry.publish(made, counter).status_code == 201
        registry.queue.run()
        return end_state(registry)


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.nightly)])
def test_killed_at_any_moment_of_a_publish(tmp_path: Path, kills: int) -> None:
    with server_process(tmp_path / "killed") as server:
        server.start()
        car, moved = server.registry.enrol("car-1"), event("bytes", sent=1000, received=90_000, period_start=0)
        assert car.check_in(moved)["accepted"] == [moved["id"]]
        began = time.monotonic()
        publish_until_done(server, FIRST, 1)
        seconds = time.monotonic() - began
        for step in range(kills):
            publishing = threading.Thread(target=try_publish, args=(server, SECOND, 2))
            publishing.start()
            time.sleep(seconds * step / kills)
            server.kill()
            publishing.join()
            server.start()
        publish_until_done(server, SECOND, 2)
        assert end_state(server.registry) == undisturbed(tmp_path / "undisturbed")
        assert list((server.data / "incoming").iterdir()) == []
        fleet = server.registry.get("/api/v1/savings").json()["fleet"]
        assert (fleet["sent_bytes"], fleet["received_bytes"]) == (1000, 90_000)


def try_publish(server: ServerProcess, made: Build, counter: int) -> None:
    """Publish into a server that may die at any moment."""
    try:
        server.registry.publish(made, counter)
    except (httpx.TransportError, AssertionError):
        return


def test_a_stop_while_a_delta_is_made_is_bounded_and_loses_nothing(tmp_path: Path) -> None:
    with server_process(tmp_path) as server:
        server.start()
        assert server.registry.publish(FIRST, 1).status_code == 201
        wait_until(lambda: any((server.data / "incoming").iterdir()))
        began = time.monotonic()
        assert server.stop() in {0, -signal.SIGTERM}
        assert time.monotonic() - began < 20
        server.start()
        wait_until(lambda: deltas_settled(server))
        release = server.registry.get("/api/v1/models/tiny/releases/1.0.0").json()
        assert len(release["deltas"]) == 2


def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    limit = 1 << 20

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    data = os.urandom(limit + 1)
    with server_process(tmp_path) as server:
        server.start(before=small_disk)
        answer = server.registry.upload(data)
        assert answer.status_code == 507, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert "free space" in answer.json()["remedy"]
        assert list((server.data / "incoming").iterdir()) == []
        assert not list((server.data / "blobs").rglob(sha256_hex(data)))
        assert server.registry.upload(b"a small one").status_code == 201
