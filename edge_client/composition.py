"""Owns the composition root of a vehicle: everything an agent is made of is built here, and closed here."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from edge_client.disk import Disk, storage_errors
from edge_client.download import Downloader
from edge_client.enrolment import Identity
from edge_client.frames import FrameFolder
from edge_client.inference import Inference
from edge_client.journal import Journal
from edge_client.ledger import Ledger
from edge_client.metering import MeteredBackend, MeteredTransport, Pacer
from edge_client.partial import PartialFiles
from edge_client.parts import Parts
from edge_client.registry import Registry, make_client
from edge_client.runtime import SelfTest, runtime_spec, self_test_in_child
from edge_client.settings import AgentSettings
from edge_client.slots import Slots
from edge_client.status import StatusWriter, read_frame_count
from edge_client.trust import Trust
from edge_client.verify import Verifier
from ota_protocol.errors import RequestError


@contextmanager
def exclusive(state: Path) -> Iterator[None]:
    """Hold the state folder for one agent.

    Raises:
        RequestError: another agent holds it.
    """
    with storage_errors("lock the state folder"), (state / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RequestError(
                f"another agent runs on {state}", remedy="stop it first, or give this one a folder of its own"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def compose(
    settings: AgentSettings,
    stop: threading.Event,
    *,
    disk: Disk | None = None,
    transport: httpx.BaseTransport | None = None,
    self_test: SelfTest | None = None,
    clock: Callable[[], float] = time.time,
    make_journal: Callable[[Path], Journal] = Journal,
) -> Iterator[Parts]:
    """Build the parts of an agent on its state folder, and close them.

    Args:
        settings: read at the rim.
        stop: set it to end the agent.
        disk, transport, self_test, clock, make_journal: what a test replaces.

    Raises:
        RequestError: the vehicle is not enrolled, another agent runs, or there is no folder of frames.
        StorageError: the state folder cannot be used.
    """
    disk = disk or Disk()
    state = settings.state
    identity = Identity.read(state)
    frames = FrameFolder(settings.frames) if settings.frames else None
    with exclusive(state):
        ledger = Ledger(state / "ledger", period_s=settings.budget_period_s, clock=clock, disk=disk)
        pacer = Pacer(settings.rate_bytes_per_s, stop.wait)
        moving = transport or MeteredTransport(MeteredBackend(ledger, pacer, stop))
        client = make_client(moving, identity.registry, settings.request_timeout_s)
        files = PartialFiles(state / "downloads", disk)
        parts = Parts(
            vehicle=identity.vehicle,
            settings=settings,
            disk=disk,
            journal=make_journal(state / "journal.db"),
            slots=Slots(state / "slots", disk),
            ledger=ledger,
            registry=Registry(client, identity.token),
            trust=Trust(state / "metadata", identity.root, client, disk),
            downloads=Downloader(client, files, stop),
            verifier=Verifier(files, disk),
            inference=Inference(frames, settings.frame_interval_s, stop, read_frame_count(state), clock),
            self_test=self_test or self_test_in_child(settings.self_test_timeout_s),
            spec=runtime_spec(),
            stop=stop,
            clock=clock,
        )
        writer = StatusWriter(state, parts.inference, stop)
        writer.start()
        try:
            yield parts
        finally:
            stop.set()
            parts.inference.finish()
            writer.join(timeout=5.0)
            client.close()
            parts.journal.close()
            ledger.close()
