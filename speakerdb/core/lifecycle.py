"""The life of a migration as a table: which state may follow which, and why.

The states that end in -ing are intentions: written down before the act (the alias swap) and resolved after it, by whoever
comes first, from what the alias says.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from speakerdb.errors import IllegalTransition


class State(StrEnum):
    """Where a migration stands."""

    RUNNING = "running"
    FINALIZING = "finalizing"
    FINALIZED = "finalized"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    RETIRED = "retired"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Nothing more will happen, and another migration may begin."""
        return self in ENDED

    @property
    def intention(self) -> bool:
        """A swap was announced; only the alias says whether it happened."""
        return self in (State.FINALIZING, State.ROLLING_BACK)


ENDED = frozenset({State.RETIRED, State.CANCELLED, State.ROLLED_BACK})

TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.RUNNING: frozenset({State.FINALIZING, State.CANCELLED}),
        # Back to running where the swap is seen not to have happened.
        State.FINALIZING: frozenset({State.FINALIZED, State.RUNNING}),
        State.FINALIZED: frozenset({State.RETIRED, State.ROLLING_BACK}),
        State.ROLLING_BACK: frozenset({State.ROLLED_BACK, State.FINALIZED}),
        State.RETIRED: frozenset(),
        State.CANCELLED: frozenset(),
        State.ROLLED_BACK: frozenset(),
    }
)


def check(current: State, wanted: State) -> None:
    """`IllegalTransition` unless `wanted` may follow `current`."""
    if wanted not in TRANSITIONS[current]:
        after = ", ".join(sorted(TRANSITIONS[current])) or "nothing (it is at its end)"
        raise IllegalTransition(
            f"A migration that is {current} cannot become {wanted}; it can become {after}.",
            state=str(current),
            wanted=str(wanted),
        )


def resolve(intention: State, *, swapped: bool) -> State:
    """What an intention became, from whether the alias names the index that it was to name."""
    if intention is State.FINALIZING:
        return State.FINALIZED if swapped else State.RUNNING
    if intention is State.ROLLING_BACK:
        return State.ROLLED_BACK if swapped else State.FINALIZED
    raise IllegalTransition(f"{intention} is not an intention.", state=str(intention))
