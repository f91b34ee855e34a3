"""The page about the recipe shows what the results file holds; the benchmark behind it runs, at toy size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from synthetic_voices import rttm_text, voice, write_wav

from benchmarks import agreement, recipe_page
from benchmarks.agreement import Sizes
from benchmarks.voices import RATE, Sound, Take
from speakerdb.extraction import Loader
from speakerdb.generations import V4
from speakerdb.models.registry import LoadedModel
from speakerdb.types import Generation, ModelSpec, Recipe, Span, Turn

TOY = Sizes(budgets=(2.0, 6.0), deals=2, orders=2, lengths=(1.0, 2.0), padded=2)


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(recipe_page.RESULTS.read_text(encoding="utf-8"))
    return found


# The page


def test_the_tables_of_the_page_are_those_of_the_results(kept: dict[str, Any]) -> None:
    page = recipe_page.PAGE.read_text(encoding="utf-8")
    assert recipe_page.written(page, kept) == page, "run `python -m benchmarks.recipe_page`"
    shown = [place[2] for place in recipe_page._PLACE.finditer(page)]
    assert sorted(shown) == sorted(recipe_page.tables(kept)), "every table has its place, once"


def test_a_table_that_was_edited_by_hand_is_found(kept: dict[str, Any]) -> None:
    page = recipe_page.PAGE.read_text(encoding="utf-8")
    number = f"{kept['agreement'][-1]['median']:.3f}"
    assert recipe_page.written(page.replace(number, "0.999"), kept) == page


def test_the_picture_is_that_of_the_results(
    kept: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(path: Path) -> list[str]:
        return [text.strip() for text in ElementTree.parse(path).getroot().itertext() if text.strip()]  # noqa: S314

    recipe_page.draw_trial(recipe_page.as_trial(kept), tmp_path / "recipe.svg")
    assert words(recipe_page.PICTURE) == words(tmp_path / "recipe.svg"), "run `python -m benchmarks.recipe_page`"


def test_what_the_page_claims_in_words_holds(kept: dict[str, Any]) -> None:
    chosen = next(row for row in kept["agreement"] if row["budget"] == Recipe().budget_seconds)
    assert chosen["median"] >= 0.98
    errors = {row["budget"]: row["eer"] for row in kept["separation"]}
    assert errors[Recipe().budget_seconds] <= errors[None] + 0.005
    assert "stand-in" in kept["model"]
    text = json.dumps(kept)
    assert str(Path.home()) not in text
    assert "/" not in text.replace("s/s", ""), "no path of the machine it was measured on"


# The benchmark


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three made-up readers with four utterances each, and one meeting, as `benchmarks.voices` wants them."""
    for number in range(3):
        folder = tmp_path / "librispeech" / "test-other" / f"reader{number}"
        folder.mkdir(parents=True)
        for take in range(4):
            write_wav(folder / f"reader{number}-{take}.flac", voice(number, 3.0 + take, take=take))
    (tmp_path / "ami").mkdir()
    write_wav(tmp_path / "ami" / "meeting.flac", voice(4, 12.0))
    (tmp_path / "ami" / "meeting.rttm").write_text(rttm_text("meeting", [Turn(0.0, 12.0, "A"), Turn(0.5, 1.0, "B")]))
    return tmp_path


def test_it_measures_everything_that_the_page_shows(
    corpus: Path, kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: Generation) -> LoadedModel:
        return Loader("cpu")(replace(V4, model=ModelSpec("spectral", "spectral-b", 48)))

    monkeypatch.setattr(agreement, "Loader", lambda *_, **__: load)
    found = agreement.measure(corpus, TOY)
    assert set(found) == set(kept)
    for name in ("agreement", "separation", "knobs", "lengths", "meetings"):
        assert {key for row in found[name] for key in row} == {key for row in kept[name] for key in row}, name
    assert (found["readers"], found["seconds"]) == (3, [18.0, 18.0, 18.0])
    assert [row["budget"] for row in found["separation"]] == [2.0, 6.0, None]
    assert found["separation"][0]["pairs"] == [6, 24]
    assert all(row["eer"] == 0.0 for row in found["separation"]), "made-up voices are easily told apart"
    assert found["agreement"][1]["median"] > 0.99
    assert set(recipe_page.tables(found)) == set(recipe_page.tables(kept))


def test_a_segment_of_a_recording_is_the_part_of_the_utterance_that_it_is_cut_from() -> None:
    class Mean:
        """What passes the network, by its mean."""

        def __call__(self, sound: Sound, span: Span) -> np.ndarray:
            part = sound.samples[round(span.start * RATE) : round(span.end * RATE)]
            return np.array([part.mean(), 1.0], dtype=np.float32)

    sounds = [Sound(str(n), np.full(round((3 + n) * RATE), n, dtype=np.float32)) for n in range(3)]
    take = Take(sounds)
    assert take.turns == (Turn(0.0, 3.0, "A"), Turn(3.0, 7.0, "A"), Turn(7.0, 12.0, "A"))
    assert take.seconds == 12.0
    found = take.embedding(Mean(), [Span(7.5, 11.0)])  # type: ignore[arg-type]
    assert found.vector == pytest.approx(np.array([2.0, 1.0]) / np.sqrt(5.0))
    assert found.seconds == 3.5


def test_other_ways_to_choose_keep_the_budget() -> None:
    take = Take(
        [Sound(str(n), np.zeros(round(seconds * RATE), np.float32)) for n, seconds in enumerate((9, 3, 7, 2, 8, 4))]
    )
    first = agreement._first(take, 10.0)
    assert sum(span.seconds for span in first) == pytest.approx(10.0)
    assert first[-1].end <= 12.0
    pieces = agreement._pieces_of_longest(take, 12.0)
    assert (pieces[0].start, pieces[-1].start, sum(span.seconds for span in pieces)) == (0.0, 21.0, pytest.approx(12.0))
    longest = agreement._longest(take, 12.0)
    assert longest == [Span(0.0, 9.0), Span(21.0, 24.0)]
    assert sum(span.seconds for span in agreement._longest(take, None)) == 9 + 8 + 7 + 4 + 3
