"""The journal: all or nothing, bounded, and begun anew when it is damaged."""

from __future__ import annotations

import sqlite3
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_client.journal import MAX_HISTORY, MAX_OUTBOX, MAX_REST_S, Journal, Refusal, Saved
from edge_client.machine import State
from edge_client.update import Update, UpdateRecord
from ota_protocol.errors import DiskFullError, StorageError
from ota_protocol.manifest import FileRef
from ota_protocol.wire import Assignment, Candidate, Event, EventKind, FileOffer, TransferOffer

DIGEST = "a" * 64
RAW = Candidate(kind="raw", transfers=(TransferOffer(target="m", digest=DIGEST, length_bytes=9, result=DIGEST),))
OFFER = FileOffer(target="m", file=FileRef(digest=DIGEST, length_bytes=9), candidates=(RAW,))
UPDATE = Update(
    assignment=Assignment(
        rollout="first", model="tiny", release="1.0.0", release_counter=1, artifact=OFFER, manifest=OFFER
    ),
    began_s=1.0,
)


def event(kind: EventKind = EventKind.ASSIGNED) -> Event:
    return Event(id=uuid.uuid4(), kind=kind, at=datetime.now(UTC))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db")


def test_begins_idle(journal: Journal) -> None:
    assert journal.load() == Saved(State.IDLE, None)


def test_state_events_record_and_refusal_are_saved_together(journal: Journal, tmp_path: Path) -> None:
    record = UpdateRecord(model="tiny", release="1.0.0", result="failed")
    told = event(EventKind.FAILED)
    journal.save(Saved(State.FAILED, UPDATE), events=[told], record=record, refusal=Refusal("key", None))
    again = Journal(tmp_path / "journal.db")
    assert again.load() == Saved(State.FAILED, UPDATE)
    assert again.outbox(10) == (told,)
    assert again.history() == (record,)
    assert again.refusal("key") == Refusal("key", None)


def test_save_that_fails_midway_saves_nothing(journal: Journal) -> None:
    journal.save(Saved(State.ASSIGNED, UPDATE))
    fill(journal)
    with pytest.raises(DiskFullError, match="free some space"):
        journal.save(Saved(State.DOWNLOADING, UPDATE), events=[event() for _ in range(500)])
    assert journal.load().state is State.ASSIGNED
    assert journal.outbox(1_000) == ()


def test_events_are_not_saved_without_their_state(journal: Journal) -> None:
    journal._db.execute("CREATE TRIGGER no BEFORE INSERT ON history BEGIN SELECT RAISE(FAIL, 'no'); END")
    record = UpdateRecord(model="tiny", release="1.0.0", result="failed")
    with pytest.raises(StorageError, match="save the state"):
        journal.save(Saved(State.FAILED, UPDATE), events=[event()], record=record)
    assert journal.load() == Saved()
    assert journal.outbox(10) == ()


def fill(journal: Journal) -> None:
    """Let SQLite itself run out of room."""
    journal._db.execute("PRAGMA max_page_count = 1")


def test_outbox_is_in_order_and_keeps_what_is_not_accepted(journal: Journal) -> None:
    events = [event() for _ in range(5)]
    journal.append(events)
    journal.drop([events[1].id, uuid.uuid4()])
    assert journal.outbox(3) == (events[0], events[2], events[3])


def test_same_event_is_kept_once(journal: Journal) -> None:
    told = event()
    journal.append([told])
    journal.append([told])
    assert journal.outbox(10) == (told,)


def test_outbox_and_history_are_bounded(journal: Journal) -> None:
    events = [event() for _ in range(MAX_OUTBOX + 20)]
    journal.append(events)
    assert journal.outbox(10_000) == tuple(events[20:])
    for number in range(MAX_HISTORY + 5):
        journal.save(Saved(), record=UpdateRecord(model="tiny", release=f"1.0.{number}", result="failed"))
    assert next(each.release for each in journal.history()) == "1.0.5"


def test_refusals_are_counted(journal: Journal) -> None:
    for until in (50.0, 60.0, None):
        journal.save(Saved(), refusal=Refusal("key", until))
    assert journal.refusal("key") == Refusal("key", None, 3)
    assert journal.refusal("other") is None


@pytest.mark.parametrize(
    ("until_s", "holds"),
    [(None, True), (1_060.0, True), (1_000.0, False), (1_000.0 + MAX_REST_S + 1, False)],
)
def test_rest_ends_and_a_clock_that_was_wrong_does_not_hold_it_for_ever(until_s: float | None, holds: bool) -> None:
    assert Refusal("key", until_s).holds(1_000.0) is holds


def test_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is no database" * 100)
    journal = Journal(path)
    journal.save(Saved(State.ASSIGNED, UPDATE))
    assert journal.load().state is State.ASSIGNED
    assert (tmp_path / "journal.db.broken").read_bytes().startswith(b"this is no database")


def test_damaged_page_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.append([event() for _ in range(200)])
    journal.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 4] = b"\xff" * 8192
    path.write_bytes(data)
    assert Journal(path).load() == Saved()


def test_update_of_another_agent_version_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path).save(Saved(State.TRIAL, UPDATE))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE saved SET record = ?", ('{"unknown": 1}',))
    assert Journal(path).load() == Saved()


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="journal"):
        Journal(tmp_path / "none" / "journal.db")


def test_rows_of_another_version_hold_nothing_up(journal: Journal, tmp_path: Path) -> None:
    told = event(EventKind.FAILED)
    journal.save(Saved(), record=UpdateRecord(model="tiny", release="1.0.0", result="failed"))
    with sqlite3.connect(tmp_path / "journal.db") as other:
        other.execute("INSERT INTO outbox (id, body) VALUES ('x', '{\"kind\": \"levitated\"}')")
        other.execute("INSERT INTO history (body) VALUES ('{}')")
    journal.append([told])
    assert journal.waiting() == 2
    assert journal.outbox(10) == (told,)
    assert journal.waiting() == 1
    assert len(journal.history()) == 1
