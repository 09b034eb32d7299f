"""Whatever the link, the process and the power do to a transfer, it ends whole, and no byte is paid for in vain."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.disk import Disk
from edge_client.download import Downloader
from edge_client.partial import PartialFiles
from edge_client.registry import make_client
from edge_client.trust import TrustedFile
from ota_protocol.digest import sha256_hex
from tests.support.registry_fake import FakeRegistry, FakeTransport, Reply, Request

DATA = random.Random(1).randbytes(50_000)
FILE = TrustedFile("models/tiny/1.0.0/model.onnx", sha256_hex(DATA), len(DATA))

EVENT = st.one_of(
    st.tuples(st.just("part"), st.integers(1, len(DATA))),
    st.tuples(st.just("cut"), st.integers(0, len(DATA))),
    st.tuples(st.just("kill"), st.integers(0, 4_000)),
    st.tuples(st.just("power cut"), st.integers(0, 4_000)),
    st.tuples(st.just("busy"), st.sampled_from([429, 500, 503])),
)


class Road:
    """A transfer under bad luck."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = FakeRegistry()
        self.registry.put_target(FILE.target, DATA)
        self.boot = 0
        self.restart()

    def restart(self) -> None:
        client = make_client(FakeTransport(self.registry), "http://registry.test", 1.0)
        files = PartialFiles(self.folder, Disk(), boot=f"boot-{self.boot}")
        self.downloads = Downloader(client, files, threading.Event())

    def happen(self, what: str, number: int) -> int:
        """Let one thing happen; return the payload that was moved."""
        if what == "kill":
            self.tail(DATA, number)  # the kernel keeps what was written before the kill
            self.restart()
            return 0
        if what == "power cut":
            self.tail(bytes(len(DATA)), number)  # what was not flushed may come back as zeros
            self.boot += 1
            self.restart()
            return 0
        self.registry.faults = [lambda each, request: self.fault(each, request, what, number)]
        return self.downloads.fetch(FILE, number if what == "part" else len(DATA)).received_bytes

    def tail(self, source: bytes, count: int) -> None:
        """Append bytes to the part that no record knows of."""
        part = self.folder / f"{FILE.digest}.part"
        if part.exists():
            with part.open("ab") as file:
                file.write(source[file.tell() : file.tell() + count])

    @staticmethod
    def fault(registry: FakeRegistry, request: Request, what: str, number: int) -> Reply | None:
        if what == "busy":
            return Reply(number)
        reply = registry.honest(request)
        if what == "cut":
            reply.cut_after = min(number, len(reply.body))
        return reply


@given(st.lists(EVENT, max_size=12))
@settings(max_examples=60, deadline=None)
def test_transfer_ends_whole_and_moves_no_byte_twice(course: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder:
        road = Road(Path(folder))
        moved = 0
        for what, number in [*course, ("part", len(DATA))]:
            if not road.downloads.files.is_complete(FILE.digest):
                moved += road.happen(what, number)
        assert road.downloads.files.path(FILE.digest).read_bytes() == DATA
        assert moved <= len(DATA)
        assert [path.name for path in Path(folder).iterdir()] == [FILE.digest]
