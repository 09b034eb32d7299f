"""A registry in a test: the real app on a folder of its own, with the clock and the delta queue in the test's hands."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import uvicorn
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fastapi import FastAPI
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization.json import JSONSerializer

from ota_protocol.digest import sha256_hex
from ota_protocol.manifest import ModelManifest
from server.app import Overrides, create_app
from server.children import check_onnx, encode_delta
from server.domain.refusals import CheckFailedError
from server.services.child import Children
from server.services.deltas import DeltaMaker
from server.services.initialise import initialise
from server.settings import Settings
from server.store.database import Database, database_url
from server.store.deltas import DeltaTask
from tests.support.onnx_models import manifest_of, onnx_bytes


@dataclass
class HandClock:
    """A clock that moves when the test says so."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 1, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def advance(self, **passed: float) -> None:
        self.now += timedelta(**passed)


class HandQueue:
    """A delta queue that works when the test says so, in the test's own thread."""

    def __init__(self) -> None:
        self.tasks: dict[DeltaTask, None] = {}
        self._maker: DeltaMaker | None = None

    def start(self, maker: DeltaMaker) -> None:
        self._maker = maker
        self.tasks |= dict.fromkeys(maker.unsettled())

    def put(self, task: DeltaTask) -> None:
        self.tasks[task] = None

    def reconcile(self) -> None:
        """Nothing: the test runs the tasks."""

    def stop(self) -> None:
        self._maker = None

    def run(self) -> list[str]:
        """Do all tasks; return where each delta stands then."""
        assert self._maker is not None
        states = []
        for task in list(self.tasks):
            self._maker.make(task.base, task.result)
            states.append(str(self._maker.offer(task.base, task.result)))
            del self.tasks[task]
        self._maker.start_prepared()
        return states


class NearChildren(Children):
    """The programs of the child processes, run in this process for speed, so without bounds."""

    def run(self, module: str, arguments: Sequence[str], *, timeout_s: float, what: str) -> dict[str, Any]:
        if module == "server.children.encode_delta":
            return {"length_bytes": encode_delta.make(*arguments[-3:])}
        try:
            return check_onnx.inspect(arguments[-1])
        except check_onnx.Refused as refused:
            raise CheckFailedError(refused.message, remedy=refused.remedy) from refused


@dataclass(frozen=True)
class Build:
    """One release as the build stage hands it over."""

    model: str
    release: str
    artifact: bytes
    manifest: bytes

    @property
    def folder(self) -> str:
        return f"models/{self.model}/{self.release}"


def build(release: str = "1.0.0", *, model: str = "tiny", seed: int = 0, changed: int = 0) -> Build:
    """Return a sound release."""
    artifact = onnx_bytes(seed, changed=changed)
    return Build(model, release, artifact, manifest_of(artifact, model, release).to_bytes())


