"""The next set of TUF metadata: what follows from a change, and what two writers may do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError
from tuf.api.metadata import Metadata, Snapshot, Timestamp

from ota_protocol.errors import StorageError
from ota_protocol.manifest import FileRef
from server.domain.signed_file import SignedFile
from server.repository.keys import OnlineKeys, load_online
from server.repository.metadata_set import MetadataSet, refreshed, with_delta
from server.repository.roles import LIFETIMES
from server.services.initialise import initialise
from server.services.metadata import KEPT_VERSIONS, load, load_for_change, save
from server.store import metadata
from server.store.database import Database, database_url

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
DELTA = FileRef(digest="ab" * 32, length_bytes=100)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(database_url(None, tmp_path))
    initialise(made, tmp_path / "keys", lambda: NOON)
    return made


@pytest.fixture
def keys(database: Database, tmp_path: Path) -> OnlineKeys:
    return load_online(tmp_path / "keys")


def current(database: Database) -> MetadataSet:
    with database.read() as session:
        return load(session)


def by_role(files: list[SignedFile]) -> dict[str, SignedFile]:
    return {file.role: file for file in files}


def test_a_delta_brings_a_consistent_set(database: Database, keys: OnlineKeys) -> None:
    files = by_role(with_delta(current(database), "deltas/a-b.sqd", DELTA, keys, NOON))
    assert {role: file.version for role, file in files.items()} == {"deltas": 2, "snapshot": 2, "timestamp": 2}
    snapshot = Metadata[Snapshot].from_bytes(files["snapshot"].body).signed
    assert snapshot.meta["deltas.json"].version == 2
    timestamp = Metadata[Timestamp].from_bytes(files["timestamp"].body).signed
    timestamp.snapshot_meta.verify_length_and_hashes(files["snapshot"].body)


def test_a_delta_that_is_listed_changes_nothing(database: Database, keys: OnlineKeys) -> None:
    with database.write() as session:
        save(session, with_delta(load(session), "deltas/a-b.sqd", DELTA, keys, NOON))
    assert with_delta(current(database), "deltas/a-b.sqd", DELTA, keys, NOON) == []


def test_the_current_set_is_not_changed_in_place(database: Database, keys: OnlineKeys) -> None:
    before = current(database)
    with_delta(before, "deltas/a-b.sqd", DELTA, keys, NOON)
    assert before.deltas.targets == {}
    assert before.snapshot.version == 1


@pytest.mark.parametrize(
    ("age", "signed"),
    [
        (timedelta(hours=1), set()),
        (LIFETIMES["timestamp"] / 3 + timedelta(minutes=1), {"timestamp"}),
        (LIFETIMES["snapshot"] / 3 + timedelta(minutes=1), {"deltas", "snapshot", "timestamp"}),
        (timedelta(days=400), {"deltas", "snapshot", "timestamp"}),
    ],
)
def test_what_is_due_is_signed_anew(database: Database, keys: OnlineKeys, age: timedelta, signed: set[str]) -> None:
    files = by_role(refreshed(current(database), keys, NOON + age))
    assert set(files) == signed
    for role, file in files.items():
        assert file.expires_at == NOON + age + LIFETIMES[role]


def test_a_second_writer_of_a_version_is_refused(database: Database, keys: OnlineKeys) -> None:
    first, second = (with_delta(current(database), f"deltas/{n}.sqd", DELTA, keys, NOON) for n in "ab")
    with database.write() as session:
        save(session, first)
    with pytest.raises(IntegrityError), database.write() as session:
        save(session, second)
    assert set(current(database).deltas.targets) == {"deltas/a.sqd"}


def test_a_change_is_whole_or_not_at_all(database: Database, keys: OnlineKeys) -> None:
    files = with_delta(current(database), "deltas/a.sqd", DELTA, keys, NOON)
    with pytest.raises(RuntimeError), database.write() as session:
        save(session, files)
        raise RuntimeError("the power goes")
    assert current(database).timestamp.version == 1


def test_old_timestamps_are_forgotten_and_signed_targets_are_not(database: Database, keys: OnlineKeys) -> None:
    for number in range(10):
        with database.write() as session:
            save(session, with_delta(load_for_change(session), f"deltas/{number}.sqd", DELTA, keys, NOON))
    with database.read() as session:
        kept = [version for version in range(1, 12) if metadata.version(session, "timestamp", version)]
        assert kept == list(range(12 - KEPT_VERSIONS["timestamp"], 12))
        assert metadata.version(session, "snapshot", 1)
        assert metadata.version(session, "targets", 1)


def test_missing_and_broken_metadata_are_said(database: Database) -> None:
    with pytest.raises(StorageError, match="has no root metadata"):
        MetadataSet.parse({})
    broken = {role: SignedFile(role, 1, NOON, b"{}") for role in ("root", "targets", "deltas", "snapshot", "timestamp")}
    with pytest.raises(StorageError, match="is broken"):
        MetadataSet.parse(broken)
