"""A trial on a library: its vectors are those that an extraction would make, it writes nothing, and no file stops it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_kit import Counting, CountingLoad, everything, name_everybody
from synthetic_voices import MadeUp

from speakerdb import media
from speakerdb.catalog import vectors
from speakerdb.core.selection import select
from speakerdb.errors import (
    Conflict,
    GenerationChanged,
    InvalidInput,
    MediaMissing,
    ModelUnavailable,
    NotFinite,
    NotFound,
)
from speakerdb.executors import InlineExecutor, Overdue, WorkerLost, make_executor
from speakerdb.extraction import Loader
from speakerdb.extraction.extract import NO_FINITE_VECTOR
from speakerdb.models.registry import LoadedModel
from speakerdb.recipes import Recipes, trial
from speakerdb.recipes.measuring import Task, measure
from speakerdb.reports.recipes import RecipeTrial, TrialProgress
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings
from speakerdb.testing.factories import fake_settings
from speakerdb.types import Embedding, FloatArray, Generation, Turn, Unembeddable

BUDGETS = (2.0, 5.0, 10.0)


def recipes(db: SpeakerDB, *, load: Any = None, executor: Callable[[], Any] = InlineExecutor) -> Recipes:
    return Recipes(
        db.catalog, db.generations, db.serving, load or Loader("cpu"), executor=executor, timeout=60.0
    )  # fmt: skip


def task_of(talk: MadeUp, generation: Generation, budgets: tuple[float, ...], **more: Any) -> Task:
    values: dict[str, Any] = {
        "recording_id": talk.stem, "speakers": ("A", "B"), "turns": talk.turns, "seconds": 32.0, "path": str(talk.path),
        "fingerprint": media.fingerprint(talk.path), "media_roots": (), "generation": generation, "budgets": budgets,
        "load": Loader("cpu"),
    }  # fmt: skip
    return Task(**values | more)


# What is measured


@pytest.mark.parametrize("budget", [5.0, 200.0])
def test_a_budget_gives_the_vector_that_an_extraction_with_it_stores(
    talks: list[MadeUp], tmp_path: Path, budget: float
) -> None:
    own = GenerationSettings(family="spectral", model="spectral-b", dimension=48, budget_seconds=budget)
    settings = fake_settings(tmp_path / "own").model_copy(update={"generations": {"v3": own}})
    with SpeakerDB.open(settings) as db:
        ids = db.add(talks[0].path, talks[0].turns, recording_id="one").speakers
        db.work()
        with db.catalog.read() as tx:
            stored = {label: vectors.embeddings_of(tx, "v3", [ids[label]])[ids[label]].result for label in "AB"}
        measured = measure(task_of(talks[0], db.generations["v3"], (2.0, budget)))
    for label in "AB":
        mine, theirs = measured.results[label], stored[label]
        assert not isinstance(mine, Unembeddable)
        assert isinstance(theirs, Embedding)
        assert np.allclose(mine[budget].vector, theirs.vector, atol=1e-5)
        assert mine[budget].seconds == pytest.approx(theirs.seconds)
        assert mine[budget].segments == theirs.segments


def test_a_segment_of_several_budgets_passes_the_network_once(db: SpeakerDB, talks: list[MadeUp]) -> None:
    load, generation = CountingLoad(), db.generations["v4"]
    measured = measure(task_of(talks[0], generation, (*BUDGETS, 300.0), load=load))
    wanted = {
        (speaker, span)
        for budget in (*BUDGETS, 300.0)
        for speaker, spans in select(talks[0].turns, replace(generation.recipe, budget_seconds=budget)).items()
        if isinstance(spans, tuple)
        for span in spans
    }
    assert load.embedder is not None
    assert len(load.embedder.given) == len(wanted) + 1, "and one that nobody measures"
    assert measured.speech_seconds == pytest.approx(sum(span.seconds for _, span in wanted), abs=0.01)
    assert measured.network_seconds > 0


def test_only_those_who_are_asked_for_are_embedded_and_the_others_still_talk_over_them(
    db: SpeakerDB, talks: list[MadeUp]
) -> None:
    over = (*talks[0].turns, Turn(0.0, 8.0, "C"))
    measured = measure(task_of(talks[0], db.generations["v4"], (2.0, 300.0), turns=over, speakers=("A",)))
    assert set(measured.results) == {"A"}
    found = measured.results["A"]
    assert not isinstance(found, Unembeddable)
    assert found[300.0].seconds == pytest.approx(8.0)


def test_silence_has_no_vector(db: SpeakerDB, talks: list[MadeUp], tmp_path: Path) -> None:
    data = bytearray(talks[0].path.read_bytes())
    for second in (8, 24):  # where B talks
        data[44 + second * 32_000 : 44 + (second + 8) * 32_000] = bytes(8 * 32_000)
    half = tmp_path / "half-silent.wav"
    half.write_bytes(data)
    task = task_of(talks[0], db.generations["v4"], (2.0, 300.0), path=str(half), fingerprint=None)
    found = measure(task).results
    assert found["B"] == Unembeddable(NO_FINITE_VECTOR)
    assert isinstance(found["A"], dict)


class Refusing(Counting):
    """Finds no finite vector where it is given more than `most` segments."""

    most = 0

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        if len(segments) > self.most:
            raise NotFinite("refused")
        return super().embed(segments)


@pytest.mark.parametrize("most", [0, 1])
def test_segments_without_a_finite_vector_are_left_out_one_by_one(
    db: SpeakerDB, talks: list[MadeUp], most: int
) -> None:
    load, generation = CountingLoad(), db.generations["v4"]
    load.embedder = Refusing(Loader("cpu")(generation).embedder)
    load.embedder.most = most
    found = measure(task_of(talks[0], generation, (2.0, 300.0), load=load)).results
    plain = measure(task_of(talks[0], generation, (2.0, 300.0))).results
    for label in "AB":
        mine, theirs = found[label], plain[label]
        assert not isinstance(theirs, Unembeddable)
        if most == 0:
            assert mine == Unembeddable(NO_FINITE_VECTOR)
        else:
            assert not isinstance(mine, Unembeddable)
            assert np.allclose(mine[2.0].vector, theirs[2.0].vector, atol=1e-6)


# A trial


@pytest.fixture
def tried(db: SpeakerDB, talks: list[MadeUp]) -> RecipeTrial:
    name_everybody(db, talks)
    return db.recipes.try_budgets([10.0, 2.0, 5.0, 5.0], generation="v4")


def test_a_trial_of_a_whole_library(tried: RecipeTrial) -> None:
    assert (tried.generation, tried.recipe, tried.budget_seconds) == ("v4", "spread-30", 30.0)
    assert (tried.speakers, tried.recordings, tried.skipped) == (12, 6, ())
    assert [each.budget_seconds for each in tried.budgets] == [2.0, 5.0, 10.0, None]
    assert [each.cut for each in tried.budgets] == [12, 12, 12, 0]
    for each in tried.budgets[:-1]:
        assert each.budget_seconds is not None
        assert each.budget_seconds - 1.0 < each.speech_seconds <= each.budget_seconds + 1e-6
        assert each.agreement is not None
        assert each.agreement_low is not None
        assert 0.9 < each.agreement_low <= each.agreement <= 1.0 + 1e-6
    everything_ = tried.budgets[-1]
    assert everything_.speech_seconds == pytest.approx(16.0, abs=0.01)
    assert everything_.separation is not None
    # Three people with four voices each: 18 pairs of one (each person's two recordings of one kind differ), 48 - 6 of two.
    assert (everything_.separation.same, everything_.separation.different) == (18, 42)
    assert everything_.separation.eer == 0.0
    assert everything_.separation.same_cosine > everything_.separation.different_cosine
    assert tried.not_measurable == ""
    assert tried.speed > 0
    assert tried.recommendation.budget_seconds == 10.0, tried.recommendation


def test_it_writes_nothing(db: SpeakerDB, talks: list[MadeUp], tmp_path: Path) -> None:
    before = everything(tmp_path / "data")
    db.recipes.try_budgets(BUDGETS, generation="v4")
    assert everything(tmp_path / "data") == before
    assert before["catalog.db/embeddings"] == []


def test_in_the_generation_that_serves_unless_told(db: SpeakerDB) -> None:
    assert db.recipes.try_budgets([10.0], speakers=1).generation == "v3"


def test_the_same_twice(db: SpeakerDB) -> None:
    one, other = (db.recipes.try_budgets(BUDGETS, speakers=5, generation="v4") for _ in range(2))
    assert one.speakers == 5
    assert [e.agreement for e in one.budgets] == [e.agreement for e in other.budgets]


def test_only_of_one_library(db: SpeakerDB, talks: list[MadeUp]) -> None:
    db.add(talks[0].path, talks[0].turns, recording_id="elsewhere", library="other")
    assert db.recipes.try_budgets([5.0], library_name="other").recordings == 1
    with pytest.raises(NotFound):
        db.recipes.try_budgets([5.0], library_name="nobody's")


def test_progress_is_told_a_recording_at_a_time(db: SpeakerDB) -> None:
    told: list[TrialProgress] = []
    db.recipes.try_budgets([5.0], generation="v4", on_progress=told.append)
    assert [each.speakers for each in told] == [2, 4, 6, 8, 10, 12]
    assert {each.of for each in told} == {12}
    assert told[-1].speech_seconds > told[0].speech_seconds > 0


def test_all_clean_speech_is_bounded_and_says_so(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "ALL_SECONDS", 12.0)
    found = db.recipes.try_budgets([5.0], generation="v4")
    assert (found.limit_seconds, found.limited) == (12.0, 12)
    assert found.budgets[-1].speech_seconds == pytest.approx(12.0, abs=0.01)


def test_many_speakers_of_one_recording_are_tried_a_few_at_a_time(db: SpeakerDB, talks: list[MadeUp]) -> None:
    crowd = tuple(Turn(3.0 * n, 3.0 * n + 3.0, f"S{n}") for n in range(10))
    db.add(talks[0].path, crowd, recording_id="crowd", library="crowds")
    told: list[TrialProgress] = []
    db.recipes.try_budgets([2.0], generation="v4", library_name="crowds", on_progress=told.append)
    assert [each.speakers for each in told] == [4, 8, 10]


# What goes wrong


def test_a_file_that_cannot_be_used_stops_nobody(db: SpeakerDB, talks: list[MadeUp], tmp_path: Path) -> None:
    lost, changed = (
        Path(shutil.copy(talks[n].path, tmp_path / f"{name}.wav")) for n, name in enumerate(("lost", "changed"))
    )
    for path, talk in zip((lost, changed), talks, strict=False):
        db.add(path, talk.turns, recording_id=path.stem)
    db.add(talks[0].path, (Turn(0.0, 4.0, "A"), Turn(0.0, 4.0, "B")), recording_id="drowned")
    lost.unlink()
    with changed.open("ab") as file:
        file.write(b"more")
    found = db.recipes.try_budgets([5.0], generation="v4")
    assert found.speakers == 12
    skipped = {each.code: (each.speakers, each.recording_id) for each in found.skipped}
    assert skipped == {"media-missing": (2, "lost"), "media-changed": (2, "changed"), "overlapped": (2, "drowned")}


def test_where_nobody_can_be_tried_it_says_why(db: SpeakerDB, tmp_path: Path, talks: list[MadeUp]) -> None:
    path = Path(shutil.copy(talks[0].path, tmp_path / "only.wav"))
    db.add(path, talks[0].turns, recording_id="only", library="lost")
    path.unlink()
    with pytest.raises(MediaMissing):
        db.recipes.try_budgets([5.0], library_name="lost")
    db.add(talks[0].path, (Turn(0.0, 0.4, "A"),), recording_id="short", library="short")
    with pytest.raises(Conflict, match="no voice to try"):
        db.recipes.try_budgets([5.0], library_name="short")


@pytest.mark.parametrize("budgets", [(), (0.5,), (300.0,), (10.0, float("nan")), (-1.0,)])
def test_budgets_that_cannot_be_compared_are_refused(db: SpeakerDB, budgets: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput, match="Budgets"):
        db.recipes.try_budgets(budgets)


def test_a_generation_or_a_sample_that_does_not_exist(db: SpeakerDB) -> None:
    with pytest.raises(InvalidInput, match="no generation 'v9'"):
        db.recipes.try_budgets([5.0], generation="v9")
    for speakers in (0, 1001):
        with pytest.raises(InvalidInput, match="sample"):
            db.recipes.try_budgets([5.0], speakers=speakers)


def test_another_checkpoint_than_that_of_the_vectors_is_not_measured(db: SpeakerDB) -> None:
    db.work()
    with pytest.raises(GenerationChanged):
        recipes(db, load=CountingLoad(checksum="f" * 64)).try_budgets([5.0], generation="v3")
    # Nobody has extracted for v4 yet, so whatever it is, is what will be used.
    assert recipes(db, load=CountingLoad(checksum="f" * 64)).try_budgets([5.0], generation="v4").speakers == 12


def test_a_model_that_cannot_be_loaded_ends_it(db: SpeakerDB) -> None:
    def refuse(_: Generation) -> LoadedModel:
        raise ModelUnavailable("not here")

    with pytest.raises(ModelUnavailable):
        recipes(db, load=refuse).try_budgets([5.0], generation="v4")


class Faulty(InlineExecutor):
    """Works as always but for two recordings: one kills its worker, one takes too long."""

    closed = False

    def submit(
        self, function: Callable[[Task], Any], task: Any, *, timeout: float | None = None, alone: bool = False
    ) -> Future[Any]:
        assert timeout == 60.0
        faults = {"talk00": WorkerLost("was killed by signal 9"), "talk01": Overdue("late")}
        if task.recording_id in faults:
            future: Future[Any] = Future()
            future.set_exception(faults[task.recording_id])
            return future
        return super().submit(function, task)

    def close(self) -> None:
        self.closed = True


def test_a_worker_that_dies_or_hangs_costs_its_recording_only(db: SpeakerDB) -> None:
    executor = Faulty()
    found = recipes(db, executor=lambda: executor).try_budgets([5.0], generation="v4")
    skipped = {each.code: (each.speakers, each.recording_id) for each in found.skipped}
    assert skipped == {"worker-died": (2, "talk00"), "worker-timeout": (2, "talk01")}
    assert (found.speakers, executor.closed) == (8, True)


def test_whoever_interrupts_it_leaves_no_process(db: SpeakerDB) -> None:
    executor = Faulty()

    def interrupt(_: TrialProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipes(db, executor=lambda: executor).try_budgets([5.0], generation="v4", on_progress=interrupt)
    assert executor.closed


def test_in_a_process_of_its_own_it_finds_the_same(db: SpeakerDB) -> None:
    here = recipes(db).try_budgets(BUDGETS, speakers=3, generation="v4")
    there = recipes(db, executor=lambda: make_executor("process")).try_budgets(BUDGETS, speakers=3, generation="v4")
    assert [e.agreement for e in there.budgets] == pytest.approx([e.agreement for e in here.budgets])
    assert there.speakers == here.speakers == 3
