"""The whole product against a plain model, with everything that can go wrong: on files, and on real servers."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from speakerdb.testing.backends import Backend
from speakerdb.testing.machine import LibraryMachine
from speakerdb.testing.machine_verbs import Op

TestLibrary = LibraryMachine.TestCase
# A library of two processes is slow beside what Hypothesis usually runs: 20 examples, or 500 in the profile `thorough`.
TestLibrary.settings = settings(max_examples=settings().max_examples // 2)


def test_a_library_on_postgresql(postgresql_backend: Backend) -> None:
    few = settings(max_examples=max(1, settings().max_examples // 5))
    run_state_machine_as_test(lambda: LibraryMachine(postgresql_backend), settings=few)


def test_a_library_on_postgresql_and_opensearch(servers_backend: Backend) -> None:
    """Few runs, and longer ones: 3 of 40 steps, or 76 of 80 in the profile `thorough`."""
    long = settings(
        max_examples=max(3, settings().max_examples // 13), stateful_step_count=max(40, settings().stateful_step_count)
    )
    run_state_machine_as_test(lambda: LibraryMachine(servers_backend), settings=long)


def test_a_death_that_had_nothing_to_happen_in_does_not_happen_later() -> None:
    """It was armed for a verb that found nothing to do; a repair, two steps later, is not what it was meant for."""
    machine = LibraryMachine()
    try:
        machine.dies(0, Op("remove", one=5), at=1, elsewhere=False)  # no such recording: nothing is done
        assert not machine.world.processes[0].disturbed
        machine.drifts(0, [], strangers=1, lost=False, at=None, elsewhere=False, one=0)
        machine.holds()
    finally:
        machine.teardown()
