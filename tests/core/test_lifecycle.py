"""The states of a migration."""

import itertools

import pytest

from speakerdb.catalog import schema
from speakerdb.core.lifecycle import ENDED, TRANSITIONS, State, check, resolve
from speakerdb.errors import IllegalTransition


def test_every_state_can_reach_an_end_and_ends_are_final() -> None:
    for state in State:
        reached, todo = {state}, [state]
        while todo:
            for after in TRANSITIONS[todo.pop()] - reached:
                reached.add(after)
                todo.append(after)
        assert reached & ENDED
        assert state.ended == (not TRANSITIONS[state])


def test_only_what_the_table_allows_passes() -> None:
    for before, after in itertools.product(State, State):
        if after in TRANSITIONS[before]:
            check(before, after)
        else:
            with pytest.raises(IllegalTransition):
                check(before, after)


@pytest.mark.parametrize(
    ("intention", "swapped", "outcome"),
    [
        (State.FINALIZING, True, State.FINALIZED),
        (State.FINALIZING, False, State.RUNNING),
        (State.ROLLING_BACK, True, State.ROLLED_BACK),
        (State.ROLLING_BACK, False, State.FINALIZED),
    ],
)
def test_the_alias_decides_an_intention(intention: State, swapped: bool, outcome: State) -> None:
    assert resolve(intention, swapped=swapped) is outcome
    check(intention, outcome)


def test_only_intentions_are_resolved() -> None:
    for state in State:
        if not state.intention:
            with pytest.raises(IllegalTransition):
                resolve(state, swapped=True)


def test_the_schema_knows_the_same_ends() -> None:
    assert set(schema.ENDED_STATES) == {state.value for state in ENDED}
