"""Attacks on the transfer of a file: it is bounded, resumed or thrown away, and never handed on unless it is whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from edge_client.disk import Disk
from edge_client.download import WASTE_BYTES, WASTE_FACTOR, Downloader
from edge_client.partial import PartialFiles
from edge_client.registry import make_client
from edge_client.trust import TrustedFile
from ota_protocol.digest import sha256_hex
from ota_protocol.errors import DigestMismatchError, MalformedError, PeerError, RefusedError, TransportError
from tests.support.registry_fake import FakeRegistry, FakeTransport, Reply, Request

DATA = bytes(range(256)) * 400
FILE = TrustedFile("models/tiny/1.0.0/model.onnx", sha256_hex(DATA), len(DATA))
Answer = Callable[[Request], Reply]


class Link:
    """A downloader, and a registry that answers as a test says."""

    def __init__(self, folder: Path) -> None:
        self.registry = FakeRegistry()
        self.registry.put_target(FILE.target, DATA)
        self.folder = folder / "downloads"
        self.ticks = iter(range(0, 10**9, 10))
        self.downloads = self.restarted()

    def restarted(self, boot: str = "boot-1") -> Downloader:
        """Return the downloader of a new process."""
        client = make_client(FakeTransport(self.registry), "http://registry.test", 1.0)
        files = PartialFiles(self.folder, Disk(), boot=boot)
        return Downloader(client, files, threading.Event(), clock=lambda: float(next(self.ticks)))

    def answer(self, answer: Answer) -> None:
        """Answer every request for the target so."""
        self.registry.faults[:] = [lambda _, request: answer(request)]

    def fetch(self) -> None:
        """Fetch until the file is whole; a failure of the link is raised."""
        while not self.downloads.files.is_complete(FILE.digest):
            part = self.downloads.fetch(FILE, 1 << 20)
            if part.failure is not None:
                raise part.failure

    def cut(self, after: int) -> None:
        """Fetch from an honest registry over a link that drops."""

        def answer(request: Request) -> Reply:
            reply = self.registry.honest(request)
            reply.cut_after = after
            return reply

        self.answer(answer)
        assert self.downloads.fetch(FILE, 1 << 20).failure is not None
        self.registry.faults.clear()

    @property
    def nothing_is_left(self) -> bool:
        """Whether neither a part nor a file is on the disk."""
        return not any(path.suffix == ".part" or path.name == FILE.digest for path in self.folder.iterdir())


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return Link(tmp_path)


def part_headers(first: int, last: int, total: int = len(DATA)) -> dict[str, str]:
    return {"content-range": f"bytes {first}-{last}/{total}", "etag": '"x"'}


def test_honest_transfer(link: Link) -> None:
    link.fetch()
    assert link.downloads.files.path(FILE.digest).read_bytes() == DATA
    assert sorted(path.name for path in link.folder.iterdir()) == [FILE.digest]


def test_tampered_target(link: Link) -> None:
    evil = b"\xff" + DATA[1:]
    link.answer(lambda _: Reply(206, evil, part_headers(0, len(DATA) - 1)))
    with pytest.raises(DigestMismatchError):
        link.fetch()
    assert link.nothing_is_left


def test_registry_that_always_serves_wrong_bytes_is_not_paid_for_ever(link: Link) -> None:
    evil = b"\xff" + DATA[1:]
    link.answer(lambda _: Reply(206, evil, part_headers(0, len(DATA) - 1)))
    moved, failures = 0, 0
    while failures < 50:
        failures += 1
        try:
            link.downloads.fetch(FILE, 1 << 20)
        except MalformedError:
            break
        except DigestMismatchError:
            moved += len(DATA)
    assert moved <= WASTE_FACTOR * len(DATA) + WASTE_BYTES + len(DATA)
    assert failures < 10


def test_endless_data_without_a_length(link: Link) -> None:
    sent = []

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                sent.append(1)
                yield b"\x00" * 65536

    class Transport(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(206, headers=part_headers(0, len(DATA) - 1), stream=Endless())

    client = make_client(Transport(), "http://registry.test", 1.0)
    downloads = Downloader(client, PartialFiles(link.folder, Disk()), threading.Event())
    with pytest.raises(MalformedError, match="more"):
        downloads.fetch(FILE, 1 << 20)
    assert len(sent) <= len(DATA) // 65536 + 2


def test_more_than_the_range_that_was_asked_for(link: Link) -> None:
    link.answer(lambda _: Reply(206, DATA + b"extra", part_headers(0, len(DATA) - 1)))
    with pytest.raises(MalformedError, match="more"):
        link.downloads.fetch(FILE, 1 << 20)


def test_whole_file_of_another_length(link: Link) -> None:
    link.answer(lambda _: Reply(200, DATA * 2))
    with pytest.raises(MalformedError, match="another length"):
        link.fetch()
    assert link.nothing_is_left


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-range": "bytes 5-102399/102400"},
        {"content-range": f"bytes 0-{len(DATA) - 1}/999999"},
        {"content-range": "bytes */102400"},
        {"content-range": "items 0-1/2"},
        {"content-range": "bytes 0-99999999999999999999999/102400"},
    ],
)
def test_answer_with_a_wrong_range(link: Link, headers: dict[str, str]) -> None:
    link.answer(lambda _: Reply(206, DATA, headers))
    with pytest.raises(MalformedError):
        link.fetch()
    assert link.nothing_is_left


def test_registry_that_ignores_the_range_of_a_resumed_transfer(link: Link) -> None:
    link.answer(lambda request: Reply(206, DATA, part_headers(0, len(DATA) - 1), cut_after=40_000))
    assert link.downloads.fetch(FILE, 1 << 20).failure is not None
    link.answer(lambda request: Reply(200, DATA, {"etag": '"y"'}))
    link.fetch()
    assert link.downloads.files.path(FILE.digest).read_bytes() == DATA


def test_file_that_changed_between_two_parts_is_fetched_anew(link: Link) -> None:
    link.answer(lambda request: Reply(206, b"\x01" * len(DATA), part_headers(0, len(DATA) - 1), cut_after=40_000))
    assert link.downloads.fetch(FILE, 1 << 20).failure is not None
    link.registry.faults.clear()
    link.fetch()  # the honest registry has another ETag, so If-Range makes it answer with the whole file
    assert link.downloads.files.path(FILE.digest).read_bytes() == DATA
    assert link.registry.requests[-1].headers["if-range"] == '"x"'


def test_range_that_cannot_be_satisfied(link: Link) -> None:
    link.answer(lambda _: Reply(416))
    with pytest.raises(TransportError):
        link.fetch()


@pytest.mark.parametrize("status", [301, 302, 304, 307])
def test_redirect_is_not_followed(link: Link, status: int) -> None:
    link.answer(lambda _: Reply(status, b"", {"location": "http://elsewhere.test/evil"}))
    with pytest.raises(MalformedError):
        link.fetch()
    assert all(request.path == FILE.url_path for request in link.registry.requests)


@pytest.mark.parametrize(("status", "kind"), [(404, RefusedError), (403, RefusedError), (410, RefusedError)])
def test_refused(link: Link, status: int, kind: type[PeerError]) -> None:
    link.answer(lambda _: Reply(status, b"<html>" * 1000))
    with pytest.raises(kind, match=str(status)):
        link.fetch()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_busy_registry_is_worth_another_try(link: Link, status: int) -> None:
    link.answer(lambda _: Reply(status))
    with pytest.raises(TransportError):
        link.fetch()
    link.registry.faults.clear()
    link.fetch()


def test_slow_retrieval_is_dropped_and_what_came_is_kept(link: Link) -> None:
    link.answer(lambda _: Reply(206, DATA, part_headers(0, len(DATA) - 1), chunk_bytes=100))
    part = link.downloads.fetch(FILE, 1 << 20)  # the clock of this test moves 10 s at each look
    assert part.failure is not None
    assert "bytes/s" in str(part.failure)
    assert 0 < part.received_bytes < 5_000
    assert link.downloads.files.here_bytes(FILE.digest) == part.received_bytes


def test_coded_answer_is_not_decoded(link: Link) -> None:
    """A content coding that nobody asked for is bytes like any others: no bomb can unfold."""
    link.answer(lambda _: Reply(206, DATA, part_headers(0, len(DATA) - 1) | {"content-encoding": "gzip"}))
    link.fetch()
    assert link.downloads.files.path(FILE.digest).read_bytes() == DATA
    assert link.registry.requests[-1].headers["accept-encoding"] == "identity"


def test_kill_keeps_the_whole_part(link: Link) -> None:
    link.cut(50_000)
    with (link.folder / f"{FILE.digest}.part").open("ab") as part:
        part.write(DATA[50_000:60_000])  # written after the last flush, kept by the kernel
    link.downloads = link.restarted(boot="boot-1")
    link.fetch()
    assert link.registry.requests[-1].headers["range"] == f"bytes=60000-{len(DATA) - 1}"


def test_power_cut_keeps_only_what_was_durable(link: Link) -> None:
    link.cut(50_000)
    with (link.folder / f"{FILE.digest}.part").open("ab") as part:
        part.write(b"\x00" * 10_000)  # what a file system may leave of unflushed data
    link.downloads = link.restarted(boot="boot-2")
    link.fetch()
    assert link.registry.requests[-1].headers["range"] == f"bytes=50000-{len(DATA) - 1}"
    assert link.downloads.files.path(FILE.digest).read_bytes() == DATA


@pytest.mark.parametrize("sidecar", [b"", b"{", b'{"durable_bytes": -4}', b'{"durable_bytes": 99999999999}', b"\xff"])
def test_torn_record_of_a_part(link: Link, sidecar: bytes) -> None:
    link.cut(50_000)
    (link.folder / f"{FILE.digest}.json").write_bytes(sidecar)
    link.downloads = link.restarted()
    link.fetch()
    assert link.downloads.files.path(FILE.digest).read_bytes() == DATA


def test_part_that_is_longer_than_the_file(link: Link) -> None:
    (link.folder / f"{FILE.digest}.part").write_bytes(DATA * 2)
    link.downloads = link.restarted()
    link.fetch()
    assert link.downloads.files.path(FILE.digest).read_bytes() == DATA
