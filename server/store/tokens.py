"""Owns the queries for the registry's own tokens, of which only digests are kept."""

from __future__ import annotations

from sqlalchemy.orm import Session

from server.store.tables import TokenRow


def digest(session: Session, kind: str) -> str | None:
    """Return the sha256 of the token of a kind ("operator", "enrolment")."""
    row = session.get(TokenRow, kind)
    return row.sha256 if row is not None else None


def keep(session: Session, kind: str, sha256: str) -> None:
    """Keep the digest of a token, in place of an older one."""
    session.merge(TokenRow(kind=kind, sha256=sha256))
