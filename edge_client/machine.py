"""Owns the states of an update: one table of transitions, one table of resume points. Standard library only.

The state is saved before its step runs; every step is bounded and may be run again. What a step found (`Outcome`) is
kept apart from where that leads (`TRANSITIONS`). Does not own what a step does (`steps`) nor when it runs (`agent`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where an update stands; saved durably before anything is done in it."""

    IDLE = "idle"
    ASSIGNED = "assigned"
    DOWNLOADING = "downloading"
    WAITING = "waiting"
    VERIFYING = "verifying"
    STAGING = "staging"
    ACTIVATING = "activating"
    TRIAL = "trial"
    CONFIRMING = "confirming"
    ROLLING_BACK = "rolling_back"
    FAILED = "failed"


class Outcome(StrEnum):
    """What came of a step, or what the registry said in between."""

    ASSIGNED = "assigned"
    WITHDRAWN = "withdrawn"
    DONE = "done"
    AGAIN = "again"
    WAIT = "wait"
    NEXT = "next"
    REFUSED = "refused"


MEANING: Final = {
    Outcome.ASSIGNED: "the registry wants a release that is not active (or another than before)",
    Outcome.WITHDRAWN: "the registry wants it no longer",
    Outcome.DONE: "the step reached its end",
    Outcome.AGAIN: "a part is done, or the link or the disk failed: the same step again, later",
    Outcome.WAIT: "the budget or the link says: not now",
    Outcome.NEXT: "this way to come by the file is useless: the next candidate",
    Outcome.REFUSED: "this release cannot be used here",
}

TRANSITIONS: Final[dict[tuple[State, Outcome], State]] = {
    (State.IDLE, Outcome.ASSIGNED): State.ASSIGNED,
    (State.ASSIGNED, Outcome.DONE): State.DOWNLOADING,
    (State.ASSIGNED, Outcome.AGAIN): State.ASSIGNED,
    (State.ASSIGNED, Outcome.REFUSED): State.FAILED,
    (State.ASSIGNED, Outcome.ASSIGNED): State.ASSIGNED,
    (State.ASSIGNED, Outcome.WITHDRAWN): State.IDLE,
    (State.DOWNLOADING, Outcome.DONE): State.VERIFYING,
    (State.DOWNLOADING, Outcome.AGAIN): State.DOWNLOADING,
    (State.DOWNLOADING, Outcome.WAIT): State.WAITING,
    (State.DOWNLOADING, Outcome.NEXT): State.DOWNLOADING,
    (State.DOWNLOADING, Outcome.REFUSED): State.FAILED,
    (State.DOWNLOADING, Outcome.ASSIGNED): State.ASSIGNED,
    (State.DOWNLOADING, Outcome.WITHDRAWN): State.IDLE,
    (State.WAITING, Outcome.DONE): State.DOWNLOADING,
    (State.WAITING, Outcome.AGAIN): State.WAITING,
    (State.WAITING, Outcome.WAIT): State.WAITING,
    (State.WAITING, Outcome.ASSIGNED): State.ASSIGNED,
    (State.WAITING, Outcome.WITHDRAWN): State.IDLE,
    (State.VERIFYING, Outcome.DONE): State.STAGING,
    (State.VERIFYING, Outcome.AGAIN): State.VERIFYING,
    (State.VERIFYING, Outcome.NEXT): State.DOWNLOADING,
    (State.VERIFYING, Outcome.REFUSED): State.FAILED,
    (State.VERIFYING, Outcome.ASSIGNED): State.ASSIGNED,
    (State.VERIFYING, Outcome.WITHDRAWN): State.IDLE,
    (State.STAGING, Outcome.DONE): State.ACTIVATING,
    (State.STAGING, Outcome.AGAIN): State.STAGING,
    (State.STAGING, Outcome.REFUSED): State.FAILED,
    (State.STAGING, Outcome.ASSIGNED): State.ASSIGNED,
    (State.STAGING, Outcome.WITHDRAWN): State.IDLE,
    (State.ACTIVATING, Outcome.DONE): State.TRIAL,
    (State.ACTIVATING, Outcome.AGAIN): State.ACTIVATING,
    (State.ACTIVATING, Outcome.REFUSED): State.ROLLING_BACK,
    (State.TRIAL, Outcome.DONE): State.CONFIRMING,
    (State.TRIAL, Outcome.AGAIN): State.TRIAL,
    (State.TRIAL, Outcome.REFUSED): State.ROLLING_BACK,
    (State.CONFIRMING, Outcome.DONE): State.IDLE,
    (State.CONFIRMING, Outcome.AGAIN): State.CONFIRMING,
    (State.ROLLING_BACK, Outcome.DONE): State.FAILED,
    (State.ROLLING_BACK, Outcome.AGAIN): State.ROLLING_BACK,
    (State.FAILED, Outcome.DONE): State.IDLE,
    (State.FAILED, Outcome.AGAIN): State.FAILED,
}

RESUME: Final[dict[State, State]] = {
    State.IDLE: State.IDLE,
    # What was trusted or verified lived in memory: it is earned again. Bytes on disk are found and not fetched twice.
    State.ASSIGNED: State.ASSIGNED,
    State.DOWNLOADING: State.ASSIGNED,
    State.WAITING: State.ASSIGNED,
    State.VERIFYING: State.ASSIGNED,
    State.STAGING: State.ASSIGNED,
    # From here on the slots on disk say all there is to know.
    State.ACTIVATING: State.ACTIVATING,
    State.TRIAL: State.TRIAL,
    State.CONFIRMING: State.CONFIRMING,
    State.ROLLING_BACK: State.ROLLING_BACK,
    State.FAILED: State.FAILED,
}


class TransitionError(ValueError):
    """A step reported an outcome that its state does not have: a fault in the program, never of the input."""


def next_state(state: State, outcome: Outcome) -> State:
    """Return where `outcome` leads from `state`.

    Raises:
        TransitionError: the table has no such row.
    """
    try:
        return TRANSITIONS[state, outcome]
    except KeyError:
        raise TransitionError(f"{state} does not know the outcome {outcome}") from None


def admits(state: State, outcome: Outcome) -> bool:
    """Return whether `outcome` can happen in `state`."""
    return (state, outcome) in TRANSITIONS


def diagram() -> str:
    """Return the state machine as a Mermaid diagram, from the two tables."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    lines += [f"    {old} --> {new}: {outcome}" for (old, outcome), new in TRANSITIONS.items()]
    return "\n".join(lines)


def resume_table() -> str:
    """Return the resume points as a Markdown table."""
    rows = [f"| {saved} | {resumed} |" for saved, resumed in RESUME.items()]
    return "\n".join(["| saved state | goes on in |", "|---|---|", *rows])
