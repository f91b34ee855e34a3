"""Projections: versions that never go back, acknowledgements that never lower, tombstones for what is gone."""

import numpy as np
import pytest

from speakerdb.catalog import activity, library, people, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.vectors import EmbeddingRow
from speakerdb.core.digests import bucket_of
from speakerdb.generations import V3
from speakerdb.testing.factories import fake_vector
from speakerdb.types import Document, Kind, Unembeddable
from tests.catalog.conftest import Clock, add, embed


@pytest.fixture
def speaker(catalog: Catalog) -> str:
    return add(catalog, "r")["SPEAKER_00"]


def waiting(catalog: Catalog) -> list[Document]:
    with catalog.read() as tx:
        return vectors.waiting_documents(tx, "v3", 100)


def acknowledge(catalog: Catalog, speaker: str, version: int) -> None:
    with catalog.job() as tx:
        vectors.acknowledge(tx, "v3", [(speaker, version, version % 1000)])


def test_an_embedding_waits_for_its_document(catalog: Catalog, speaker: str) -> None:
    assert waiting(catalog) == []
    embed(catalog, speaker)
    (document,) = waiting(catalog)
    assert document.id == speaker
    assert document.recording_id == "r"
    assert document.vector is not None
    np.testing.assert_array_equal(document.vector, fake_vector(speaker, V3.dimension))
    acknowledge(catalog, speaker, document.version)
    assert waiting(catalog) == []


def test_versions_grow_also_when_the_clock_stands_still_or_goes_back(
    catalog: Catalog, clock: Clock, speaker: str
) -> None:
    seen = []
    for _ in range(3):
        embed(catalog, speaker)
        seen.append(waiting(catalog)[0].version)
        clock.pass_seconds(-3600)
    with catalog.job() as tx:
        vectors.raise_versions(tx, [speaker], catalog.now())
    seen.append(waiting(catalog)[0].version)
    with catalog.job() as tx:
        vectors.raise_generation(tx, "v3", catalog.now())
    seen.append(waiting(catalog)[0].version)
    with catalog.job() as tx:
        vectors.mark_deleted(tx, [speaker], catalog.now())
    seen.append(waiting(catalog)[0].version)
    assert seen == list(range(seen[0], seen[0] + 6))


def test_a_late_acknowledgement_lowers_nothing_and_hides_nothing(catalog: Catalog, speaker: str) -> None:
    embed(catalog, speaker)
    old = waiting(catalog)[0].version
    embed(catalog, speaker, text="again")
    new = waiting(catalog)[0].version
    acknowledge(catalog, speaker, old)
    assert waiting(catalog)[0].version == new
    acknowledge(catalog, speaker, new)
    acknowledge(catalog, speaker, old)
    assert waiting(catalog) == []
    with catalog.read() as tx:
        (row,) = tx.exec_driver_sql("SELECT indexed_version, indexed_digest, bucket FROM projections").all()
    assert tuple(row) == (new, new % 1000, bucket_of(speaker))


def test_deletion_leaves_a_tombstone_and_forgets_the_vector(catalog: Catalog, speaker: str) -> None:
    embed(catalog, speaker)
    with catalog.change() as tx:
        vectors.mark_deleted(tx, [speaker], catalog.now())
        library.delete_recording(tx, "r")
    (document,) = waiting(catalog)
    assert document.deleted
    assert (document.recording_id, document.profile_id) == (None, None)
    with catalog.read() as tx:
        assert vectors.embeddings_of(tx, "v3", [speaker]) == {}
        assert [d.id for d in vectors.expected_documents(tx, "v3")] == [speaker]


def test_a_voice_that_becomes_unembeddable_loses_its_document(catalog: Catalog, speaker: str) -> None:
    embed(catalog, speaker)
    acknowledge(catalog, speaker, waiting(catalog)[0].version)
    row = EmbeddingRow(speaker, Kind.SPEAKER, Unembeddable("too-short"), V3.recipe.digest, 2)
    with catalog.change() as tx:
        vectors.write_embeddings(tx, "v3", [row], {speaker: "lib"}, catalog.now())
    (document,) = waiting(catalog)
    assert document.deleted
    embed(catalog, speaker)
    assert not waiting(catalog)[0].deleted


def test_an_unembeddable_voice_needs_no_document(catalog: Catalog, speaker: str) -> None:
    row = EmbeddingRow(speaker, Kind.SPEAKER, Unembeddable("too-short"), V3.recipe.digest, 1)
    with catalog.change() as tx:
        vectors.write_embeddings(tx, "v3", [row], {speaker: "lib"}, catalog.now())
    assert waiting(catalog) == []
    with catalog.read() as tx:
        count, sample = vectors.uncovered(tx, "v3")
    assert count == 1
    assert speaker not in sample


def test_a_rejected_document_is_not_sent_again_until_it_changes(catalog: Catalog, speaker: str) -> None:
    embed(catalog, speaker)
    version = waiting(catalog)[0].version
    with catalog.job() as tx:
        vectors.reject(tx, "v3", [(speaker, version, "wrong dimension")])
    assert waiting(catalog) == []
    with catalog.read() as tx:
        assert vectors.waiting_count(tx, "v3") == 1
        assert activity.rejected(tx, "v3") == (1, 0, "wrong dimension")
        (row,) = activity.projections_of(tx, [speaker], "v3")
        assert row.rejection == "wrong dimension"
    embed(catalog, speaker, text="mended")
    assert len(waiting(catalog)) == 1


def test_what_the_index_holds_ahead_is_overtaken_once(catalog: Catalog, speaker: str) -> None:
    embed(catalog, speaker)
    read = waiting(catalog)[0].version
    with catalog.job() as tx:
        vectors.overtake(tx, "v3", [(speaker, read, read + 500)], 0)
    assert waiting(catalog)[0].version == read + 501
    with catalog.job() as tx:
        vectors.overtake(tx, "v3", [(speaker, read, read + 900)], 0)  # read too long ago: somebody raised it meanwhile
    assert waiting(catalog)[0].version == read + 501


def test_coverage_counts_what_is_missing_or_of_an_older_content(catalog: Catalog) -> None:
    ids = add(catalog, "r")
    with catalog.read() as tx:
        assert vectors.uncovered(tx, "v3")[0] == 2
    for speaker in ids.values():
        embed(catalog, speaker)
    with catalog.read() as tx:
        assert vectors.uncovered(tx, "v3") == (0, [])
        assert vectors.lacking(tx, "v4") == 2
        assert vectors.lacking(tx, "v3") == 0
    with catalog.change() as tx:
        tx.exec_driver_sql("UPDATE recordings SET content_version = 2")
    with catalog.read() as tx:
        assert vectors.uncovered(tx, "v3")[0] == 2


def test_more_hits_are_looked_up_than_a_statement_has_parameters(catalog: Catalog, speaker: str) -> None:
    """A question for many, or for many voices at once, looks deep into a large library."""
    embed(catalog, speaker)
    ids = [f"spk_{number}" for number in range(70_000)] + [speaker]
    with catalog.read() as tx:
        assert set(library.searchable_speakers(tx, "v3", ids)) == {speaker}
        assert set(vectors.speech_behind(tx, "v3", ids)) == {speaker}
        assert set(vectors.embeddings_of(tx, "v3", ids)) == {speaker}
        assert people.by_id(tx, ids) == {}
