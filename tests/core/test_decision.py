"""From scores to decisions."""

import pytest

from speakerdb.core.decision import Candidate, decide
from speakerdb.types import OperatingPoint

POINT = OperatingPoint(accept=0.75, candidate=0.5, margin=0.05)


def verdict(*ranked: tuple[str, float, float], seconds: float | None = 30.0) -> tuple[str, float | None]:
    found = decide([Candidate(*each) for each in ranked], POINT, query_seconds=seconds, confident_seconds=6.0)
    assert found.reason
    return found.verdict, None if found.margin is None else round(found.margin, 6)


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [
        ([], ("none", None)),
        ([("ann", 0.9, 30)], ("accept", None)),
        ([("ann", 0.75, 30)], ("accept", None)),
        ([("ann", 0.7499, 30)], ("ambiguous", None)),
        ([("ann", 0.4999, 30)], ("reject", None)),
        ([("ann", 0.9, 30), ("bob", 0.8, 30)], ("accept", 0.1)),
        ([("ann", 0.9, 30), ("bob", 0.87, 30)], ("ambiguous", 0.03)),
        # Several voices of the same person are one answer, not rivals.
        ([("ann", 0.9, 30), ("ann", 0.89, 30), ("bob", 0.6, 30)], ("accept", 0.3)),
        ([("ann", 0.9, 5.9)], ("ambiguous", None)),
    ],
)
def test_verdicts(ranked: list[tuple[str, float, float]], expected: tuple[str, float | None]) -> None:
    assert verdict(*ranked) == expected


def test_a_short_query_is_never_accepted_and_an_unknown_length_is_judged_by_the_other_side() -> None:
    assert verdict(("ann", 0.99, 30), seconds=5.0)[0] == "ambiguous"
    assert verdict(("ann", 0.99, 30), seconds=None)[0] == "accept"
