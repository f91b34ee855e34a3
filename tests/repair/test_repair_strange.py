"""Documents that no product of ours writes: what can be mended is mended once, the rest keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from repair_kit import Damaged, done

from speakerdb.core.drift import HIGHEST, UNHELD
from speakerdb.errors import RestoredSource
from speakerdb.testing.backends import Backend


@pytest.mark.parametrize("version", [HIGHEST, 2**63 - 1])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_a_version_that_nothing_can_be_above_of_is_never_written_over(
    library: Damaged, version: int, known: bool
) -> None:
    """It is looked at again, later each time, and whatever else is damaged is mended all the while."""
    id = library.documents()[0].id if known else "stranger"
    library.damage(
        lambda documents: [*(d for d in documents if d.id != id), replace(documents[0], id=id, version=version)]
    )
    for attempts in range(1, 4):
        library.damage(lambda documents: [d for d in documents if d.id != documents[2].id])
        assert done(library.db.repairer.check()) == {"rewrite": 1}
        (entry,) = library.db.repairer.quarantine()
        assert (entry.id, entry.attempts) == (id, attempts)
        library.world.jump(1000)


def test_the_highest_version_that_is_written_over_leaves_room(library: Damaged) -> None:
    library.damage(lambda documents: [replace(documents[0], version=HIGHEST - 1), *documents[1:]])
    assert done(library.db.repairer.check()) == {"rewrite": 1}
    library.damage(lambda documents: documents[1:])
    assert done(library.db.repairer.check()) == {"rewrite": 1}
    library.mended()


def test_an_id_that_no_database_can_hold(make: Callable[..., Damaged], backend: Backend) -> None:
    """Nothing fails for it, it counts as no deletion, and no event tells of it again and again."""
    library = make(2, backend=backend, repair={"max_deletions": 0})
    library.damage(lambda documents: [*documents[1:], replace(documents[0], id="not\0here")])
    for expected in ({"rewrite": 1}, {}):
        report = library.db.repairer.check()
        assert done(report) == expected
        assert report.generations[0].plan.deletions == 0
    plan = library.plan()
    assert dict(plan.actions) == {"quarantine": 1}
    assert [view.detail for view in plan.sample] == [UNHELD]
    assert "quarantined" not in {event["kind"] for event in library.db.events(limit=20)}
    library.db.rebuild_index("v3")
    library.world.monitor.damaged("v3")
    assert library.plan().empty


def test_a_refusal_counts_each_document_once_and_says_by_what(library: Damaged) -> None:
    library.damage(lambda documents: [replace(documents[0], version=HIGHEST), *documents[1:]])
    library.db.repairer.check()
    library.damage(lambda documents: [*documents, replace(documents[1], id="zz")])
    with pytest.raises(
        RestoredSource, match="1 of its documents are newer than their row, and 1 of its documents have no"
    ):
        library.db.repairer.check()
