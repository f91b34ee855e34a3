"""Migrations through the service: every case runs start, finalize, roll back, start, finalize."""

from collections.abc import Callable
from pathlib import Path

import pytest

from speakerdb.errors import (
    Conflict,
    GateFailed,
    IllegalTransition,
    InvalidInput,
    MediaMissing,
    MigrationActive,
    NoMigration,
    PreflightFailed,
)
from speakerdb.extraction import Extracted, Task
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings
from speakerdb.testing.factories import FakeExecutor, fake_extract, fake_vector
from speakerdb.types import SERVING_ALIAS, AliasAction, Document, Kind, Turn
from tests.flow.conftest import add, migrate


def serving(db: SpeakerDB) -> str:
    (name,) = db.index.aliases()[SERVING_ALIAS]
    return name


def failed_gates(caught: pytest.ExceptionInfo[GateFailed]) -> list[str]:
    assert caught.value.hint
    return [check.name for check in caught.value.details["report"].checks if check.verdict == "fail"]


def test_there_and_back_and_there_again(db: SpeakerDB) -> None:
    ids = [add(db, name).speakers["SPEAKER_00"] for name in ("a", "b", "c")]
    db.work()
    ann = db.create_profile("Ann")
    db.assign(ids[0], ann.id)
    db.rename_speaker(ids[1], "Bob")
    db.work()
    assert serving(db) == "speakers_v3"
    migrate(db)
    assert serving(db) == "speakers_v4"
    assert db.match(speaker=ids[0]).generation == "v4"
    report = db.rollback()
    assert (report.serving, report.source_lag, serving(db)) == ("v3", 0, "speakers_v3")
    assert db.match(speaker=ids[0]).generation == "v3"
    assert list(db.index.indices()) == ["speakers_v3"]
    view = db.start_migration("v4", force=True)
    assert view.progress.recordings_queued == 0, "what SQL has is used again"
    assert db.work().recordings_done == 0
    assert db.finalize().serving == "v4"
    assert db.speaker(ids[0]).profile_name == "Ann"
    assert db.speaker(ids[1]).name == "Bob"
    assert db.retire().state == "retired"
    assert list(db.index.indices()) == ["speakers_v4"]
    assert db.retire().state == "retired", "it can be run again"
    with pytest.raises(NoMigration):
        db.rollback()


def test_both_generations_are_kept_right_while_it_runs_and_until_it_is_retired(db: SpeakerDB) -> None:
    add(db, "old")
    add(db, "goes")
    db.work()
    db.start_migration("v4", force=True)
    assert add(db, "new").queued == ("v3", "v4")
    db.work()
    db.remove("goes")
    add(db, "old", (Turn(0, 15, "SPEAKER_00"),))
    db.work()
    db.finalize()
    late = add(db, "late").speakers["SPEAKER_00"]
    db.work()
    assert db.rollback().source_lag == 0
    assert late in db.index.fetch("speakers_v3", [late])
    assert db.match(speaker=late).generation == "v3"


def test_a_rollback_counts_what_the_source_lacks(db: SpeakerDB, executor: FakeExecutor) -> None:
    add(db, "a")
    db.work()
    migrate(db)

    def without_v3(task: Task) -> Extracted:
        if task.generation.name == "v3":
            raise MediaMissing("gone for v3")
        return fake_extract(task)

    executor.answer = without_v3
    add(db, "b")
    db.work()
    view = db.migration()
    assert view is not None
    assert view.source_lag == 2
    assert db.rollback().source_lag == 2


def test_rollback_now_swaps_first_and_catches_up_after(db: SpeakerDB) -> None:
    ids = add(db, "a").speakers
    db.work()
    migrate(db)
    db.remove("a")
    report = db.rollback(now=True)
    assert report.serving == "v3"
    assert all(d.deleted for d in db.index.fetch("speakers_v3", list(ids.values())).values())


