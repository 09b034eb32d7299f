"""Owns the tables. `migrations/` makes them; a test holds the two together. Owns no query."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraint names that are the same on every database, so that a later migration can name them."""


class Moment(TypeDecorator[datetime]):
    """A moment in UTC; SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 SQLAlchemy's
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 SQLAlchemy's
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: Moment(), dict[str, Any]: JSON(), list[str]: JSON()}  # noqa: RUF012 SQLAlchemy's


class TokenRow(Table):
    """A token of the registry itself; only its sha256 is kept."""

    __tablename__ = "tokens"
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))


class MetadataRow(Table):
    """One version of one TUF metadata file. The key makes two writers of a version collide."""

    __tablename__ = "metadata_files"
    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]
    body: Mapped[bytes] = mapped_column(LargeBinary)


class TargetRow(Table):
    """One file that TUF metadata lists: what may be fetched under /tuf/targets."""

    __tablename__ = "targets"
    path: Mapped[str] = mapped_column(String(256), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    length_bytes: Mapped[int] = mapped_column(BigInteger)


class ReleaseRow(Table):
    """One version of one model: artifact, manifest, release counter."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("model", "release_counter"),)
    model: Mapped[str] = mapped_column(String(64), primary_key=True)
    release: Mapped[str] = mapped_column(String(64), primary_key=True)
    release_counter: Mapped[int] = mapped_column(BigInteger)
    artifact: Mapped[str] = mapped_column(String(64))
    artifact_bytes: Mapped[int] = mapped_column(BigInteger)
    manifest: Mapped[str] = mapped_column(String(64))
    manifest_bytes: Mapped[int] = mapped_column(BigInteger)
    metrics: Mapped[dict[str, Any]]
    published_at: Mapped[datetime]


class DeltaRow(Table):
    """One way from a base (empty text: the empty base) to a result, wanted or made."""

    __tablename__ = "deltas"
    base: Mapped[str] = mapped_column(String(64), primary_key=True)
    result: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    target: Mapped[str] = mapped_column(String(256), unique=True)
    digest: Mapped[str | None] = mapped_column(String(64))
    length_bytes: Mapped[int | None] = mapped_column(BigInteger)
    detail: Mapped[str] = mapped_column(String(512), default="")
    attempt: Mapped[int] = mapped_column(default=1)
    seconds: Mapped[float | None]
    wanted_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class VehicleRow(Table):
    """One vehicle, and what it last said that it runs."""

    __tablename__ = "vehicles"
    __table_args__ = (Index("ix_vehicles_token_sha256", "token_sha256", unique=True),)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_sha256: Mapped[str] = mapped_column(String(64))
    enrolled_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]
    manifest: Mapped[dict[str, Any] | None]
    confirmed_model: Mapped[str | None] = mapped_column(String(64))
    confirmed_release: Mapped[str | None] = mapped_column(String(64))
    updates: Mapped[int] = mapped_column(default=0)
    sent_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    received_bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class EventRow(Table):
    """Something that happened on a vehicle; its id makes the delivery idempotent."""

    __tablename__ = "events"
    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"), primary_key=True)
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime]
    received_at: Mapped[datetime]
    model: Mapped[str | None] = mapped_column(String(64))
    release: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(String(512))
    figures: Mapped[dict[str, Any]]


class RolloutRow(Table):
    """A rollout. `state` is preparing, active or superseded; finished is told from its progress."""

    __tablename__ = "rollouts"
    __table_args__ = (Index("ix_rollouts_model", "model"),)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(64))
    release: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    vehicles: Mapped[list[str]]
    waits_for: Mapped[list[str]]
    """Targets of the deltas that were wanted when the rollout was made."""
    created_at: Mapped[datetime]


class ProgressRow(Table):
    """How far one vehicle has come in one rollout; no row means that nothing happened yet."""

    __tablename__ = "progress"
    rollout: Mapped[str] = mapped_column(ForeignKey("rollouts.name"), primary_key=True)
    vehicle: Mapped[str] = mapped_column(ForeignKey("vehicles.name"), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    failures: Mapped[int] = mapped_column(default=0)
