"""Publishing to a real registry, over links and past publishers that misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

import httpx
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from model_build.publish import publish
from model_build.registry import ATTEMPTS, MAX_ANSWER_BYTES, Registry
from model_build.sign import load_signer
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import (
    DigestMismatchError,
    MalformedError,
    RefusedError,
    RequestError,
    TransportError,
    TrustError,
)
from ota_protocol.manifest import ModelManifest
from ota_protocol.wire import Release
from tests.support.registry import Build, build, running_registry
from tests.support.registry import Registry as Running

Rule = Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response | None]


class Link(httpx.BaseTransport):
    """The real network, on which rules may act: each sees a request, and may answer or fail in the network's place."""

    def __init__(self, *rules: Rule) -> None:
        self._inner, self._rules = httpx.HTTPTransport(), rules
        self.seen: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(f"{request.method} {request.url.path}")
        for rule in self._rules:
            answer = rule(request, lambda: self._inner.handle_request(request))
            if answer is not None:
                return answer
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def once(method: str, part: str, act: Callable[[Callable[[], httpx.Response]], httpx.Response | None]) -> Rule:
    """Return a rule that acts on the first request of this kind."""
    spent: list[bool] = []

    def rule(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response | None:
        if spent or request.method != method or part not in request.url.path:
            return None
        spent.append(True)
        return act(send)

    return rule


def lost(send: Callable[[], httpx.Response]) -> httpx.Response:
    """Let the request arrive, and lose its answer."""
    response = send()
    response.read()
    response.close()
    raise httpx.ReadError("the connection was reset")


def broken(_: Callable[[], httpx.Response]) -> httpx.Response:
    raise httpx.WriteError("the connection was reset")


def write(folder: Path, made: Build) -> Path:
    """Write a release as `ota-build export` leaves it."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(made.artifact)
    (folder / "manifest.json").write_bytes(made.manifest)
    return folder


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with running_registry(tmp_path / "registry") as registry:
        yield registry


def key(running: Running) -> CryptoSigner:
    return load_signer(running.keys / "offline" / "targets.pem")


def send(running: Running, folder: Path, *rules: Rule, signer: CryptoSigner | None = None) -> tuple[Release, list[str]]:
    """Publish a folder; return what the registry says and the requests that it took."""
    link, pauses = Link(*rules), list[float]()
    url = str(running.client.base_url)
    token = (running.keys / "operator.token").read_text().strip()
    with Registry(url, token, transport=link, sleep=pauses.append) as registry:
        found = publish(
            folder,
            registry,
            signer or key(running),
            now=lambda: running.clock.now.astimezone(UTC),
            sleep=pauses.append,
            progress=lambda *_: None,
        )
    return found, link.seen


def current(running: Running) -> Targets:
    return running.current_targets().signed


def test_a_release_is_uploaded_signed_and_listed(running: Running, tmp_path: Path) -> None:
    made = build()
    found, _ = send(running, write(tmp_path / "r", made))
    assert (found.model, found.release, found.release_counter) == (made.model, made.release, 1)
    assert found.artifact.digest == sha256_hex(made.artifact)
    listed = current(running).targets
    assert listed["models/tiny/1.0.0/model.onnx"].hashes["sha256"] == sha256_hex(made.artifact)
    assert listed["models/tiny/1.0.0/manifest.json"].custom == {"release_counter": 1}


def test_a_second_time_changes_nothing_and_sends_nothing(running: Running, tmp_path: Path) -> None:
    folder = write(tmp_path / "r", build())
    first, _ = send(running, folder)
    version = current(running).version
    again, requests = send(running, folder)
    assert again == first
    assert requests == ["GET /api/v1/models/tiny/releases/1.0.0"]
    assert current(running).version == version


def test_other_bytes_under_the_same_name_are_refused(running: Running, tmp_path: Path) -> None:
    send(running, write(tmp_path / "r", build()))
    with pytest.raises(RefusedError, match=r"exists with other bytes .* another number") as caught:
        send(running, write(tmp_path / "s", build(seed=1)))
    assert caught.value.status == 409


def test_an_upload_that_breaks_off_is_sent_again(running: Running, tmp_path: Path) -> None:
    found, requests = send(running, write(tmp_path / "r", build()), once("PUT", "/blobs/", broken))
    assert found.release_counter == 1
    assert sum("/blobs/" in request for request in requests) == 3


@pytest.mark.parametrize("part", ["/blobs/", "/releases/"])
def test_a_lost_answer_does_no_harm(part: str, running: Running, tmp_path: Path) -> None:
    found, _ = send(running, write(tmp_path / "r", build()), once("PUT", part, lost))
    assert found.release_counter == 1
    assert current(running).version == 2


def test_a_registry_that_restarts_is_waited_for(running: Running, tmp_path: Path) -> None:
    def busy(status: int) -> Rule:
        return once("PUT", "/blobs/", lambda _: httpx.Response(status, html="<h1>busy</h1>"))

    found, _ = send(running, write(tmp_path / "r", build()), busy(502), busy(503), busy(429))
    assert found.release_counter == 1


def test_a_faster_publisher_makes_us_sign_again(running: Running, tmp_path: Path) -> None:
    other = build("0.9.0", seed=9)

    def overtake(_: Callable[[], httpx.Response]) -> None:
        assert running.publish(other, 1).status_code == 201

    found, requests = send(running, write(tmp_path / "r", build()), once("PUT", "/releases/", overtake))
    assert found.release_counter == 2
    assert sum(request.startswith("PUT /api/v1/models") for request in requests) == 2
    assert {"models/tiny/0.9.0/model.onnx", "models/tiny/1.0.0/model.onnx"} <= current(running).targets.keys()


def test_many_publishers_at_once_all_succeed(running: Running, tmp_path: Path) -> None:
    folders = [write(tmp_path / str(n), build(f"1.{n}.0", model=f"tiny-{n}", seed=n)) for n in range(4)]
    failures: list[BaseException] = []

    def work(folder: Path) -> None:
        try:
            send(running, folder)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(current(running).targets) == 8


def test_a_dead_registry_is_given_up_on(running: Running, tmp_path: Path) -> None:
    folder, pauses, said = write(tmp_path / "r", build()), list[float](), list[str]()
    signer = key(running)
    with (
        Registry("http://127.0.0.1:9", "token", sleep=pauses.append, on_retry=said.append) as registry,
        pytest.raises(TransportError, match=r"cannot reach the registry at http://127\.0\.0\.1:9: .*see that it runs"),
    ):
        publish(folder, registry, signer, sleep=pauses.append, progress=lambda *_: None)
    assert len(pauses) == len(said) == ATTEMPTS - 1
    assert pauses[-1] > pauses[0]
    assert sum(pauses) < 30


def test_a_wrong_token_is_refused_at_once(running: Running, tmp_path: Path) -> None:
    folder, link = write(tmp_path / "r", build()), Link()
    with (
        Registry(str(running.client.base_url), "wrong", transport=link) as registry,
        pytest.raises(RefusedError) as caught,
    ):
        publish(folder, registry, key(running), sleep=lambda _: None, progress=lambda *_: None)
    assert caught.value.status == 401
    assert caught.value.remedy
    assert len(link.seen) == 1


def test_a_token_that_may_not_write_is_refused(running: Running, tmp_path: Path) -> None:
    token = (running.keys / "enrolment.token").read_text().strip()
    with Registry(str(running.client.base_url), token) as registry, pytest.raises(RefusedError) as caught:
        registry.put_blob(write(tmp_path / "r", build()) / "model.onnx", sha256_hex(build().artifact), lambda _: None)
    assert caught.value.status in {401, 403}


def test_an_oversized_upload_is_refused_with_the_limit(tmp_path: Path) -> None:
    with running_registry(tmp_path / "registry", max_upload_bytes=1000) as running:
        with pytest.raises(RefusedError) as caught:
            send(running, write(tmp_path / "r", build()))
        assert caught.value.status == 413
        assert current(running).version == 1


def test_another_key_signs_nothing(running: Running, tmp_path: Path) -> None:
    folder = write(tmp_path / "r", build())
    with pytest.raises(TrustError, match="not signed by this targets key"):
        send(running, folder, signer=CryptoSigner.generate_ed25519())
    assert current(running).version == 1


def replaced(name: str, change: Callable[[bytes], bytes]) -> Rule:
    """Return a rule that changes a metadata file on its way."""

    def rule(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response | None:
        if not request.url.path.endswith(name):
            return None
        response = send()
        body = response.read()
        response.close()
        return httpx.Response(200, content=change(body))

    return rule


def renumbered(body: bytes) -> bytes:
    metadata = json.loads(body)
    metadata["signed"]["version"] += 1
    return json.dumps(metadata).encode()


TAMPERED: tuple[tuple[str, Callable[[bytes], bytes], type[Exception], str], ...] = (
    ("targets.json", lambda body: body.replace(b'"deltas/*"', b'"*"'), TrustError, "not signed by this targets key"),
    ("targets.json", renumbered, TrustError, "another targets than version 1|not the file that was named"),
    ("snapshot.json", renumbered, TrustError, "another snapshot than version|not the file that was named"),
    ("snapshot.json", lambda _: b"{}", MalformedError, "does not parse"),
    ("timestamp.json", lambda _: b"<html>hello</html>", MalformedError, "does not parse"),
    ("timestamp.json", lambda _: b'{"signed": {}, "signatures": []}', MalformedError, "does not parse"),
    ("timestamp.json", lambda _: b" " * (MAX_ANSWER_BYTES + 1), MalformedError, "more than 16,777,216 bytes"),
)


@pytest.mark.parametrize("case", TAMPERED)
def test_tampered_metadata_is_never_signed(
    case: tuple[str, Callable[[bytes], bytes], type[Exception], str], running: Running, tmp_path: Path
) -> None:
    name, change, error, said = case
    with pytest.raises(error, match=said):
        send(running, write(tmp_path / "r", build()), replaced(name, change))
    assert current(running).version == 1


def test_an_artifact_changed_after_the_build_is_never_sent(running: Running, tmp_path: Path) -> None:
    folder = write(tmp_path / "r", build())
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"!")
    link = Link()
    with (
        Registry("http://127.0.0.1:9", "token", transport=link) as registry,
        pytest.raises(DigestMismatchError, match="not the file that its manifest names; build the folder again"),
    ):
        publish(folder, registry, key(running), sleep=lambda _: None, progress=lambda *_: None)
    assert link.seen == []


def test_a_registry_that_finds_fault_says_what(running: Running, tmp_path: Path) -> None:
    made = build()
    manifest = ModelManifest.from_bytes(made.manifest).model_copy(update={"opset": 18})
    folder = write(tmp_path / "r", Build(made.model, made.release, made.artifact, manifest.to_bytes()))
    with pytest.raises(RefusedError) as caught:
        send(running, folder)
    assert caught.value.status == 422
    assert "opset" in str(caught.value)


def test_something_that_is_no_registry_is_told_apart(tmp_path: Path) -> None:
    def website(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404, html="<h1>Not found</h1>")

    folder, signer = write(tmp_path / "r", build()), CryptoSigner.generate_ed25519()
    with (
        Registry("http://example.test", "token", transport=httpx.MockTransport(website)) as registry,
        pytest.raises(RefusedError, match="HTTP 404; check that the address is that of a registry"),
    ):
        publish(folder, registry, signer, sleep=lambda _: None, progress=lambda *_: None)


def test_an_answer_that_is_no_release_is_refused(tmp_path: Path) -> None:
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json={"hello": "world"}))
    with Registry("http://example.test", "token", transport=answer) as registry, pytest.raises(MalformedError):
        registry.release("tiny", "1.0.0")


@pytest.mark.parametrize("url", ["", "registry", "ftp://host", "http://", "http://[::1", "http://host:port"])
def test_an_address_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="give http://host:port"):
        Registry(url, "token")


def test_the_next_expiry_is_a_year_away(running: Running, tmp_path: Path) -> None:
    send(running, write(tmp_path / "r", build()))
    assert 364 <= (current(running).expires - running.clock.now).days <= 365
