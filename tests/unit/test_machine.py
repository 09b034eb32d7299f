"""The tables of the state machine: complete, without dead ends, and printed as they are."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from edge_client import machine
from edge_client.machine import MEANING, RESUME, TRANSITIONS, Outcome, State, TransitionError, admits, next_state
from edge_client.steps import STEPS


def reachable(start: State) -> set[State]:
    found, todo = {start}, [start]
    while todo:
        here = todo.pop()
        for (old, _), new in TRANSITIONS.items():
            if old is here and new not in found:
                found.add(new)
                todo.append(new)
    return found


def test_every_state_is_reached_from_idle() -> None:
    assert reachable(State.IDLE) == set(State)


@pytest.mark.parametrize("state", State)
def test_idle_is_reached_from_every_state(state: State) -> None:
    assert State.IDLE in reachable(state)


def test_every_state_has_a_step_but_idle() -> None:
    assert set(STEPS) == set(State) - {State.IDLE}


def test_every_state_has_a_resume_point_that_resumes_as_itself() -> None:
    assert set(RESUME) == set(State)
    assert all(RESUME[target] is target for target in RESUME.values())


def test_what_was_trusted_in_memory_is_earned_again() -> None:
    needs_memory = {State.DOWNLOADING, State.WAITING, State.VERIFYING, State.STAGING}
    assert not needs_memory & set(RESUME.values())


@pytest.mark.parametrize("state", STEPS)
def test_every_step_can_be_tried_again(state: State) -> None:
    assert next_state(state, Outcome.AGAIN) is state


def test_nothing_is_withdrawn_after_the_switch() -> None:
    late = (State.ACTIVATING, State.TRIAL, State.CONFIRMING, State.ROLLING_BACK, State.FAILED)
    assert not any(admits(state, what) for state in late for what in (Outcome.ASSIGNED, Outcome.WITHDRAWN))


def test_trial_is_left_only_to_confirm_or_to_roll_back() -> None:
    assert {new for (old, _), new in TRANSITIONS.items() if old is State.TRIAL} == {
        State.TRIAL,
        State.CONFIRMING,
        State.ROLLING_BACK,
    }


def test_outcome_without_a_row_is_a_fault_of_the_program() -> None:
    with pytest.raises(TransitionError, match="idle does not know the outcome done"):
        next_state(State.IDLE, Outcome.DONE)


def test_every_outcome_is_explained_and_used() -> None:
    assert set(MEANING) == set(Outcome) == {outcome for _, outcome in TRANSITIONS}


def test_diagram_has_every_transition() -> None:
    assert machine.diagram().count("-->") == len(TRANSITIONS) + 1


def test_machine_imports_the_standard_library_only() -> None:
    tree = ast.parse(Path(machine.__file__).read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert all(module.partition(".")[0] in sys.stdlib_module_names for module in modules)
