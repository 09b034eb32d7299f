"""Owns the queries for deltas: wanted first, then made, then offered, or settled otherwise."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ota_protocol.digest import DigestHex
from ota_protocol.wire import TransferOffer
from server.domain.release import delta_target
from server.domain.transfers import delta_offer
from server.store.tables import DeltaRow


@dataclass(frozen=True, slots=True)
class DeltaTask:
    """One delta that is still to be made or signed; base None is the empty base."""

    base: DigestHex | None
    result: DigestHex
    attempt: int


class DeltaState(StrEnum):
    """Where a delta stands."""

    WANTED = "wanted"
    MADE = "made"
    """Stored and proved, not yet in signed metadata."""
    OFFERED = "offered"
    DROPPED = "dropped"
    """Not smaller than what it would replace."""
    FAILED = "failed"


SETTLED = (DeltaState.OFFERED, DeltaState.DROPPED, DeltaState.FAILED)


MAX_ATTEMPTS = 5
"""A delta that failed so often is not wanted again: vehicles take the compressed full or the raw file."""


def want(session: Session, base: DigestHex | None, result: DigestHex, now: datetime) -> str:
    """Note that a delta is wanted, once, or once more if it failed before; return its target path."""
    target = delta_target(base, result)
    row = session.get(DeltaRow, (base or "", result))
    if row is None:
        row = DeltaRow(base=base or "", result=result, target=target, wanted_at=now)
        row.state, row.detail, row.attempt = DeltaState.WANTED, "", 1
        session.add(row)
    elif row.state == DeltaState.FAILED and row.attempt < MAX_ATTEMPTS:
        row.state, row.attempt = DeltaState.WANTED, row.attempt + 1
    session.flush()
    return target


def get(session: Session, base: DigestHex | None, result: DigestHex) -> DeltaRow | None:
    """Return the row of one delta, live in this session."""
    return session.get(DeltaRow, (base or "", result))


def unsettled(session: Session) -> list[DeltaTask]:
    """Return the deltas that are still to be made or signed: fulls before others, oldest first."""
    rows = session.scalars(
        select(DeltaRow).where(DeltaRow.state.not_in(SETTLED)).order_by(DeltaRow.base != "", DeltaRow.wanted_at)
    )
    return [DeltaTask(row.base or None, row.result, row.attempt) for row in rows]


def unsettled_of(session: Session, targets: Collection[str]) -> frozenset[str]:
    """Return those of the target paths that are still to be made or signed."""
    rows = session.scalars(select(DeltaRow.target).where(DeltaRow.state.not_in(SETTLED)))
    return frozenset(rows) & frozenset(targets)


def known_pairs(session: Session) -> frozenset[tuple[DigestHex, DigestHex]]:
    """Return (base, result) of every delta that was ever wanted; the empty base is the empty text."""
    return frozenset((row.base, row.result) for row in session.execute(select(DeltaRow.base, DeltaRow.result)))


def offers(session: Session) -> list[TransferOffer]:
    """Return all deltas that vehicles may fetch."""
    rows = session.scalars(
        select(DeltaRow).where(DeltaRow.state == DeltaState.OFFERED).order_by(DeltaRow.result, DeltaRow.base)
    )
    return [offer for row in rows for offer in _offer(row)]


def count_by_state(session: Session) -> dict[str, int]:
    """Return how many deltas stand where."""
    query = select(DeltaRow.state, func.count()).group_by(DeltaRow.state)
    return dict(session.execute(query).all())


def _offer(row: DeltaRow) -> Iterable[TransferOffer]:
    if row.digest is not None and row.length_bytes is not None:
        yield delta_offer(row.base or None, row.result, row.target, row.digest, row.length_bytes)
