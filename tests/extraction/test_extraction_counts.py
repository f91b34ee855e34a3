"""What is done is counted exactly, and two generations share one decode without changing what either gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb import media
from speakerdb.cli.show import work_text
from speakerdb.errors import MediaMissing, ModelUnavailable
from speakerdb.extraction import Extracted, Task, extract
from speakerdb.extraction.extract import Loader, Together, extract_together
from speakerdb.extraction.shelf import Shelf
from speakerdb.metrics import Metrics
from speakerdb.models.registry import LoadedModel
from speakerdb.reports import WorkEvent, as_json
from speakerdb.reports.work import COUNTED, Work
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_settings
from speakerdb.types import Embedding, Generation, Unembeddable
from tests.synthetic_voices import MadeUp, make_recording

# Each turn is one segment; the last one is too short for any.
PARTS = [("A", 1, 4.0), ("B", 2, 5.0), ("A", 1, 3.5), ("B", 2, 4.5), ("C", 3, 0.75)]
SEGMENTS, SECONDS = 4, 17.0


@pytest.fixture
def made(tmp_path: Path) -> MadeUp:
    return make_recording(tmp_path, "talk", PARTS)


@pytest.fixture
def db(tmp_path: Path, made: MadeUp) -> Iterator[SpeakerDB]:
    with SpeakerDB.open(fake_settings(tmp_path / "data", dimensions={"v3": 64, "v4": 48})) as opened:
        opened.add(made.path, made.turns, recording_id="talk")
        yield opened


@pytest.fixture(autouse=True)
def empty_shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Nothing is loaded yet, whatever ran before in this process."""
    shelf = Shelf()
    monkeypatch.setattr("speakerdb.extraction.state.shelf", shelf)
    return shelf


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many spans were asked for, each time a file was opened for its spans."""
    asked: list[int] = []
    real = media.decode_spans

    def counted(path: Path, spans: Any, sample_rate: int = 16000) -> Any:
        asked.append(len(spans))
        return real(path, spans, sample_rate)

    monkeypatch.setattr(media, "decode_spans", counted)
    return asked


def task(db: SpeakerDB, made: MadeUp, name: str, **changes: Any) -> Task:
    generation = replace(db.generations[name], **changes)
    return Task("talk", 1, generation, made.turns, 17.75, str(made.path), None, (), Loader())


def test_the_counts_of_a_known_recording(db: SpeakerDB) -> None:
    told: list[WorkEvent] = []
    metrics = Metrics(db)
    report = db.worker.run(on_event=told.append, on_step=metrics.worked)
    work = report.work
    assert (work.forwards, work.embedded_seconds, work.decoded_seconds, work.loads) == (SEGMENTS, SECONDS, SECONDS, 1)
    assert report.speech_seconds == SECONDS
    assert 0 < work.network_time < work.total_time
    assert 0 < work.decode_time < work.total_time
    assert 0 < work.load_time < work.total_time
    assert work.network_share == work.network_time / work.total_time
    assert told[-1].work == work
    shown = as_json(report)["work"]
    assert (shown["forwards"], shown["network_share"]) == (SEGMENTS, work.network_share)
    progress = db.progress()
    assert (progress.segments_embedded, progress.speech_seconds_embedded) == (SEGMENTS, SECONDS)
    text = metrics.render().decode()
    for name, value in {
        "forwards": SEGMENTS, "embedded_seconds": SECONDS, "decoded_seconds": SECONDS, "model_loads": 1
    }.items():  # fmt: skip
        assert f"\nspeakerdb_{name}_total {float(value)}\n" in text
    assert f'speakerdb_extraction_seconds_total{{part="network"}} {work.network_time}' in text


def test_a_warm_worker_loads_nothing_again(db: SpeakerDB, made: MadeUp) -> None:
    first, second = (extract(task(db, made, "v3")).work for _ in range(2))
    assert (first.loads, second.loads, second.load_time) == (1, 0, 0.0)
    assert first.forwards == second.forwards == SEGMENTS


def test_both_generations_come_from_one_decode_and_are_what_each_would_be(
    db: SpeakerDB, made: MadeUp, decodes: list[int]
) -> None:
    apart = [extract(task(db, made, name)) for name in ("v3", "v4")]
    assert decodes == [SEGMENTS, SEGMENTS]
    together = extract_together(Together((task(db, made, "v3"), task(db, made, "v4"))))
    assert decodes[2:] == [SEGMENTS]
    for one, both in zip(apart, together, strict=True):
        assert isinstance(both, Extracted)
        assert both.results.keys() == one.results.keys()
        for speaker, found in one.results.items():
            same = both.results[speaker]
            if isinstance(found, Embedding):
                assert isinstance(same, Embedding)
                assert np.array_equal(found.vector, same.vector)
            else:
                assert isinstance(same, Unembeddable)
        assert both.work.forwards == SEGMENTS
    works = [both.work for both in together if isinstance(both, Extracted)]
    assert sum(work.decoded_seconds for work in works) == SECONDS


def test_a_library_with_both_live_reads_a_recording_once(db: SpeakerDB, made: MadeUp, decodes: list[int]) -> None:
    db.work()
    db.start_migration("v4")
    db.work()
    assert decodes == [SEGMENTS, SEGMENTS], "the second generation came later"
    db.add(made.path, made.turns[:3], recording_id="talk")
    report = db.work()
    assert decodes[2:] == [3]
    assert (report.recordings_done, report.work.forwards, report.work.decoded_seconds) == (2, 6, 12.5)


def test_recipes_that_choose_other_speech_have_a_decode_each(db: SpeakerDB, made: MadeUp, decodes: list[int]) -> None:
    recipe = replace(db.generations["v4"].recipe, budget_seconds=6.0)
    together = extract_together(Together((task(db, made, "v3"), task(db, made, "v4", recipe=recipe))))
    alone = extract(task(db, made, "v4", recipe=recipe))
    assert all(isinstance(found, Extracted) for found in together)
    assert decodes[0] == SEGMENTS
    assert len(decodes) == 3
    a, b = together[1], alone
    assert isinstance(a, Extracted)
    assert a.work.decoded_seconds == b.work.decoded_seconds < SECONDS


@dataclass(frozen=True)
class Without:
    """A model that cannot be loaded, of one generation."""

    generation: str
    fails: type[Exception] = ModelUnavailable

    def __call__(self, generation: Generation) -> LoadedModel:
        if generation.name == self.generation:
            raise self.fails("no such model")
        return Loader()(generation)


@pytest.mark.parametrize("fails", [ModelUnavailable, ZeroDivisionError])
def test_what_is_wrong_with_one_generations_model_is_that_ones(
    db: SpeakerDB, made: MadeUp, fails: type[Exception]
) -> None:
    given = [replace_load(task(db, made, name), Without("v3", fails)) for name in ("v3", "v4")]
    wrong, right = extract_together(Together(tuple(given)))
    assert "no such model" in str(wrong)
    assert isinstance(right, Extracted)
    with pytest.raises(fails):
        extract(given[0])


def test_a_missing_file_costs_no_loading(db: SpeakerDB, made: MadeUp, empty_shelf: Shelf) -> None:
    made.path.unlink()
    found = extract_together(Together((task(db, made, "v3"), task(db, made, "v4"))))
    assert [type(one) for one in found] == [MediaMissing, MediaMissing]
    assert empty_shelf.take_loads() == []


def test_models_that_do_not_fit_are_said_so_and_one_generation_is_done(
    db: SpeakerDB, made: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Shelf(free=lambda _: 1)
    monkeypatch.setattr("speakerdb.extraction.shelf.memory.needed_bytes", lambda *_: 2)
    monkeypatch.setattr("speakerdb.extraction.state.shelf", small)
    postponed, done = extract_together(Together((task(db, made, "v3"), task(db, made, "v4"))))
    assert postponed is None
    assert isinstance(done, Extracted)
    assert done.crowded
    assert extract(task(db, made, "v4")).crowded is False
    assert extract(task(db, made, "v3")).crowded is True


def replace_load(given: Task, load: Callable[[Generation], LoadedModel]) -> Task:
    return replace(given, load=load)


def test_what_a_person_reads_of_it() -> None:
    work = Work(
        forwards=1204, embedded_seconds=3600.0, decoded_seconds=3720.0, decode_time=4.0, network_time=44.0, load_time=2.5,
        total_time=50.0, loads=1,
    )  # fmt: skip
    assert work_text(work) == (
        "1,204 segments through the network, 1:00:00 of speech (1:02:00 decoded); workers were busy for 50.0 s, network 88 %,"
        " decoding 8 %, 1 model loaded in 2.5 s."
    )
    assert work + Work(total_time=50.0) == replace_work(work, total_time=100.0)
    assert (work + Work(total_time=50.0)).network_share == 0.44
    assert Work().network_share == 0.0


def replace_work(work: Work, **changes: float) -> Work:
    return Work(**{name: changes.get(name, getattr(work, name)) for name in COUNTED})
