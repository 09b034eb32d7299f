"""Owns the use case of making deltas: which are wanted, making one, proving it, signing it, letting rollouts go.

Each step may run twice: a crash between two steps only means that the first one finds its work done. `server.worker`
runs the steps as a durable workflow.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Protocol

from sqlalchemy.orm import Session

from ota_protocol.digest import DigestHex, sha256_hex
from ota_protocol.errors import RequestError
from ota_protocol.manifest import FileRef
from server.domain.release import KnownRelease
from server.domain.rollout import KnownRollout, wanted_base, wanted_deltas, wanted_fulls
from server.repository.keys import OnlineKeys
from server.repository.metadata_set import with_delta
from server.services.catalog import Catalog
from server.services.child import Children
from server.services.clock import Clock
from server.services.metadata import load_for_change, save
from server.services.workspace import Workspace
from server.store import deltas, metadata, releases, rollouts, vehicles
from server.store.blobs import Blobs
from server.store.database import Database
from server.store.deltas import DeltaState, DeltaTask
from server.store.tables import DeltaRow

log = logging.getLogger(__name__)

BASE_MEMORY_BYTES = 2 << 30
MEMORY_FACTOR = 40
"""The encoder keeps both files, their integer views and the coders' tables in memory at once."""


class DeltaQueue(Protocol):
    """Where deltas to be made are put; each task is done once, however often it is put."""

    def put(self, task: DeltaTask) -> None:
        """Have the task done in the background."""
        ...


