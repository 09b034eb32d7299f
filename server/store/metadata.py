"""Owns the queries for TUF metadata files and the targets that they list."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from server.domain.signed_file import SignedFile
from server.store.tables import MetadataRow, TargetRow


def newest(session: Session, role: str) -> SignedFile | None:
    """Return the newest version of a role's file."""
    row = session.scalars(
        select(MetadataRow).where(MetadataRow.role == role).order_by(MetadataRow.version.desc()).limit(1)
    ).first()
    return _file(row) if row is not None else None


def expiries(session: Session) -> dict[str, datetime]:
    """Return when the newest version of each role's file expires."""
    last = (
        select(MetadataRow.role, func.max(MetadataRow.version).label("version")).group_by(MetadataRow.role).subquery()
    )
    query = select(MetadataRow.role, MetadataRow.expires_at).join(
        last, (MetadataRow.role == last.c.role) & (MetadataRow.version == last.c.version)
    )
    return dict(session.execute(query).all())


def version(session: Session, role: str, wanted: int) -> SignedFile | None:
    """Return one version of a role's file."""
    row = session.get(MetadataRow, (role, wanted))
    return _file(row) if row is not None else None


def add(session: Session, files: Iterable[SignedFile]) -> None:
    """Add new versions; the key refuses a version that another writer added meanwhile."""
    session.add_all(MetadataRow(role=f.role, version=f.version, expires_at=f.expires_at, body=f.body) for f in files)
    session.flush()


def forget_older(session: Session, role: str, keep: int) -> None:
    """Drop all but the `keep` newest versions, which vehicles in mid-refresh may still ask for."""
    last = session.scalar(select(func.max(MetadataRow.version)).where(MetadataRow.role == role))
    if last is not None:
        session.execute(delete(MetadataRow).where(MetadataRow.role == role, MetadataRow.version <= last - keep))


def add_target(session: Session, path: str, digest: str, length_bytes: int) -> None:
    """Let a file be fetched under its target path; a no-op where it can be."""
    if session.get(TargetRow, (path, digest)) is None:
        session.add(TargetRow(path=path, digest=digest, length_bytes=length_bytes))


def target_length(session: Session, path: str, digest: str) -> int | None:
    """Return the length of a listed target file, or None if no metadata ever listed it."""
    row = session.get(TargetRow, (path, digest))
    return row.length_bytes if row is not None else None


def _file(row: MetadataRow) -> SignedFile:
    return SignedFile(row.role, row.version, row.expires_at, row.body)
