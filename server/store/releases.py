"""Owns the queries for releases."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ota_protocol.manifest import FileRef
from server.domain.release import KnownRelease
from server.store.tables import ReleaseRow


def get(session: Session, model: str, release: str) -> KnownRelease | None:
    """Return one release."""
    row = session.get(ReleaseRow, (model, release))
    return _known(row) if row is not None else None


def every(session: Session) -> tuple[KnownRelease, ...]:
    """Return all releases, of each model the newest first."""
    rows = session.scalars(select(ReleaseRow).order_by(ReleaseRow.model, ReleaseRow.release_counter.desc()))
    return tuple(map(_known, rows))


def last_counter(session: Session, model: str) -> int:
    """Return the highest release counter of a model; 0 if it has no release."""
    return session.scalar(select(func.max(ReleaseRow.release_counter)).where(ReleaseRow.model == model)) or 0


def add(session: Session, release: KnownRelease) -> None:
    """Add a release; the keys refuse one that another writer added meanwhile."""
    session.add(
        ReleaseRow(
            model=release.model,
            release=release.release,
            release_counter=release.release_counter,
            artifact=release.artifact.digest,
            artifact_bytes=release.artifact.length_bytes,
            manifest=release.manifest.digest,
            manifest_bytes=release.manifest.length_bytes,
            metrics=release.metrics,
            published_at=release.published_at,
        )
    )
    session.flush()


def _known(row: ReleaseRow) -> KnownRelease:
    return KnownRelease(
        model=row.model,
        release=row.release,
        release_counter=row.release_counter,
        artifact=FileRef(digest=row.artifact, length_bytes=row.artifact_bytes),
        manifest=FileRef(digest=row.manifest, length_bytes=row.manifest_bytes),
        metrics=row.metrics,
        published_at=row.published_at,
    )
