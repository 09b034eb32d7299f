"""The ledger: what it counts survives kills and torn records, and its periods cannot be earned twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_client.ledger import FLUSH_BYTES, Count, Ledger, period_start, read_count
from ota_protocol.errors import StorageError
from tests.support.power_cut_fake import FragileDisk, Power


class Clock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def opened(path: Path, clock: Clock) -> Ledger:
    return Ledger(path, period_s=100.0, clock=clock)


def test_counts_both_ways_and_in_all(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger", Clock(1_000.0))
    ledger.add(sent=10)
    ledger.add(received=32)
    count = ledger.count()
    assert (count.sent, count.received, count.period_bytes, count.total_bytes) == (10, 32, 42, 42)


def test_new_period_begins_at_zero_and_the_total_goes_on(tmp_path: Path) -> None:
    clock = Clock(1_050.0)
    ledger = opened(tmp_path / "ledger", clock)
    ledger.add(sent=10)
    clock.now_s = 1_100.0
    assert ledger.count() == Count(period_start_s=1_100.0, sent=10)


def test_is_read_by_another_process_and_after_a_kill(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger", Clock(1_000.0))
    for _ in range(5):
        ledger.add(received=100)
    # Nothing was closed or flushed: this is what a kill leaves.
    assert read_count(tmp_path / "ledger").received == 500
    assert opened(tmp_path / "ledger", Clock(1_001.0)).count().period_received == 500


def test_torn_record_falls_back_to_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = opened(path, Clock(1_000.0))
    ledger.add(received=100)
    ledger.add(received=100)
    data = bytearray(path.read_bytes())
    data[5] ^= 1  # the second record lies in the first place
    path.write_bytes(data)
    assert read_count(path).received == 100


@pytest.mark.parametrize("junk", [b"", b"\x00" * 10, b"\xff" * 200])
def test_junk_is_no_count(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "ledger").write_bytes(junk)
    ledger = opened(tmp_path / "ledger", Clock(1_000.0))
    ledger.add(sent=1)
    assert read_count(tmp_path / "ledger").sent == 1


def test_missing_file_is_zero(tmp_path: Path) -> None:
    assert read_count(tmp_path / "none") == Count()


def test_is_flushed_every_so_many_bytes(tmp_path: Path) -> None:
    power = Power()
    ledger = Ledger(tmp_path / "ledger", period_s=100.0, clock=Clock(0.0), disk=FragileDisk(power))
    for _ in range(10):
        ledger.add(received=FLUSH_BYTES // 4)
    assert len(power.changes) == 2


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="ledger"):
        opened(tmp_path / "none" / "ledger", Clock(0.0))


@pytest.mark.parametrize(
    ("now_s", "current_s", "start_s"),
    [
        (1_050.0, 0.0, 1_000.0),
        (1_050.0, 1_000.0, 1_000.0),
        (1_150.0, 1_000.0, 1_100.0),
        (1_090.0, 1_100.0, 1_100.0),  # the clock stepped back a little: no second budget
        (1_050.0, 9_999_900.0, 1_000.0),  # the clock was wrong by months: believe it now
    ],
)
def test_period_start(now_s: float, current_s: float, start_s: float) -> None:
    assert period_start(now_s, 100.0, current_s) == start_s
