"""Owns the list of what has to hold at the end of the story. Pure: figures in, results out.

A report that was read from a file can be judged again: the checks look at nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from demo.profiles import FLAKY, LATE, METERED
from demo.releases import FIRST, SECOND
from demo.report import CheckResult, Report, SavingFigures, VehicleFigures

UNREPORTED_BYTES: Final = 40 << 10
"""How far a vehicle's ledger and the registry's account may be apart: it is reported every 32 KiB, at a check-in."""

Verdict = tuple[bool, str]
Rule = Callable[[Report], Verdict]


def judge(report: Report) -> tuple[CheckResult, ...]:
    """Return every check with its result.

    Args:
        report: the figures; its own `checks` are not looked at.
    """
    results = []
    for what, rule in RULES.items():
        ok, detail = rule(report)
        results.append(CheckResult(check=what, ok=ok, detail=detail))
    return tuple(results)


def _confirmed(report: Report) -> Verdict:
    return _each(report.vehicles, lambda v: v.release == SECOND, lambda v: v.release or "nothing")


def _first_came_full(report: Report) -> Verdict:
    return _each(_on_time(report), lambda v: _via(v, FIRST) == "full", lambda v: _via(v, FIRST))


def _second_came_as_delta(report: Report) -> Verdict:
    return _each(_on_time(report), lambda v: _via(v, SECOND) in {"delta", "chain"}, lambda v: _via(v, SECOND))


def _late_came_full(report: Report) -> Verdict:
    late = [v for v in report.vehicles if v.profile == LATE.name]
    return _each(late, lambda v: [(u.release, u.via) for u in v.updates] == [(SECOND, "full")], _shown_updates)


def _deltas_are_small(report: Report) -> Verdict:
    worst = []
    for vehicle in _on_time(report):
        full, delta = _payload(vehicle, FIRST), _payload(vehicle, SECOND)
        worst.append((delta < full / 2, f"{vehicle.vehicle}: {delta:,} of {full:,} B"))
    return all(ok for ok, _ in worst), ", ".join(text for _, text in worst)


def _no_frame_lost(report: Report) -> Verdict:
    def ok(vehicle: VehicleFigures) -> bool:
        return vehicle.frames_lost == 0 and vehicle.frames_served > 0

    return _each(report.vehicles, ok, lambda v: f"{v.frames_served} served, {v.frames_lost} lost")


def _flaky_resumed(report: Report) -> Verdict:
    def ok(vehicle: VehicleFigures) -> bool:
        return vehicle.link_cuts > 0 and sum(update.resumed for update in vehicle.updates) > 0

    flaky = [v for v in report.vehicles if v.profile == FLAKY.name]
    return _each(flaky, ok, lambda v: f"{v.link_cuts} cuts, {sum(u.resumed for u in v.updates)} resumed")


def _budget_held(report: Report) -> Verdict:
    def ok(vehicle: VehicleFigures) -> bool:
        most, budget = vehicle.most_in_a_period_bytes, vehicle.budget_bytes
        return most is not None and budget is not None and 0 < most <= budget

    return _each(_metered(report), ok, lambda v: f"at most {v.most_in_a_period_bytes or 0:,} of {v.budget_bytes:,} B")


def _budget_was_felt(report: Report) -> Verdict:
    """A first release larger than one budget came, so the vehicle waited for a second period and went on."""

    def ok(vehicle: VehicleFigures) -> bool:
        first = next((u for u in vehicle.updates if u.release == FIRST), None)
        return first is not None and first.wire_bytes > (vehicle.budget_bytes or 0) and first.resumed > 0

    return _each(_metered(report), ok, _shown_updates)


def _ledgers_agree_with_links(report: Report) -> Verdict:
    """Exact, but for a link that cuts: it counts what it sent, and a reset destroys what the vehicle had not read."""

    def ok(vehicle: VehicleFigures) -> bool:
        ledger = vehicle.sent_bytes + vehicle.received_bytes
        return ledger == vehicle.link_bytes or (vehicle.link_cuts > 0 and ledger < vehicle.link_bytes)

    return _each(
        report.vehicles, ok, lambda v: f"{v.sent_bytes + v.received_bytes:,} of {v.link_bytes:,} B on the link"
    )


def _registry_agrees_with_ledgers(report: Report) -> Verdict:
    ledgers = sum(v.sent_bytes + v.received_bytes for v in report.vehicles)
    detail = f"registry {report.registry_moved_bytes:,} B, ledgers {ledgers:,} B"
    return abs(ledgers - report.registry_moved_bytes) <= UNREPORTED_BYTES * len(report.vehicles), detail


def _updates_agree(report: Report) -> Verdict:
    counted = sum(len(v.updates) for v in report.vehicles)
    return counted == report.updates > 0, f"registry {report.updates}, vehicles {counted}"


def _savings_add_up(report: Report) -> Verdict:
    """Both accounts, ours and the registry's: what was saved and what was moved make up what would have been sent."""

    def ok(saving: SavingFigures) -> bool:
        ours = saving.saved_bytes + report.moved_bytes
        theirs = saving.registry_saved_bytes + report.registry_moved_bytes
        return ours == theirs == saving.would_send_bytes == saving.fp32_bytes * report.updates

    shown = ", ".join(f"{s.network} {s.saved_share:.1%}" for s in report.savings)
    return bool(report.savings) and all(map(ok, report.savings)), shown or "none"


