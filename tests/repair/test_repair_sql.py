"""What SQL itself has lost: taken back from an index that can prove it, or extracted again; and work that nobody queued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import repair_kit as kit
from repair_kit import Damaged, done

from speakerdb.catalog import vectors
from speakerdb.testing.backends import Backend
from speakerdb.types import Embedding


def stored(library: Damaged, speaker: str) -> Embedding | None:
    with library.db.catalog.read() as tx:
        row = vectors.embeddings_of(tx, "v3", [speaker]).get(speaker)
    return row.result if row is not None and isinstance(row.result, Embedding) else None


def test_a_lost_vector_comes_back_from_the_index(make: Callable[..., Damaged], backend: Backend) -> None:
    library = make(3, backend=backend)
    lost = library.documents()[1]
    before = stored(library, lost.id)
    assert before is not None
    library.sql("DELETE FROM embeddings WHERE entity_id = ?", lost.id)
    assert dict(library.plan().actions) == {"recover": 1}
    assert done(library.db.repairer.run()) == {"recover": 1}
    found = stored(library, lost.id)
    assert found is not None
    np.testing.assert_array_equal(found.vector, before.vector)
    assert (found.segments, found.resultant, found.agreement) == (1, 1.0, None)
    with library.db.catalog.read() as tx:
        assert vectors.embeddings_of(tx, "v3", [lost.id])[lost.id].recipe == "recovered"
    assert not library.index.fetch(library.concrete(), [lost.id])[lost.id].deleted
    library.mended()


@pytest.mark.parametrize("harmed", [7, 8, 0], ids=["no-numbers", "too-few", "none"])
def test_a_row_whose_vector_was_harmed_stops_no_other(library: Damaged, harmed: int) -> None:
    """Where the document is to be written anew, too: it is refused, and the others are written."""
    lost, *others = library.documents()
    library.sql("UPDATE embeddings SET vector = ? WHERE entity_id = ?", bytes(harmed), lost.id)
    library.sql("UPDATE projections SET version = version + 1 WHERE entity_id IS NOT NULL")
    library.db.work()
    held = library.index.fetch(library.concrete(), [each.id for each in others])
    assert all(held[each.id].version == each.version + 1 for each in others)
    assert library.plan().found == {"rejected": 1}


@pytest.mark.parametrize(
    "damage", [kit.other_vector, kit.other_hash, kit.ahead, lambda documents: documents[1:]],
    ids=["another vector", "another hash", "another version", "gone"],
)  # fmt: skip
def test_what_the_index_cannot_prove_is_extracted_again(library: Damaged, damage: object) -> None:
    lost = library.documents()[0]
    library.sql("DELETE FROM embeddings WHERE entity_id = ?", lost.id)
    library.damage(damage)  # type: ignore[arg-type]
    assert dict(library.plan().found) == {"lost-vector": 1}
    assert done(library.db.repairer.run(vectors=True)) == {"extract": 1}
    assert library.plan().empty, "it is queued, and that is all there is to do"
    library.db.work()
    assert stored(library, lost.id) is not None
    library.db.repairer.run(vectors=True)
    library.mended()


def test_a_forged_document_does_not_become_a_vector(library: Damaged) -> None:
    """Its hash is right, and so is its version; the digest that SQL kept is of another document."""
    lost = library.documents()[0]
    forged = replace(lost, vector=kit.fake_vector("another voice", 24))
    hashed = vectors.content_hash(
        forged.vector, forged.kind.value, forged.library_id, forged.recording_id, forged.profile_id
    )
    library.sql("DELETE FROM embeddings WHERE entity_id = ?", lost.id)
    library.damage(lambda documents: [replace(forged, content_hash=hashed), *documents[1:]])
    assert done(library.db.repairer.run(vectors=True)) == {"extract": 1}


@pytest.mark.parametrize(
    "blob", [b"\0" * 96, b"abc", np.full(24, np.nan, "<f4").tobytes()], ids=["zero", "short", "nan"]
)
def test_a_stored_vector_that_cannot_be_one(library: Damaged, blob: bytes) -> None:
    lost = library.documents()[0]
    before = stored(library, lost.id)
    library.sql("UPDATE embeddings SET vector = ? WHERE entity_id = ?", blob, lost.id)
    assert done(library.db.repairer.run(vectors=True)) == {"recover": 1}
    found = stored(library, lost.id)
    assert found is not None
    assert before is not None
    np.testing.assert_array_equal(found.vector, before.vector)
    library.mended()


def test_a_profile_that_lost_its_vector_is_pooled_again(library: Damaged) -> None:
    speaker = library.db.speakers()[0].id
    ada = library.db.create_profile("Ada").id
    library.db.assign(speaker, ada)
    library.db.work()
    library.sql("DELETE FROM embeddings WHERE entity_id = ?", ada)
    assert "lost-vector" not in library.plan().found
    library.db.repairer.run()
    assert stored(library, ada) is not None
    library.mended()


def test_a_recording_that_nobody_queued(library: Damaged) -> None:
    library.sql("DELETE FROM work_items WHERE recording_id = ?", "recording-1")
    assert dict(library.plan().found) == {"unfinished": 1}
    assert done(library.db.repairer.run()) == {"extract": 1}
    library.db.work()
    library.mended()


def test_what_is_queued_or_given_up_is_left_alone(library: Damaged) -> None:
    speaker = library.db.speakers()[0]
    library.sql("DELETE FROM embeddings WHERE entity_id = ?", speaker.id)
    library.sql(
        "UPDATE work_items SET state = 'failed', error_code = 'media-missing', done_version = NULL WHERE recording_id = ?",
        speaker.recording_id,
    )
    assert "lost-vector" not in library.plan().found
    assert done(library.db.repairer.run()) == {}


def test_digests_that_are_not_known_are_learned_once(make: Callable[..., Damaged], backend: Backend) -> None:
    """As after an upgrade: every row was acknowledged before buckets and digests were kept."""
    library = make(3, backend=backend)
    library.sql("UPDATE projections SET bucket = NULL, indexed_digest = NULL")
    plan = library.plan(vectors=False)
    assert (plan.empty, plan.learned, plan.compared) == (True, 6, 6)
    assert library.plan(vectors=False).learned == 6, "a plan changes nothing"
    report = library.db.repairer.check()
    assert report.done == 0
    assert library.db.repairer.check().generations[0].plan.compared == 0
    library.mended()


def test_a_digest_that_is_wrong_in_sql_is_corrected(library: Damaged) -> None:
    library.sql(
        "UPDATE projections SET indexed_digest = indexed_digest + 1 WHERE entity_id = ?", library.documents()[0].id
    )
    assert library.plan(vectors=False).learned == 1
    library.db.repairer.check()
    library.mended()


def test_after_a_rebuild_of_a_restored_database_the_digests_are_learned(library: Damaged) -> None:
    library.damage(kit.ahead)
    library.world.kill(0)  # the next one finds the index ahead, as after a restore
    library.db.rebuild_index("v3")
    library.db.repairer.check()
    library.mended()
