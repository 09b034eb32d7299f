"""Owns the queries for rollouts and their progress."""

from __future__ import annotations

from typing import cast

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ota_protocol.wire import VehicleProgress
from server.domain.rollout import KnownRollout, Progress, StoredState
from server.store.tables import ProgressRow, RolloutRow


def get(session: Session, name: str) -> KnownRollout | None:
    """Return one rollout."""
    row = session.get(RolloutRow, name)
    return _known(row) if row is not None else None


def every(session: Session) -> tuple[KnownRollout, ...]:
    """Return all rollouts, newest first."""
    rows = session.scalars(select(RolloutRow).order_by(RolloutRow.created_at.desc(), RolloutRow.name.desc()))
    return tuple(map(_known, rows))


def add(session: Session, rollout: KnownRollout) -> None:
    """Add a rollout, and let it supersede the others of its model."""
    session.execute(
        update(RolloutRow)
        .where(RolloutRow.model == rollout.model, RolloutRow.state != "superseded")
        .values(state="superseded")
    )
    session.add(
        RolloutRow(
            name=rollout.name,
            model=rollout.model,
            release=rollout.release,
            state=rollout.state,
            vehicles=sorted(rollout.vehicles),
            waits_for=sorted(rollout.waits_for),
            created_at=rollout.created_at,
        )
    )
    session.flush()


def start(session: Session, name: str) -> None:
    """Let a prepared rollout run."""
    session.execute(
        update(RolloutRow).where(RolloutRow.name == name, RolloutRow.state == "preparing").values(state="active")
    )


def progress_of_vehicle(session: Session, vehicle: str) -> dict[str, Progress]:
    """Return how far a vehicle has come, by rollout."""
    rows = session.scalars(select(ProgressRow).where(ProgressRow.vehicle == vehicle))
    return {row.rollout: _progress(row) for row in rows}


def progress_of_rollout(session: Session, rollout: str) -> dict[str, Progress]:
    """Return how far a rollout has come, by vehicle."""
    rows = session.scalars(select(ProgressRow).where(ProgressRow.rollout == rollout))
    return {row.vehicle: _progress(row) for row in rows}


def note_progress(session: Session, rollout: str, vehicle: str, progress: Progress) -> None:
    """Write how far a vehicle has come in a rollout."""
    row = session.get(ProgressRow, (rollout, vehicle))
    if row is None:
        row = ProgressRow(rollout=rollout, vehicle=vehicle)
        session.add(row)
    row.state, row.failures = progress.state.value, progress.failures


def _known(row: RolloutRow) -> KnownRollout:
    return KnownRollout(
        name=row.name,
        model=row.model,
        release=row.release,
        state=cast("StoredState", row.state),
        vehicles=frozenset(row.vehicles),
        waits_for=frozenset(row.waits_for),
        created_at=row.created_at,
    )


def _progress(row: ProgressRow) -> Progress:
    return Progress(VehicleProgress(row.state), row.failures)
