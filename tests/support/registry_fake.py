"""A registry in memory, for the tests of the vehicle: real signatures, real deltas, and faults on demand.

`FakeRegistry.answer` is the whole of it; `FakeTransport` puts it behind httpx without a socket, `serve` behind a real
socket on loopback. A fault sees each request first, and may answer in its place.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader, BufferedWriter
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

from ota_protocol.digest import sha256_hex
from ota_protocol.manifest import FileRef
from ota_protocol.wire import (
    Assignment,
    Candidate,
    CheckIn,
    Enrolment,
    Event,
    EventKind,
    FileOffer,
    Instruction,
    Problem,
    TransferOffer,
)
from tests.support.model_fake import TinyRelease
from tests.support.tuf_fake import FakeRepository

ENROLMENT_TOKEN = "enrol-me"
Headers = dict[str, str]


@dataclass
class Request:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    headers: Headers
    body: bytes = b""


@dataclass
class Reply:
    """One answer. With `cut_after` the connection drops after so many bytes of the body."""

    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=dict)
    cut_after: int | None = None
    chunk_bytes: int = 1 << 14
    pause_s: float = 0.0


@dataclass
class Wire:
    """Bytes that crossed the sockets of `serve`, both ways."""

    total: int = 0


class _CountedFile:
    """A socket's file whose bytes are counted."""

    def __init__(self, inner: Any, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire

    def read(self, size: int = -1) -> bytes:
        return self._note(self._inner.read(size))

    def readline(self, size: int = -1) -> bytes:
        return self._note(self._inner.readline(size))

    def write(self, data: bytes) -> int:
        self._wire.total += len(data)
        return int(self._inner.write(data))

    def _note(self, data: bytes) -> bytes:
        self._wire.total += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


Fault = Callable[["FakeRegistry", Request], Reply | None]


class FakeRegistry:
    """Releases, one wish for every vehicle, and all that was heard from them."""

    def __init__(self) -> None:
        self.repository = FakeRepository()
        self.targets: dict[str, bytes] = {}
        self.releases: dict[str, TinyRelease] = {}
        self.deltas: dict[str, list[TransferOffer]] = {}
        self.wished: str | None = None
        self.rollout = "first"
        self.tokens: dict[str, str] = {}
        self.events: list[Event] = []
        self.check_ins: list[CheckIn] = []
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.wire = Wire()
        self.check_in_after_s = 1.0
        self.feed_timestamp = True
        self.mangle: Callable[[Instruction], Instruction] = lambda instruction: instruction
        self._lock = threading.Lock()

    # ── the operator's side ─────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, release: TinyRelease) -> None:
        """Publish a release: both files, signed."""
        folder = f"models/{release.model}/{release.release}"
        for name, data in (("model.onnx", release.artifact), ("manifest.json", release.manifest)):
            self.repository.add(f"{folder}/{name}", data, counter=release.counter)
            self.put_target(f"{folder}/{name}", data)
        self.releases[release.release] = release
        self.repository.publish()

    def put_target(self, path: str, data: bytes, digest: str | None = None) -> None:
        """Serve bytes under the consistent-snapshot name of a target; `digest` may lie."""
        folder, _, name = path.rpartition("/")
        self.targets[f"/tuf/targets/{folder}/{digest or sha256_hex(data)}.{name}"] = data

    def add_delta(self, base: bytes | None, result: bytes, *, delta: bytes | None = None) -> TransferOffer:
        """Make, sign and offer a delta; `delta` replaces the honest one."""
        from ota_protocol.delta.encode import encode

        made = encode(base, result) if delta is None else delta
        base_digest = sha256_hex(base) if base is not None else None
        path = f"deltas/{base_digest[:16] if base_digest else 'empty'}-{sha256_hex(result)[:16]}.sqd"
        self.repository.add(path, made)
        self.put_target(path, made)
        offer = TransferOffer(
            target=path, digest=sha256_hex(made), length_bytes=len(made), base=base_digest, result=sha256_hex(result)
        )
        self.deltas.setdefault(offer.result, []).append(offer)
        self.repository.publish()
        return offer

    @classmethod
    def offering(cls, release: TinyRelease) -> FakeRegistry:
        """Return a registry that has one release, and wishes that every vehicle runs it."""
        made = cls()
        made.publish(release)
        made.assign(release.release)
        return made

    def assign(self, release: str | None, rollout: str = "first") -> None:
        """Wish that every vehicle runs a release."""
        self.wished, self.rollout = release, rollout

    def kinds(self) -> list[EventKind]:
        """Return the kinds of the events heard so far, without the ledger's."""
        return [event.kind for event in self.events if event.kind is not EventKind.BYTES]

    def fetched(self) -> list[str]:
        """Return the paths of targets that were asked for."""
        return [request.path for request in self.requests if request.path.startswith("/tuf/targets/")]

    # ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        with self._lock:
            self.requests.append(request)
            for fault in list(self.faults):
                reply = fault(self, request)
                if reply is not None:
                    return reply
            return self.honest(request)

    def honest(self, request: Request) -> Reply:
        """Answer as a good registry does."""
        if request.path.startswith("/tuf/metadata/"):
            data = self.repository.files.get(request.path.rpartition("/")[2])
            return Reply(404) if data is None else Reply(200, data)
        if request.path.startswith("/tuf/targets/"):
            return self._target(request)
        if request.path.startswith("/api/v1/vehicles/") and request.method == "PUT":
            return self._enrol(request)
        if request.path == "/api/v1/check-in" and request.method == "POST":
            return self._check_in(request)
        return _problem(404, "no such page")

    def _target(self, request: Request) -> Reply:
        data = self.targets.get(request.path)
        if data is None:
            return _problem(404, "no such target")
        etag = f'"{sha256_hex(data)[:16]}"'
        asked = request.headers.get("range")
        if asked is None or request.headers.get("if-range", etag) != etag:
            return Reply(200, data, {"etag": etag})
        first, last = (int(part) for part in asked.removeprefix("bytes=").split("-"))
        if first >= len(data):
            return Reply(416, b"", {"content-range": f"bytes */{len(data)}"})
        last = min(last, len(data) - 1)
        headers = {"etag": etag, "content-range": f"bytes {first}-{last}/{len(data)}"}
        return Reply(206, data[first : last + 1], headers)

    def _enrol(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {ENROLMENT_TOKEN}":
            return _problem(401, "wrong enrolment token")
        vehicle = request.path.rpartition("/")[2]
        digest = Enrolment.model_validate_json(request.body).token_sha256
        if self.tokens.setdefault(vehicle, digest) != digest:
            return _problem(409, "enrolled with another token")
        return Reply(201, b"{}")

    def _check_in(self, request: Request) -> Reply:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        check_in = CheckIn.model_validate_json(request.body)
        if self.tokens.get(check_in.vehicle.vehicle) != sha256_hex(token.encode()):
            return _problem(401, "wrong token")
        self.check_ins.append(check_in)
        known = {event.id for event in self.events}
        self.events += [event for event in check_in.events if event.id not in known]
        timestamp = base64.b64encode(self.repository.files["timestamp.json"]).decode()
        instruction = Instruction(
            check_in_after_s=self.check_in_after_s,
            root_version=self.repository.root.version,
            timestamp_base64=timestamp if self.feed_timestamp else None,
            assignment=self.assignment(),
            accepted=tuple(event.id for event in check_in.events),
        )
        return Reply(200, self.mangle(instruction).model_dump_json().encode())

    def assignment(self) -> Assignment | None:
        """Return what every vehicle is told to run."""
        if self.wished is None:
            return None
        release = self.releases[self.wished]
        folder = f"models/{release.model}/{release.release}"
        return Assignment(
            rollout=self.rollout,
            model=release.model,
            release=release.release,
            release_counter=release.counter,
            artifact=self._offer(f"{folder}/model.onnx", release.artifact),
            manifest=self._offer(f"{folder}/manifest.json", release.manifest),
        )

    def _offer(self, path: str, data: bytes) -> FileOffer:
        file = FileRef(digest=sha256_hex(data), length_bytes=len(data))
        raw = TransferOffer(target=path, digest=file.digest, length_bytes=file.length_bytes, result=file.digest)
        made = [
            Candidate(kind="delta" if offer.base else "compressed_full", transfers=(offer,))
            for offer in self.deltas.get(file.digest, [])
        ]
        chains = [
            Candidate(kind="chain", transfers=(first, last))
            for last in self.deltas.get(file.digest, [])
            if last.base is not None
            for first in self.deltas.get(last.base, [])
            if first.base is not None
        ]
        return FileOffer(target=path, file=file, candidates=(*made, *chains, Candidate(kind="raw", transfers=(raw,))))


def _problem(status: int, detail: str) -> Reply:
    body = Problem(title="refused", status=status, detail=detail, remedy="see the test").model_dump_json().encode()
    return Reply(status, body, {"content-type": "application/problem+json"})


# ── behind httpx ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Body(httpx.SyncByteStream):
    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        body, cut = self._reply.body, self._reply.cut_after
        end = len(body) if cut is None else min(cut, len(body))
        for start in range(0, end, self._reply.chunk_bytes):
            yield body[start : min(start + self._reply.chunk_bytes, end)]
        if cut is not None:
            raise httpx.ReadError("the connection dropped")


class FakeTransport(httpx.BaseTransport):
    """The registry behind httpx, without a socket."""

    def __init__(self, registry: FakeRegistry) -> None:
        self.registry = registry

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = self.registry.answer(Request(request.method, request.url.path, headers, request.read()))
        known = {"content-length": str(len(reply.body))} | reply.headers
        return httpx.Response(reply.status, headers=known, stream=_Body(reply))


# ── behind a socket ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: FakeRegistry

    def setup(self) -> None:
        super().setup()
        self.rfile = cast("BufferedReader", _CountedFile(self.rfile, self.registry.wire))
        self.wfile = cast("BufferedWriter", _CountedFile(self.wfile, self.registry.wire))

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.registry.answer(Request(self.command, urlsplit(self.path).path, headers, body))
        self.send_response(reply.status)
        for name, value in ({"content-length": str(len(reply.body))} | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        end = len(reply.body) if reply.cut_after is None else reply.cut_after
        waiter = threading.Event()
        for start in range(0, end, reply.chunk_bytes):
            self.wfile.write(reply.body[start : min(start + reply.chunk_bytes, end)])
            if reply.pause_s:
                waiter.wait(reply.pause_s)
        if reply.cut_after is not None:
            self.close_connection = True

    do_GET = do_PUT = do_POST = _serve  # noqa: N815  (the names that http.server calls)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's own signature)
        """Keep the test's output clean."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A vehicle that was killed hangs up: nothing to say."""


@contextmanager
def serve(registry: FakeRegistry, port: int = 0) -> Iterator[str]:
    """Serve a registry on loopback; yields its address."""
    handler = type("Handler", (_Handler,), {"registry": registry})
    server = _Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
