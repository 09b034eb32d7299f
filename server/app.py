"""The composition root: the one place where the parts of the server are made and put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import FastAPI
from sqlalchemy.engine import URL
from starlette.concurrency import run_in_threadpool
from starlette.types import Lifespan

from server import problems
from server.api import blobs as blobs_api
from server.api import check_in, health, models, rollouts, savings, tuf, vehicles
from server.background import Periodic
from server.deps import Services
from server.description import describe
from server.limits import BodyLimit
from server.metrics import CountRequests, Metrics
from server.repository.keys import OnlineKeys, load_online
from server.services.catalog import Catalog
from server.services.check_in import CheckInDesk, CheckInRules
from server.services.child import Children
from server.services.clock import Clock, utc_now
from server.services.deltas import DeltaMaker, DeltaQueue
from server.services.enrol import Registrar
from server.services.files import TargetFiles
from server.services.gate import Gate
from server.services.inspection import Inspector
from server.services.metadata import Resigner
from server.services.presence import Presence
from server.services.publish import Publisher
from server.services.rollouts import RolloutDesk
from server.services.savings import SavingsDesk
from server.services.uploads import Uploader
from server.services.watch import Watch
from server.services.workspace import Workspace
from server.settings import Settings
from server.store import schema
from server.store.blobs import Blobs
from server.store.database import Database, database_url
from server.worker import DurableQueue

VERSION = "0.1.0"

RECONCILE_S = 60.0
"""How often the queue of deltas is compared with what is wanted; only a failure of the queue leaves a difference."""


class Queue(DeltaQueue, Protocol):
    """A queue with a life: `DurableQueue`, or a test's own."""

    def start(self, maker: DeltaMaker) -> None:
        """Begin to work."""
        ...

    def reconcile(self) -> None:
        """Put what is unsettled, and let prepared rollouts run."""
        ...

    def stop(self) -> None:
        """End."""
        ...


@dataclass(frozen=True, slots=True)
class Overrides:
    """Parts that a test puts in place of the real ones."""

    clock: Clock = utc_now
    blobs: Blobs | None = None
    queue: Queue | None = None
    children: Children | None = None
    keys: OnlineKeys | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What lives as long as the app."""

    database: Database
    blobs: Blobs
    workspace: Workspace
    maker: DeltaMaker
    queue: Queue
    children: Children
    presence: Presence
    refresh: Callable[[], None]
    periodic: tuple[Periodic, ...] = field(default=())

    def check(self) -> None:
        """See that there is a registry to serve, and sign what is due, so that a mistake ends as one line.

        Raises:
            RequestError: the schema is not the one that this server needs.
            StorageError: the database fails, or the keys are of another registry.
        """
        schema.require_current(self.database)
        self.refresh()

    def start(self) -> None:
        """Sweep what a crash left, and begin to work.

        Raises:
            StorageError: the disk or the database fails.
        """
        self.workspace.sweep()
        self.blobs.sweep()
        self.queue.start(self.maker)
        for work in self.periodic:
            work.start()

    def stop(self) -> None:
        """End all work; what was cut off is done at the next start."""
        for work in self.periodic:
            work.stop(timeout_s=5)
        self.children.stop()
        self.queue.stop()
        self.presence.flush()
        self.database.close()


def create_app(settings: Settings, overrides: Overrides | None = None) -> FastAPI:
    """Return the server as an ASGI app; it begins to work in its lifespan.

    Raises:
        RequestError: a setting or a key file cannot be used, or the registry was not initialised for this server.
        StorageError: the database or the data folder cannot be used.
    """
    url = database_url(settings.database_url, settings.data)
    # Before anything is made in a folder that was only mistyped.
    schema.require_file(url)
    parts, services = _assemble(settings, url, overrides or Overrides())
    parts.check()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(parts.start)
        try:
            yield
        finally:
            await run_in_threadpool(parts.stop)

    app = api(lifespan)
    app.state.services = services
    app.add_middleware(BodyLimit, blob_bytes=settings.max_upload_bytes)
    app.add_middleware(CountRequests, metrics=services.metrics)
    return app


def api(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """Return the HTTP API without services behind it: enough to describe it."""
    app = FastAPI(
        title="SqueezeOTA registry",
        version=VERSION,
        summary="Publishes signed releases and deltas of ONNX models, and rolls them out to vehicles.",
        lifespan=lifespan,
        docs_url=None,  # their pages load from a CDN, which a closed network does not have
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # /metrics is what is measured here
    )
    problems.install(app)
    for noun in (blobs_api, models, vehicles, check_in, rollouts, savings, tuf, health):
        app.include_router(noun.router)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _assemble(settings: Settings, url: URL, given: Overrides) -> tuple[Parts, Services]:
    database = Database(url)
    blobs = given.blobs or Blobs.open(settings.blobs_url, settings.data)
    keys = given.keys or load_online(settings.keys)
    clock = given.clock
    workspace = Workspace(settings.incoming)
    children = given.children or Children()
    catalog = Catalog(database)
    presence = Presence(database)
    queue: Queue = given.queue or DurableQueue(url, settings.data)
    maker = DeltaMaker(
        database=database,
        blobs=blobs,
        workspace=workspace,
        children=children,
        catalog=catalog,
        keys=keys,
        clock=clock,
        timeout_s=settings.delta_timeout_s,
    )
    inspector = Inspector(blobs, workspace, children, settings.inspect_timeout_s)
    rules = CheckInRules(after_s=settings.check_in_after_s, max_failures=settings.max_failures)
    resigner = Resigner(database, keys, clock)

    def refresh() -> None:
        if resigner.refresh():
            catalog.stale()

    periodic = (
        Periodic("resigner", refresh, settings.resign_every_s),
        Periodic("deltas", queue.reconcile, RECONCILE_S),
        Periodic("presence", presence.flush, settings.seen_flush_s),
    )
    services = Services(
        gate=Gate(database),
        uploader=Uploader(blobs, workspace, settings.max_upload_bytes),
        publisher=Publisher(
            database=database,
            blobs=blobs,
            inspector=inspector,
            catalog=catalog,
            queue=queue,
            keys=keys,
            clock=clock,
        ),
        registrar=Registrar(database, presence, clock),
        check_ins=CheckInDesk(
            database=database, catalog=catalog, presence=presence, queue=queue, clock=clock, rules=rules
        ),
        rollouts=RolloutDesk(database, catalog, queue, clock),
        savings=SavingsDesk(database),
        files=TargetFiles(database, blobs, catalog),
        watch=Watch(database, blobs, clock),
        catalog=catalog,
        metrics=Metrics(),
    )
    return Parts(database, blobs, workspace, maker, queue, children, presence, refresh, periodic), services
