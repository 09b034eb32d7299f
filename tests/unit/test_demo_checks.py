"""Each check of the demo holds on a good report, and fails when the one thing that it watches is spoiled."""

from __future__ import annotations

from typing import Any

import pytest

from demo.checks import RULES, judge
from demo.report import Report
from tests.support.demo_report import DELTA, FULL, good_report


def failed(report: Report) -> set[str]:
    return {result.check for result in judge(report) if not result.ok}


def spoil_vehicle(name: str, **changes: Any) -> Report:
    report = good_report()
    vehicles = tuple(v.model_copy(update=changes) if v.vehicle == name else v for v in report.vehicles)
    return report.model_copy(update={"vehicles": vehicles})


def spoil(**changes: Any) -> Report:
    return good_report().model_copy(update=changes)


RESUMED = FULL.model_copy(update={"resumed": 3})
LATE_TWICE = (FULL, DELTA)
SPOILED = {
    "every vehicle confirmed the second release": spoil_vehicle("wifi", release="1.0.0"),
    "the first release came as a compressed full file": spoil_vehicle(
        "wifi", updates=(FULL.model_copy(update={"via": "raw"}), DELTA)
    ),
    "the second release came as a delta": spoil_vehicle(
        "wifi", updates=(FULL, DELTA.model_copy(update={"via": "full"}))
    ),
    "a vehicle enrolled late came to the second release at once": spoil_vehicle("late", updates=LATE_TWICE),
    "a delta took less than half of the full file": spoil_vehicle(
        "wifi", updates=(FULL, DELTA.model_copy(update={"payload_bytes": 320_001}))
    ),
    "no frame was lost": spoil_vehicle("late", frames_lost=1),
    "a link that drops was resumed": spoil_vehicle("flaky", updates=(FULL, DELTA)),
    "a budget held in every period": spoil_vehicle("metered", most_in_a_period_bytes=300_001),
    "a budget made a vehicle wait and go on": spoil_vehicle("metered", updates=(FULL, DELTA)),
    "ledgers agree with what the links counted": spoil_vehicle("wifi", link_bytes=726_001),
    "the registry agrees with the ledgers": spoil(registry_moved_bytes=1),
    "the registry counted every update": spoil(updates=6),
    "the savings add up": spoil(savings=()),
    "both releases answered the same frames": spoil_vehicle("wifi", before={}),
}


def test_everything_holds_on_a_good_report() -> None:
    assert failed(good_report()) == set()


def test_every_check_has_a_spoiled_report() -> None:
    assert SPOILED.keys() == RULES.keys()


@pytest.mark.parametrize("check", SPOILED)
def test_a_check_fails_on_its_own_fault(check: str) -> None:
    assert check in failed(SPOILED[check])


def test_a_link_that_cuts_may_count_what_never_arrived_but_not_less() -> None:
    check = "ledgers agree with what the links counted"
    flaky = next(v for v in good_report().vehicles if v.vehicle == "flaky")
    assert check not in failed(spoil_vehicle("flaky", link_bytes=flaky.link_bytes + 40_000))
    assert check in failed(spoil_vehicle("flaky", link_bytes=flaky.link_bytes - 1))


def test_an_unmetered_vehicle_has_no_budget_to_hold() -> None:
    assert not failed(spoil_vehicle("wifi", most_in_a_period_bytes=None))
