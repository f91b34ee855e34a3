"""Vectors that exist only in an index are read into SQL, once, with what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from speakerdb.adoption import ImportOptions
from speakerdb.catalog import adopting, schema, vectors, work
from speakerdb.errors import (
    AliasMissing,
    ConfigurationError,
    DimensionMismatch,
    IndexMissing,
    InvalidInput,
    LeaseHeld,
    SafetyStop,
)
from speakerdb.index.foreign import RawDocument
from speakerdb.reports.adopting import ImportReport
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.faults import SimulatedCrash
from speakerdb.testing.invariants import check, complete
from speakerdb.types import SERVING_ALIAS, AliasAction, Document, Kind, Turn
from tests.adoption.legacy import MAPPING, Raw, Stage, fill, unit

NAME = "speakers_v3"


@pytest.fixture
def old(stage: Stage) -> Raw:
    """An index of another application, whose name is ours."""
    raw = stage.cluster.indices[NAME] = Raw()
    fill(raw)
    return raw


def bring(db: SpeakerDB, *, name: str = NAME, dry_run: bool = False, **said: Any) -> ImportReport:
    return db.adoption.imports.run(name, ImportOptions(**said), dry_run=dry_run)


def reasons(report: ImportReport) -> dict[str, int]:
    return {group.reason: group.count for group in report.refused}


def test_an_index_is_imported_and_then_built_again(stage: Stage, old: Raw) -> None:
    db = stage.open()
    report = bring(db)
    assert (report.documents, report.imported, report.refused) == (7, 7, ())
    assert (report.recordings, report.speakers, report.profiles, report.normalised) == (4, 7, 1, 7)
    assert (report.without_seconds, report.assumed_seconds, report.live) == (7, 1.0, True)
    assert report.fields == {
        "vector": "embedding", "recording": "media_file_id", "id": "_id", "profile": "profile_id", "name": "display_name",
    }  # fmt: skip
    assert report.next == "speakerdb index rebuild v3"
    before = dict(old.documents)
    db = stage.restart()
    db._first_start()
    built = db.rebuild_index("v3")
    assert (built.index, built.alias_moved) == ("speakers_v3.r2", True)
    db.work()
    view = check(db)
    complete(view, "v3")
    assert old.documents == before
    for number in range(7):
        assert np.array_equal(view.documents["v3"][str(number)].vector, unit(number))
    assert {s.name for s in db.speakers(profile=db.profiles()[0].id)} == {"Ada"}
    with db.catalog.read() as tx:
        assert adopting.recipes(tx, "v3") == {"foreign:speakers_v3": 7, db.generations["v3"].recipe.digest: 1}
    (problem,) = [p for p in db.status().problems if p.code == "foreign-vectors"]
    assert "7 foreign:speakers_v3" in problem.message
    assert db.match(speaker="0").decision != "accept"


def test_a_dry_run_changes_nothing(stage: Stage, old: Raw) -> None:
    db = stage.open()
    stage.points.clear()
    report = bring(db, dry_run=True)
    assert (report.dry_run, report.imported, report.recordings, report.speakers, report.profiles) == (True, 7, 4, 7, 1)
    assert stage.points == []
    assert bring(db).imported == 7
    assert bring(db, dry_run=True).present == 7


def test_it_can_be_run_again(stage: Stage, old: Raw) -> None:
    db = stage.open()
    bring(db)
    with db.catalog.read() as tx:
        first = tx.execute(sa.select(schema.projections)).all()
    again = bring(db)
    assert (again.imported, again.updated, again.present) == (0, 0, 7)
    assert (again.recordings, again.speakers, again.profiles) == (0, 0, 0)
    with db.catalog.read() as tx:
        assert tx.execute(sa.select(schema.projections)).all() == first


def test_what_changed_in_the_index_follows_and_what_sql_has_stays(stage: Stage, old: Raw) -> None:
    db = stage.open()
    bring(db)
    db._first_start()
    db.rebuild_index("v3")
    db.rename_speaker("3", "Grace")
    vector = [1.0] + [0.0] * 23
    old.put("1", **old.documents["1"].source | {"embedding": vector, "display_name": "Bob"})
    old.put("3", **old.documents["3"].source | {"display_name": "Eve"})
    with db.catalog.change() as tx:  # a vector of our own
        row = vectors.embeddings_of(tx, "v3", ["2"])["2"]
        vectors.write_embeddings(tx, "v3", [replace(row, recipe="ours")], {"2": "lib"}, db.catalog.now())
    old.put("2", **old.documents["2"].source | {"embedding": vector})
    report = bring(db)
    assert (report.updated, report.kept, report.present) == (1, 1, 5)
    assert db.speaker("1").name == "Bob"
    assert db.speaker("3").name == "Grace"
    with db.catalog.read() as tx:
        known = vectors.embeddings_of(tx, "v3", ["1", "2"])
    assert known["1"].result.vector[0] == 1.0
    assert np.array_equal(known["2"].result.vector, unit(2))


def test_a_merge_of_profiles_is_followed(stage: Stage, old: Raw) -> None:
    db = stage.open()
    bring(db)
    other = db.create_profile("Ada Lovelace")
    db.merge_profiles(db.speaker("0").profile_id, other.id)
    old.put("9", media_file_id=77, profile_id=3, embedding=[1.0] * 24)
    report = bring(db)
    assert (report.imported, report.updated, report.profiles) == (1, 0, 0)
    assert db.speaker("9").profile_id == other.id


def test_a_profile_of_that_name_is_the_person(stage: Stage, old: Raw) -> None:
    for id, raw in old.documents.items():
        raw.source.pop("profile_id", None)
        old.documents[id] = RawDocument(id, 1, raw.source | {"who": "Ada"})
    old.mapping = {"properties": {**MAPPING["properties"], "who": {"type": "keyword"}}}
    db = stage.open()
    ada = db.create_profile("Ada")
    report = bring(db, fields={"profile": "who"})
    assert report.profiles == 0
    assert {s.profile_id for s in db.speakers()} == {ada.id}


def test_persons_without_voices_keep_their_vector(stage: Stage, old: Raw) -> None:
    old.mapping = {"properties": {**MAPPING["properties"], "document_type": {"type": "keyword"}}}
    vector = [float(x) for x in unit(0)]
    old.put("p3", document_type="profile", profile_id=3, embedding=vector)
    old.put("p4", document_type="profile", profile_id=4, profile_name="Bob", embedding=vector)
    db = stage.open()
    report = bring(db)
    assert (report.imported, report.profiles, report.refused) == (8, 2, ())
    db._first_start()
    db.rebuild_index("v3")
    db.work()
    view = check(db)
    complete(view, "v3")
    profiles = {view.profiles[id].name: row for (_, id), row in view.embeddings.items() if id in view.profiles}
    assert profiles["4"].recipe == "foreign:speakers_v3"
    assert profiles["3"].recipe == db.generations["v3"].recipe.digest
    again = bring(db)
    assert (again.imported, again.updated) == (0, 0)


def test_recordings_that_sql_knows(stage: Stage, old: Raw) -> None:
    """Speakers are found by the label of the turns; what is not of them is refused."""
    old.documents.clear()
    old.mapping = {
        "properties": {**MAPPING["properties"], "label": {"type": "keyword"}, "library": {"type": "keyword"}}
    }
    vector = [float(x) for x in unit(0)]
    del stage.cluster.indices[NAME]
    db = stage.open(start=True)
    stage.cluster.indices["of_old"] = old
    db.add(None, two_voices(), recording_id="7", waveform=silence(20))
    ids = {speaker.label: speaker.id for speaker in db.speakers()}
    old.put("a", media_file_id=7, label="SPEAKER_00", embedding=vector)
    old.put("b", media_file_id=7, label="SPEAKER_01", embedding=vector)
    old.put("c", media_file_id=7, label="SPEAKER_02", embedding=vector)
    old.put("d", media_file_id=7, label="SPEAKER_00", embedding=vector)
    old.put("e", media_file_id=7, label="SPEAKER_00", library="other", embedding=vector)
    old.put("f", media_file_id=8, label="SPEAKER_00", embedding=vector)
    old.put("g", media_file_id=8, label="SPEAKER_00", embedding=vector)
    old.put(ids["SPEAKER_00"], media_file_id=8, embedding=vector)
    db.adoption.imports._part = 100
    report = bring(db, name="of_old", known_only=True)
    assert reasons(report) == {
        "unknown-speaker": 1, "duplicate-id": 1, "other-library": 1, "unknown-recording": 2, "id-taken": 1,
    }  # fmt: skip
    report = bring(db, name="of_old")
    assert reasons(report) == {
        "unknown-speaker": 1, "duplicate-id": 1, "other-library": 1, "label-taken": 1, "id-taken": 1,
    }  # fmt: skip
    assert (report.imported, report.present, report.recordings) == (1, 2, 1)
    with db.catalog.read() as tx:
        assert {row.state for row in tx.execute(sa.select(schema.work_items))} == {"done"}
        assert set(vectors.embeddings_of(tx, "v3", [*ids.values(), "f"])) == {*ids.values(), "f"}
    again = bring(db, name="of_old", extract_again=True)
    assert again.queued == 1
    assert db.work().recordings_done == 1
    with db.catalog.read() as tx:
        assert vectors.embeddings_of(tx, "v3", list(ids.values()))[ids["SPEAKER_00"]].recipe != "foreign:of_old"
    assert bring(db, name="of_old").kept == 2


def test_what_somebody_is_extracting_is_left_to_them(stage: Stage, old: Raw) -> None:
    del stage.cluster.indices[NAME]
    db = stage.open(start=True)
    stage.cluster.indices["of_old"] = old
    db.add(None, [Turn(0, 9, "0"), Turn(10, 19, "1")], recording_id="0", waveform=silence(20))
    ids = {speaker.label: speaker.id for speaker in db.speakers()}
    old.documents = {ids[one.id]: replace(one, id=ids[one.id]) for one in old.documents.values() if one.id in ids}
    with db.catalog.holding("work") as lease:
        with db.catalog.job(lease) as tx:
            assert len(work.take(tx, lease, 10)) == 1
        assert bring(db, name="of_old").imported == 2
        with db.catalog.read() as tx:
            assert tx.scalar(sa.select(schema.work_items.c.state)) == "taken"


def test_two_documents_of_one_speaker_do_not_take_turns(stage: Stage, old: Raw) -> None:
    old.mapping = {"properties": {**MAPPING["properties"], "uuid": {"type": "keyword"}}}
    for id, raw in old.documents.items():
        raw.source["uuid"] = "same" if id in ("0", "5", "6") else id
        raw.source["media_file_id"] = 1
    db = stage.open()
    first = bring(db, fields={"id": "uuid"})
    assert reasons(first) == {"duplicate-id": 2}
    assert reasons(bring(db, fields={"id": "uuid"})) == {"duplicate-id": 2}


def test_what_was_removed_does_not_come_back(stage: Stage, old: Raw) -> None:
    db = stage.open()
    bring(db)
    db.remove("0")
    report = bring(db)
    assert (reasons(report), report.present) == ({"removed": 2}, 5)
    assert {s.id for s in db.speakers()} == {"2", "3", "4", "5", "6"}


@pytest.mark.parametrize("labels", [("0", "1"), ("0", "1", "new")])
def test_an_imported_recording_gets_its_turns(stage: Stage, old: Raw, labels: tuple[str, ...]) -> None:
    db = stage.open()
    bring(db)
    db._first_start()
    db.rebuild_index("v3")
    db.work()
    with pytest.raises(InvalidInput, match="do not name its speakers 0, 1"):
        db.add(None, two_voices(), recording_id="0", waveform=silence(20))
    turns = [Turn(10.0 * n, 10.0 * n + 9, label) for n, label in enumerate(labels)]
    report = db.add(None, turns, recording_id="0", waveform=silence(30))
    assert report.queued == (("v3",) if "new" in labels else ())
    assert report.speakers["0"] == "0"
    assert {hit.id for hit in db.match(speaker="2").matches} >= {"0", "1"}, "the vectors still serve"
    assert db.speaker("0").name == "Ada"
    db.work()
    view = check(db)
    complete(view, "v3")
    assert len(view.documents["v3"]) == 7 + len(labels) - 2 + 1


def test_a_migration_of_what_has_no_turns(stage: Stage, old: Raw) -> None:
    """It says so, and goes on when they come or when a person waives them."""
    db = stage.open()
    bring(db)
    db._first_start()
    db.rebuild_index("v3")
    db.start_migration("v4", force=True)
    report = db.work()
    assert {error.code for error in report.errors} == {"needs-turns"}
    assert report.recordings_failed == 4
    db.add(None, [Turn(0, 9, "0"), Turn(10, 19, "1")], recording_id="0", waveform=silence(20))
    assert db.work().recordings_done == 1
    assert db.waive(why="no sound", code="needs-turns") == 3
    db.finalize()
    check(db)
    assert db.status().serving == "v4"


def test_another_generation_is_read_and_used_by_a_migration(stage: Stage, old: Raw) -> None:
    stage.settings = stage.settings.model_copy(update={"serving": "v4"})
    del stage.cluster.indices[NAME]
    stage.open(start=True)
    db = stage.restart()
    stage.cluster.indices[NAME] = old
    report = bring(db)
    assert (report.imported, report.live, report.next) == (7, False, "speakerdb migrate start --to v3")
    assert {error.code for error in db.work().errors} == {"needs-turns"}
    stage.cluster.indices.clear()
    db.start_migration("v3", force=True)
    assert db.work().recordings_done == 0, "all of it was imported"
    db.finalize()
    check(db)


# Which generation


def test_two_generations_of_one_dimension_are_not_guessed(stage: Stage, old: Raw) -> None:
    more = GenerationSettings(family="spectral", model="spectral-b", dimension=24)
    stage.settings = stage.settings.model_copy(update={"generations": {**stage.settings.generations, "v5": more}})
    db = stage.open()
    with pytest.raises(InvalidInput, match="v3 and v5") as error:
        bring(db)
    assert "--generation" in error.value.hint
    assert bring(db, generation="v5").generation == "v5"


def test_what_does_not_fit_is_refused(stage: Stage, old: Raw) -> None:
    db = stage.open()
    with pytest.raises(DimensionMismatch):
        bring(db, generation="v4")
    with pytest.raises(ConfigurationError):
        bring(db, generation="v9")
    with pytest.raises(IndexMissing):
        db.adoption.imports.run("speakers_v9")
    with pytest.raises(InvalidInput):
        bring(db, assumed_seconds=0.0)
    with pytest.raises(InvalidInput):
        bring(db, fields={"vector": "media_file_id"})
    old.mapping = {"properties": {"v": {"type": "knn_vector", "dimension": 7}, "recording": {"type": "keyword"}}}
    with pytest.raises(ConfigurationError, match="7 dimensions"):
        bring(db)
    assert db.events() == []


def test_only_one_process_does_it(stage: Stage, old: Raw) -> None:
    db = stage.open()
    with db.catalog.holding("migration"), pytest.raises(LeaseHeld):
        bring(db)


def test_the_seconds_of_speech_may_be_known(stage: Stage, old: Raw) -> None:
    old.mapping = {"properties": {**MAPPING["properties"], "speech_seconds": {"type": "float"}}}
    old.put("s", media_file_id=9, speech_seconds=31.5, embedding=[1.0] * 24)
    db = stage.open()
    report = bring(db, assumed_seconds=20.0)
    assert (report.without_seconds, report.assumed_seconds) == (7, 20.0)
    with db.catalog.read() as tx:
        assert vectors.speech_behind(tx, "v3", ["s", "0"]) == {"s": 31.5, "0": 20.0}


# Wherever it is stopped


def test_it_dies_anywhere_and_is_run_again(make: Callable[[], Stage]) -> None:
    def new() -> Stage:
        stage = make()
        fill(stage.cluster.indices.setdefault(NAME, Raw()))
        return stage

    stage = new()
    bring(stage.open())
    total = len(stage.points)
    for number in range(1, total + 1):
        stage = new()
        db = stage.open()
        stage.points.clear()
        stage.at = (number, _crash)
        finished = True
        try:
            bring(db)
        except SimulatedCrash:
            finished = False
        db = stage.restart()
        if not finished and not db.serving.live():
            with pytest.raises(AliasMissing):
                db._first_start()
        report = bring(db)
        assert report.imported + report.present == 7
        db._first_start()
        db.rebuild_index("v3")
        db.work()
        complete(check(db), "v3")


def _crash() -> None:
    raise SimulatedCrash("here")


# Our own documents


def test_the_catalog_is_lost_and_the_index_is_left(tmp_path: Path) -> None:
    settings = fake_settings(tmp_path)
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        for number in range(5):
            db.add(None, two_voices(), recording_id=f"r{number}", waveform=silence(20))
        ada = db.create_profile("Ada").id
        for speaker in db.speakers(recording="r1"):
            db.assign(speaker.id, ada)
        db.work()
        db.remove("r0")
        db.work()
        held = {d.id: d for d in db.index.scan("speakers_v3")}
    for file in tmp_path.glob("catalog.db*"):
        file.unlink()
    with pytest.raises(SafetyStop, match="knows no generation") as error:
        SpeakerDB.open(settings, executor=FakeExecutor())
    assert "speakerdb index import speakers_v3" in error.value.hint
    with SpeakerDB.open(settings, executor=FakeExecutor(), start=False) as db:
        report = db.adoption.imports.run(SERVING_ALIAS, dry_run=True)
        assert (report.documents, report.recordings, report.speakers, report.profiles) == (9, 4, 8, 1)
        report = db.adoption.imports.run("speakers_v3")
        assert (report.imported, report.normalised, report.next) == (9, 0, "speakerdb work")
        with pytest.raises(InvalidInput):
            db.adoption.imports.run("speakers_v3", ImportOptions(fields={"vector": "vector"}))
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        assert not [event for event in db.events() if event["kind"] == "index-ahead"]
        report = db.work()
        assert report.documents_written == 9
        view = check(db)
        complete(view, "v3")
        for id, document in view.documents["v3"].items():
            if not document.deleted:
                assert document.version > held[id].version
                assert document.kind is Kind.PROFILE or np.array_equal(document.vector, held[id].vector)
                assert (document.library_id, document.profile_id) == (held[id].library_id, held[id].profile_id)
        assert not db.work().documents_written


def test_a_document_from_the_future_is_overtaken_or_refused(stage: Stage) -> None:
    db = stage.open(start=True)
    mark = {"generation": "v3", "fingerprint": db.generations["v3"].fingerprint}
    db.index.drop("speakers_v3")
    db.index.create("speakers_v3", 24, mark)
    db.index.update_aliases(
        [AliasAction.add("speakers_v3_write", "speakers_v3"), AliasAction.add(SERVING_ALIAS, "speakers_v3")]
    )
    ahead = stage.clock.now + 10**15
    db.index.bulk(
        "speakers_v3_write",
        [
            Document("a", ahead, "", Kind.SPEAKER, "lib_x", "rec", None, unit(1)),
            Document("b", 2**63 - 1, "", Kind.SPEAKER, "lib_x", "rec", None, unit(2)),
        ],
    )
    report = db.adoption.imports.run("speakers_v3")
    assert (report.imported, reasons(report)) == (1, {"bad-version": 1})
    with db.catalog.read() as tx:
        assert vectors.newest_version(tx, "v3") > ahead, "and no projection is a conflict first"
    db.work()
    assert db.index.fetch("speakers_v3", ["a"])["a"].version > ahead
    assert not db.work().documents_written


def test_what_was_removed_does_not_come_back_when_its_tombstone_is_gone(stage: Stage, old: Raw) -> None:
    """Nor does a profile that was deleted. A tombstone is purged after a week, and two applications may stand side by side for
    longer."""
    repair = stage.settings.repair.model_copy(update={"grace_seconds": 0, "max_deletions": 1000})
    stage.settings = stage.settings.model_copy(update={"repair": repair})
    db = stage.open()
    bring(db)
    db = stage.restart()
    db._first_start()
    db.rebuild_index("v3")
    db.work()
    (profile,) = db.profiles()
    for speaker in db.speakers(profile=profile.id):
        db.assign(speaker.id, None)
    db.people.delete_profile(profile.id)
    db.remove("0")
    db.work()
    stage.clock.now += 10 * 86_400_000_000
    db.assign("2", db.create_profile("newer").id)  # the newest of all is never purged
    db.work()
    assert db.repairer.run(vectors=True).generations[0].done["purge"] > 0
    with db.catalog.read() as tx:
        assert not adopting.removed(tx, ["0", "1", profile.id])
    report = bring(db)
    assert reasons(report)["removed"] >= 2
    assert {speaker.id for speaker in db.speakers()} == {"2", "3", "4", "5", "6"}
    assert [one.name for one in db.profiles()] == ["newer"]
