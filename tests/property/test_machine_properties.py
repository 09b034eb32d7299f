"""Whatever the outcomes and wherever the process dies, the machine stays on its tables and can always come to rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_client.machine import RESUME, Outcome, State, admits, next_state

ENDS = (Outcome.DONE, Outcome.REFUSED)


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.booleans()), max_size=60))
def test_any_course_of_events_stays_on_the_table(course: list[tuple[Outcome, bool]]) -> None:
    state = State.IDLE
    activated = False
    for outcome, killed in course:
        if admits(state, outcome):
            before, state = state, next_state(state, outcome)
            if state is State.TRIAL and before is State.ACTIVATING:
                activated = True
            # A trial is judged: it never ends in idle without a confirmation or a roll back in between.
            if activated and state is State.IDLE:
                assert before in (State.CONFIRMING, State.FAILED)
                activated = False
        if killed:
            state = RESUME[state]
        assert state in State


@given(st.sampled_from(State), st.lists(st.sampled_from(ENDS), min_size=len(State), max_size=len(State)))
def test_every_state_comes_to_rest_when_its_steps_end(state: State, wishes: list[Outcome]) -> None:
    for wish in wishes:
        if state is not State.IDLE:
            state = next_state(state, wish if admits(state, wish) else Outcome.DONE)
    assert state is State.IDLE