def _both_models_answered(report: Report) -> Verdict:
    """The swap is seen in the answers: the same frames, other probabilities."""

    def ok(vehicle: VehicleFigures) -> bool:
        return vehicle.before.keys() == vehicle.after.keys() != set() and vehicle.before != vehicle.after

    return _each(_on_time(report), ok, lambda v: f"{len(v.before)} frames before, {len(v.after)} after")


RULES: Final[dict[str, Rule]] = {
    "every vehicle confirmed the second release": _confirmed,
    "the first release came as a compressed full file": _first_came_full,
    "the second release came as a delta": _second_came_as_delta,
    "a vehicle enrolled late came to the second release at once": _late_came_full,
    "a delta took less than half of the full file": _deltas_are_small,
    "no frame was lost": _no_frame_lost,
    "a link that drops was resumed": _flaky_resumed,
    "a budget held in every period": _budget_held,
    "a budget made a vehicle wait and go on": _budget_was_felt,
    "ledgers agree with what the links counted": _ledgers_agree_with_links,
    "the registry agrees with the ledgers": _registry_agrees_with_ledgers,
    "the registry counted every update": _updates_agree,
    "the savings add up": _savings_add_up,
    "both releases answered the same frames": _both_models_answered,
}


def _each(
    vehicles: Iterable[VehicleFigures], ok: Callable[[VehicleFigures], bool], show: Callable[[VehicleFigures], str]
) -> Verdict:
    """Return whether all of them are well; the detail shows those that are not, or all."""
    all_of_them = list(vehicles)
    bad = [vehicle for vehicle in all_of_them if not ok(vehicle)]
    return not bad, ", ".join(f"{v.vehicle}: {show(v)}" for v in bad or all_of_them) or "no such vehicle"


def _on_time(report: Report) -> list[VehicleFigures]:
    return [vehicle for vehicle in report.vehicles if vehicle.profile != LATE.name]


def _metered(report: Report) -> list[VehicleFigures]:
    return [vehicle for vehicle in report.vehicles if vehicle.profile == METERED.name]


def _via(vehicle: VehicleFigures, release: str) -> str:
    return next((update.via for update in vehicle.updates if update.release == release), "not at all")


def _payload(vehicle: VehicleFigures, release: str) -> float:
    return next((update.payload_bytes for update in vehicle.updates if update.release == release), float("inf"))


def _shown_updates(vehicle: VehicleFigures) -> str:
    return " then ".join(f"{u.release} {u.via}, {u.wire_bytes:,} B, {u.resumed} resumed" for u in vehicle.updates)