class DeltaMaker:
    """Makes, proves and signs deltas."""

    def __init__(
        self,
        *,
        database: Database,
        blobs: Blobs,
        workspace: Workspace,
        children: Children,
        catalog: Catalog,
        keys: OnlineKeys,
        clock: Clock,
        timeout_s: float,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._workspace = workspace
        self._children = children
        self._catalog = catalog
        self._keys = keys
        self._clock = clock
        self._timeout_s = timeout_s

    def make(self, base: DigestHex | None, result: DigestHex) -> str:
        """Make one delta, prove it and store it; a no-op if that was done. Return where it stands then.

        Raises:
            StorageError: the disk or the database failed; worth another try.
        """
        with self._database.read() as session:
            row = deltas.get(session, base, result)
            if row is None or row.state != DeltaState.WANTED:
                return row.state if row is not None else DeltaState.DROPPED
            smallest_other = _smallest_other(session, base, result)
        started = time.monotonic()
        try:
            file = self._encode(base, result)
        except RequestError as error:
            return self._settle(base, result, DeltaState.FAILED, str(error))
        if smallest_other is not None and file.length_bytes >= smallest_other:
            detail = f"{file.length_bytes:,} bytes are not fewer than {smallest_other:,}"
            return self._settle(base, result, DeltaState.DROPPED, detail)
        return self._keep(base, result, file, time.monotonic() - started)

    def offer(self, base: DigestHex | None, result: DigestHex) -> str:
        """Sign one delta that was made into the role `deltas`, so that vehicles may fetch it. Return where it stands.

        Raises:
            StorageError: the database failed; worth another try.
        """
        with self._database.write() as session:
            current = load_for_change(session)
            row = deltas.get(session, base, result)
            if row is None or row.state != DeltaState.MADE or row.digest is None or row.length_bytes is None:
                return row.state if row is not None else DeltaState.DROPPED
            file = FileRef(digest=row.digest, length_bytes=row.length_bytes)
            save(session, with_delta(current, row.target, file, self._keys, self._clock()))
            metadata.add_target(session, row.target, row.digest, row.length_bytes)
            row.state, row.settled_at = DeltaState.OFFERED, self._clock()
        self._catalog.stale()
        return DeltaState.OFFERED

    def fail(self, base: DigestHex | None, result: DigestHex, detail: str) -> str:
        """Give up on one delta: vehicles take another way."""
        return self._settle(base, result, DeltaState.FAILED, detail)

    def start_prepared(self) -> list[str]:
        """Let the rollouts run whose deltas are all settled; return their names."""
        with self._database.write() as session:
            ready = [
                rollout.name
                for rollout in rollouts.every(session)
                if rollout.state == "preparing" and not deltas.unsettled_of(session, rollout.waits_for)
            ]
            for name in ready:
                rollouts.start(session, name)
        if ready:
            self._catalog.stale()
        return ready

    def again(self, task: DeltaTask) -> DeltaTask:
        """Return the same task as a new attempt: its workflow ended, and the delta is not settled."""
        with self._database.write() as session:
            row = deltas.get(session, task.base, task.result)
            if row is None:
                return task
            row.attempt += 1
            return DeltaTask(task.base, task.result, row.attempt)

    def unsettled(self) -> list[DeltaTask]:
        """Return what is still to be done, as after a crash."""
        with self._database.read() as session:
            return deltas.unsettled(session)

    def _encode(self, base: DigestHex | None, result: DigestHex) -> FileRef:
        with self._workspace.place() as place:
            self._blobs.copy_to(result, place / "result")
            if base is not None:
                self._blobs.copy_to(base, place / "base")
            length = sum(file.stat().st_size for file in place.iterdir())
            limits = (BASE_MEMORY_BYTES + MEMORY_FACTOR * length, int(self._timeout_s) + 1, 2 * length + (1 << 20))
            files = ("-" if base is None else str(place / "base"), str(place / "result"), str(place / "delta"))
            arguments = [*map(str, limits), *files]
            self._children.run(
                "server.children.encode_delta", arguments, timeout_s=self._timeout_s, what="making the delta"
            )
            return self._store(place / "delta")

    def _store(self, file: Path) -> FileRef:
        with file.open("rb") as opened:
            digest = sha256_hex(iter(lambda: opened.read(1 << 20), b""))
        self._blobs.add(digest, file)
        return FileRef(digest=digest, length_bytes=file.stat().st_size)

    def _keep(self, base: DigestHex | None, result: DigestHex, file: FileRef, seconds: float) -> str:
        with self._database.write() as session:
            row = deltas.get(session, base, result)
            if row is not None and row.state == DeltaState.WANTED:
                row.digest, row.length_bytes = file.digest, file.length_bytes
                row.seconds, row.state = seconds, DeltaState.MADE
        return DeltaState.MADE

    def _settle(self, base: DigestHex | None, result: DigestHex, state: DeltaState, detail: str) -> str:
        log.info("delta from %s to %s: %s, %s", (base or "nothing")[:16], result[:16], state, detail)
        with self._database.write() as session:
            row = deltas.get(session, base, result)
            if row is not None and row.state not in deltas.SETTLED:
                row.state, row.detail, row.settled_at = state, detail[:512], self._clock()
        return state


def want_for(
    session: Session, release: KnownRelease, rollout: KnownRollout | None, clock: Clock
) -> tuple[frozenset[str], list[DeltaTask]]:
    """Note which deltas lead the fleet, or the vehicles of one rollout, to a release.

    Returns:
        The target paths that are still to be made, and all tasks that are to be put on the queue.
    """
    known = releases.every(session)
    pairs: dict[tuple[DigestHex | None, DigestHex], None] = {(None, result): None for result in wanted_fulls(release)}
    for row in vehicles.every(session):
        said = vehicles.manifest(row)
        if said is None or (rollout is not None and not rollout.covers(row.name)):
            continue
        base = wanted_base(said, known, release.model)
        if base is not None:
            pairs |= dict.fromkeys(wanted_deltas(base, release))
    targets = {deltas.want(session, base, result, clock()) for base, result in pairs}
    return deltas.unsettled_of(session, targets), deltas.unsettled(session)


def _smallest_other(session: Session, base: DigestHex | None, result: DigestHex) -> int | None:
    """Return the length that a delta must stay below: of the compressed full, or of the raw file."""
    full: DeltaRow | None = deltas.get(session, None, result) if base is not None else None
    if full is not None and full.length_bytes is not None:
        return full.length_bytes
    files = (file for known in releases.every(session) for file in (known.artifact, known.manifest))
    return next((file.length_bytes for file in files if file.digest == result), None)