def test_finalize_is_refused_too_early_and_names_the_gate(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    with pytest.raises(GateFailed) as caught:
        db.finalize()
    assert failed_gates(caught) == ["coverage"]
    assert serving(db) == "speakers_v3"
    db.work()
    assert db.check_gates().proven
    assert db.finalize().serving == "v4"


def test_failures_stop_a_finalize_until_a_person_retries_or_waives(db: SpeakerDB, executor: FakeExecutor) -> None:
    for name in ("a", "b", "c"):
        add(db, name)
    db.work()

    def broken(task: Task) -> Extracted:
        if task.recording_id != "a":
            raise MediaMissing(f"{task.recording_id} is gone")
        return fake_extract(task)

    executor.answer = broken
    db.start_migration("v4", force=True)
    report = db.work()
    assert (report.recordings_done, report.recordings_failed) == (1, 2)
    view = db.migration()
    assert view is not None
    assert view.progress.errors == {"media-missing": 2}
    assert {item.recording_id for item in view.failed} == {"b", "c"}
    with pytest.raises(GateFailed) as caught:
        db.finalize()
    assert failed_gates(caught) == ["coverage"]
    with pytest.raises(InvalidInput):
        db.waive(why="  ")
    assert db.waive(why="lost in the flood", recording="b") == 1
    with pytest.raises(GateFailed):
        db.finalize()
    executor.answer = fake_extract
    assert db.retry(code="media-missing") == 1
    db.work()
    assert db.finalize().serving == "v4"
    waivers = [event for event in db.events() if event["kind"] == "item-waived"]
    assert [(e["entity"], e["why"]) for e in waivers] == [("b", "lost in the flood")]


@pytest.mark.parametrize("harm", ["missing", "vector", "orphan", "stale", "filter"])
def test_a_target_that_is_not_equal_is_not_proven(open_db: Callable[..., SpeakerDB], tmp_path: Path, harm: str) -> None:
    inner = _Harmed(tmp_path / "index.db")
    db = open_db(index=inner)
    speaker = add(db, "a").speakers["SPEAKER_00"]
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    inner.harm = (harm, speaker)
    with pytest.raises(GateFailed) as caught:
        db.finalize()
    assert "equality" in failed_gates(caught)
    assert serving(db) == "speakers_v3"
    inner.harm = None
    assert db.finalize().serving == "v4"


class _Harmed(EmbeddedIndex):
    """An index that tells of a document other than what was written to it."""

    harm: tuple[str, str] | None = None

    def scan(self, index, *, after=None):  # type: ignore[no-untyped-def]
        for document in super().scan(index, after=after):
            if self.harm is None or index != "speakers_v4" or document.id != self.harm[1]:
                yield document
                continue
            fields = {name: getattr(document, name) for name in Document.__dataclass_fields__}
            match self.harm[0]:
                case "missing":
                    continue
                case "vector":
                    yield Document(**fields | {"vector": fake_vector("wrong", 16)})
                case "orphan":
                    yield document
                    yield Document(**fields | {"id": document.id + "x"})
                case "stale":
                    yield Document(**fields | {"version": document.version - 1})
                case "filter":
                    yield Document(**fields | {"library_id": "another"})


def test_what_changes_between_proof_and_swap_is_caught_up_under_the_fence(
    db: SpeakerDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = add(db, "a").speakers
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    profile = db.create_profile("Ann")
    db.work()
    measure = db.migrator._measure

    def change_afterwards(*given):  # type: ignore[no-untyped-def]
        report = measure(*given)
        db.assign(ids["SPEAKER_00"], profile.id)
        return report

    monkeypatch.setattr(db.migrator, "_measure", change_afterwards)
    report = db.finalize()
    assert report.gates is not None
    caught_up = report.gates.checks[-1]
    assert (caught_up.name, caught_up.verdict) == ("catch-up", "pass")
    assert caught_up.value.startswith("2 documents changed"), "the speaker's filter and the profile"
    assert db.match(profile=profile.id).generation == "v4"


def test_a_recording_that_arrives_between_proof_and_swap_stops_the_swap(
    db: SpeakerDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    measure = db.migrator._measure

    def add_afterwards(*given):  # type: ignore[no-untyped-def]
        report = measure(*given)
        add(db, "late")
        return report

    with monkeypatch.context() as patched:
        patched.setattr(db.migrator, "_measure", add_afterwards)
        with pytest.raises(GateFailed) as caught:
            db.finalize()
    assert failed_gates(caught) == ["catch-up"]
    add(db, "later")  # the fence was lifted
    db.work()
    assert db.finalize().serving == "v4"


def test_pause_leaves_the_migration_and_goes_on_with_what_is_new(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    assert db.pause("quiet hours").pause_reason == "quiet hours"
    add(db, "b")
    report = db.work()
    assert (report.recordings_done, report.stopped) == (2, "paused")
    db.resume()
    assert db.work().recordings_done == 1


def test_cancel_keeps_what_was_extracted_and_drops_the_index(db: SpeakerDB) -> None:
    for name in ("a", "b"):
        add(db, name)
    db.work()
    db.start_migration("v4", force=True)
    db.work(limit=1)
    assert db.cancel().state == "cancelled"
    assert list(db.index.indices()) == ["speakers_v3"]
    assert add(db, "c").queued == ("v3",)
    assert db.work().recordings_done == 1
    view = db.start_migration("v4", force=True)
    assert view.progress.recordings_queued == 2
    db.work()
    assert db.finalize().serving == "v4"


def test_illegal_moves_are_refused_and_change_nothing(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    for move in (db.finalize, db.rollback, db.cancel, db.retire, db.pause, db.resume, db.check_gates):
        with pytest.raises(NoMigration):
            move()
    with pytest.raises(Conflict, match="serves already"):
        db.start_migration("v3", force=True)
    db.start_migration("v4", force=True)
    with pytest.raises(MigrationActive):
        db.start_migration("v4", force=True)
    for move in (db.rollback, db.retire):
        with pytest.raises(IllegalTransition):
            move()
    db.work()
    db.finalize()
    for move in (db.finalize, db.cancel, db.pause):
        with pytest.raises(IllegalTransition):
            move()
    with pytest.raises(MigrationActive):
        db.start_migration("v3", force=True)
    assert serving(db) == "speakers_v4"


def test_a_failed_preflight_starts_nothing(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    with pytest.raises(PreflightFailed) as caught:
        db.start_migration("v4")  # its sound was given in memory
    assert [c.name for c in caught.value.details["report"].checks if c.verdict == "fail"] == ["media"]
    assert db.migration() is None
    assert list(db.index.indices()) == ["speakers_v3"]


def test_a_new_generation_is_a_definition(tmp_path: Path, open_db: Callable[..., SpeakerDB]) -> None:
    db = open_db()
    speaker = add(db, "a").speakers["SPEAKER_00"]
    db.work()
    migrate(db)
    db.retire(purge=True)
    db.close()
    sizes = {"v3": 24, "v4": 16, "v5": 32}
    later = open_db(dimensions=sizes, serving="v3")
    assert later.serving.resolve().generation.name == "v4", "the setting says nothing once the alias does"
    migrate(later, "v5")
    found = later.match(speaker=speaker, same_recording=True)
    assert (found.generation, found.index) == ("v5", "speakers_v5")
    assert later.rollback().serving == "v4"


def test_a_purged_generation_is_extracted_anew(db: SpeakerDB) -> None:
    add(db, "a")
    db.work()
    migrate(db)
    db.retire(purge=True)
    db.start_migration("v3", force=True)
    assert db.work().speakers_embedded == 2
    assert db.finalize().serving == "v3"


def test_an_interrupted_swap_is_decided_by_the_alias(open_db: Callable[..., SpeakerDB]) -> None:
    db = open_db()
    add(db, "a")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    # A process that wrote its intention and died before the swap was sent.
    db.index.update_aliases([AliasAction.add("speakers-swap-1-99", "speakers_v4")])
    with db.catalog.job() as tx:
        tx.exec_driver_sql("UPDATE migrations SET state = 'finalizing', swap_token = 'speakers-swap-1-99'")
    db.work()
    view = db.migration()
    assert view is not None
    assert view.state == "running"
    assert "speakers-swap-1-99" not in db.index.aliases()
    assert db.finalize().serving == "v4"


def test_profiles_are_pooled_in_the_target_before_the_swap(db: SpeakerDB) -> None:
    ids = [add(db, name).speakers["SPEAKER_00"] for name in ("a", "b", "c")]
    ann = db.create_profile("Ann")
    for speaker in ids[:2]:
        db.assign(speaker, ann.id)
    db.work()
    migrate(db)
    vectors = [fake_vector(f"v4/{speaker}/1", 16) for speaker in ids[:2]]
    mean = sum(v.astype(float) for v in vectors)
    result = db.match(vector=vectors[0], kind=Kind.PROFILE)
    assert (result.generation, result.matches[0].name) == ("v4", "Ann")
    assert result.matches[0].score == pytest.approx(float(vectors[0] @ mean / (mean @ mean) ** 0.5), abs=1e-5)


def test_generation_settings_say_what_is_missing() -> None:
    with pytest.raises(Exception, match="not complete"):
        GenerationSettings(model="m").applied_to(None, "v9")