class Registry:
    """The app, its clock and queue, and what a publisher, a vehicle and an operator send to it."""

    def __init__(self, client: httpx.Client, keys: Path, clock: HandClock, queue: HandQueue) -> None:
        self.client = client
        self.keys = keys
        self.clock = clock
        self.queue = queue

    def headers(self, kind: str = "operator") -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.keys / f'{kind}.token').read_text().strip()}"}

    def put(self, path: str, body: Any) -> httpx.Response:
        return self.client.put(path, json=body, headers=self.headers())

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path, headers=self.headers())

    def upload(self, data: bytes, digest: str | None = None) -> httpx.Response:
        path = f"/api/v1/blobs/{digest or sha256_hex(data)}"
        return self.client.put(path, content=data, headers=self.headers())

    def current_targets(self) -> Metadata[Targets]:
        timestamp = self.client.get("/tuf/metadata/timestamp.json").json()["signed"]
        version = timestamp["meta"]["snapshot.json"]["version"]
        snapshot = self.client.get(f"/tuf/metadata/{version}.snapshot.json").json()["signed"]
        wanted = snapshot["meta"]["targets.json"]["version"]
        return Metadata[Targets].from_bytes(self.client.get(f"/tuf/metadata/{wanted}.targets.json").content)

    def next_targets(self, made: Build, counter: int) -> Metadata[Targets]:
        """Return the next targets for a release, not signed yet."""
        metadata = self.current_targets()
        metadata.signed.version += 1
        metadata.signed.expires = (self.clock.now + timedelta(days=365)).replace(microsecond=0)
        for name, data in (("model.onnx", made.artifact), ("manifest.json", made.manifest)):
            path = f"{made.folder}/{name}"
            custom = {"custom": {"release_counter": counter}}
            metadata.signed.targets[path] = TargetFile(len(data), {"sha256": sha256_hex(data)}, path, custom)
        return metadata

    def signed(self, metadata: Metadata[Targets], key: str = "offline/targets.pem") -> bytes:
        private = load_pem_private_key((self.keys / key).read_bytes(), None)
        metadata.sign(CryptoSigner(private))
        return metadata.to_bytes(JSONSerializer(compact=True))

    def request(self, made: Build, targets: bytes) -> dict[str, Any]:
        return {
            "artifact": {"digest": sha256_hex(made.artifact), "length_bytes": len(made.artifact)},
            "manifest": {"digest": sha256_hex(made.manifest), "length_bytes": len(made.manifest)},
            "targets_base64": base64.b64encode(targets).decode(),
        }

    def publish(self, made: Build, counter: int = 1, targets: bytes | None = None) -> httpx.Response:
        """Upload both files and publish, as the build stage does."""
        for data in (made.artifact, made.manifest):
            assert self.upload(data).status_code in {200, 201}
        body = targets if targets is not None else self.signed(self.next_targets(made, counter))
        return self.put(f"/api/v1/models/{made.model}/releases/{made.release}", self.request(made, body))

    def roll_out(self, made: Build, name: str, vehicles: Sequence[str] = ()) -> httpx.Response:
        body = {"model": made.model, "release": made.release, "vehicles": list(vehicles)}
        return self.put(f"/api/v1/rollouts/{name}", body)

    def enrol(self, name: str) -> Vehicle:
        token = f"token-of-{name}"
        answer = self.client.put(
            f"/api/v1/vehicles/{name}",
            json={"token_sha256": sha256_hex(token.encode())},
            headers=self.headers("enrolment"),
        )
        assert answer.status_code in {200, 201}, answer.text
        return Vehicle(self.client, name, token)


@dataclass
class Vehicle:
    """What a vehicle says of itself, and its check-in."""

    client: httpx.Client
    name: str
    token: str
    state: str = "idle"
    active: dict[str, Any] | None = None
    bases: list[str] = field(default_factory=list)

    def runs(self, made: Build, counter: int, *, state: str = "idle") -> None:
        """Say from now on that this release is active and held."""
        manifest = ModelManifest.from_bytes(made.manifest)
        digests = (manifest.artifact.digest, sha256_hex(made.manifest))
        self.active = {
            "model": made.model,
            "release": made.release,
            "release_counter": counter,
            "artifact": digests[0],
            "manifest": digests[1],
        }
        self.bases, self.state = list(digests), state

    def body(self, events: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        runtime = {"onnxruntime": "1.32.0", "max_opset": 23, "machine": "x86_64"}
        said = {"vehicle": self.name, "agent": "0.1.0", "runtime": runtime, "state": self.state, "bases": self.bases}
        return {"vehicle": said | ({"active": self.active} if self.active else {}), "events": list(events)}

    def post(self, body: Any, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return self.client.post("/api/v1/check-in", json=body, headers=headers)

    def check_in(self, *events: dict[str, Any]) -> dict[str, Any]:
        answer = self.post(self.body(events))
        assert answer.status_code == 200, answer.text
        parsed: dict[str, Any] = answer.json()
        return parsed


def event(kind: str, made: Build | None = None, *, key: UUID | None = None, **figures: Any) -> dict[str, Any]:
    """Return one event as a vehicle reports it."""
    said: dict[str, Any] = {"id": str(key or uuid4()), "kind": kind, "at": "2026-11-01T12:00:00Z", "figures": figures}
    return said | ({"model": made.model, "release": made.release} if made else {})


@contextmanager
def running_registry(
    folder: Path, clock: HandClock | None = None, children: Children | None = None, **chosen: Any
) -> Iterator[Registry]:
    """Yield a registry that was initialised in `folder` and runs in this process.

    Args:
        folder: for data and keys; what lies there already is kept, as at a restart.
        clock: the time of the registry.
        children: who runs child programs; in this process by default.
        chosen: settings other than the defaults.
    """
    hand = clock or HandClock()
    settings = Settings(data=folder / "data", keys=folder / "keys", **chosen)
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(database_url(settings.database_url, settings.data))
    initialise(database, settings.keys, hand)
    database.close()
    queue = HandQueue()
    app = create_app(settings, Overrides(clock=hand, queue=queue, children=children or NearChildren()))
    with served(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield Registry(client, settings.keys, hand, queue)


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free port of loopback, in a thread; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, loop="asyncio", http="httptools", log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the app did not start"
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
