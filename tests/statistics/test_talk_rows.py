"""What is kept of a recording's talk, on both databases."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.catalog import library, talk
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.schema import analyses, overlap_speakers, overlaps, recordings, voice_measures
from speakerdb.core.measures import Heard, level_of, measures, spoken_seconds
from speakerdb.core.overlap import OverlapScores
from speakerdb.types import Turn
from tests.catalog.conftest import add

TURNS = (Turn(0.0, 10.0, "A"), Turn(8.0, 12.0, "B"), Turn(20.0, 21.0, "A"))
SCORES = OverlapScores(0.0, 0.5, [0.9] * 60)
HEARD = {"A": Heard(-40.0, 120.0, 100.0, 140.0), "B": Heard(-10.0, 210.0, 190.0, 230.0)}


def _turns(ids: dict[str, str]) -> tuple[Turn, ...]:
    return tuple(Turn(turn.start, turn.end, ids[turn.speaker]) for turn in TURNS)


def _heard(ids: dict[str, str]) -> dict[str, Heard]:
    return {ids[label]: each for label, each in HEARD.items()}


def _rows(catalog: Catalog, table: sa.Table) -> list[dict[str, object]]:
    with catalog.read() as tx:
        return [dict(row._mapping) for row in tx.execute(sa.select(table).order_by(*table.primary_key))]


def test_overlaps_and_voices_are_kept(catalog: Catalog) -> None:
    ids = add(catalog, "show", TURNS)
    with catalog.change() as tx:
        talk.write(tx, "show", 1, _turns(ids), heard=_heard(ids), now=catalog.now())
    (analysis,) = _rows(catalog, analyses)
    assert (analysis["spoken_seconds"], analysis["overlap_seconds"], analysis["heard"]) == (13.0, 2.0, True)
    (overlap,) = _rows(catalog, overlaps)
    assert (overlap["start"], overlap["end"], overlap["confidence"]) == (8.0, 10.0, 1 - 0.25 / 2)
    assert (overlap["confidence_from"], overlap["ranked_by"]) == ("turns", "energy-and-duration")
    assert [row["speaker_id"] for row in _rows(catalog, overlap_speakers)] == [ids["B"], ids["A"]], "B is much louder"
    voices = {row["speaker_id"]: row for row in _rows(catalog, voice_measures)}
    assert voices[ids["A"]] == {
        "speaker_id": ids["A"], "recording_id": "show", "seconds": 11.0, "overlap_seconds": 2.0, "turns": 2,
        "longest_turn_seconds": 10.0, "interruptions_given": 0, "interruptions_received": 1, "level": -40.0, "pitch": 120.0,
        "pitch_low": 100.0, "pitch_high": 140.0, "words": None,
    }  # fmt: skip


@pytest.mark.parametrize("scores_first", [True, False])
def test_what_the_diarizer_and_the_sound_said_stands_side_by_side(catalog: Catalog, scores_first: bool) -> None:
    ids = add(catalog, "show", TURNS)
    for with_scores in (scores_first, not scores_first):
        with catalog.change() as tx:
            if with_scores:
                talk.write(tx, "show", 1, _turns(ids), scores=SCORES, now=catalog.now())
            else:
                talk.write(tx, "show", 1, _turns(ids), heard=_heard(ids), now=catalog.now())
    (overlap,) = _rows(catalog, overlaps)
    assert (overlap["confidence"], overlap["confidence_from"]) == (pytest.approx(0.9), "scores")
    assert overlap["ranked_by"] == "energy-and-duration"
    assert [row["speaker_id"] for row in _rows(catalog, overlap_speakers)] == [ids["B"], ids["A"]]
    assert {row["pitch"] for row in _rows(catalog, voice_measures)} == {120.0, 210.0}
    (analysis,) = _rows(catalog, analyses)
    assert analysis["heard"] is True


def test_nothing_of_another_content_is_taken_over(catalog: Catalog) -> None:
    ids = add(catalog, "show", TURNS)
    with catalog.change() as tx:
        talk.write(tx, "show", 1, _turns(ids), heard=_heard(ids), scores=SCORES, now=catalog.now())
        tx.execute(sa.update(recordings).values(content_version=2))
        assert talk.unheard(tx, ["show"]) == {"show"}
        talk.write(tx, "show", 2, _turns(ids)[:2], now=catalog.now())
        assert talk.unheard(tx, ["show"]) == {"show"}, "its sound was not listened to"
    (overlap,) = _rows(catalog, overlaps)
    assert (overlap["confidence_from"], overlap["ranked_by"]) == ("turns", "duration")
    assert {row["level"] for row in _rows(catalog, voice_measures)} == {None}
    with catalog.change() as tx:
        talk.write(tx, "show", 2, _turns(ids)[:2], heard={}, now=catalog.now())
        assert talk.unheard(tx, ["show", "other"]) == {"other"}


def test_many_at_once_and_what_is_no_number(catalog: Catalog) -> None:
    ids = {name: add(catalog, name, TURNS) for name in ("one", "two", "three")}
    bad = Heard(float("nan"), float("inf"), None, None)
    with catalog.change() as tx:
        found = [talk.Talked(name, 1, _turns(each), {each["A"]: bad}) for name, each in ids.items()]
        talk.write_all(tx, found, catalog.now())
        talk.write_all(tx, found, catalog.now())
    assert len(_rows(catalog, analyses)) == 3
    assert {(row["level"], row["pitch"]) for row in _rows(catalog, voice_measures)} == {(None, None)}


def test_it_goes_with_its_recording(catalog: Catalog) -> None:
    ids = add(catalog, "show", TURNS)
    with catalog.change() as tx:
        talk.write(tx, "show", 1, _turns(ids), heard=_heard(ids), now=catalog.now())
        library.delete_recording(tx, "show")
    for table in (analyses, overlaps, overlap_speakers, voice_measures):
        assert _rows(catalog, table) == [], table.name


# Arithmetic, against frames

FRAME = 0.25
some_turns = st.lists(
    st.builds(
        lambda start, length, who: Turn(start * FRAME, (start + length) * FRAME, who),
        st.integers(0, 60), st.integers(1, 30), st.sampled_from("ABC"),
    ),
    max_size=14,
)  # fmt: skip


def _frames(turns: Sequence[Turn]) -> list[set[str]]:
    return [{turn.speaker for turn in turns if turn.start <= n * FRAME < turn.end} for n in range(400)]


@given(some_turns)
def test_seconds_of_talk_are_those_of_the_frames(turns: list[Turn]) -> None:
    frames = _frames(turns)
    found = measures(turns)
    assert spoken_seconds(turns) == pytest.approx(FRAME * sum(bool(who) for who in frames))
    assert found.overlap_seconds == pytest.approx(FRAME * sum(len(who) > 1 for who in frames))
    for voice in found.voices:
        mine = [who for who in frames if voice.talk.speaker in who]
        assert voice.talk.seconds == pytest.approx(FRAME * len(mine))
        assert voice.overlap_seconds == pytest.approx(FRAME * sum(len(who) > 1 for who in mine))
    assert {voice.talk.speaker for voice in found.voices} == {turn.speaker for turn in turns}


@given(some_turns, st.floats(0, 1))
def test_confidences_of_before_are_those_of_the_same_stretches_only(turns: list[Turn], sure: float) -> None:
    plain = measures(turns)
    known = {(each.start, each.end): sure for each in plain.overlaps[::2]}
    for number, each in enumerate(measures(turns, sure=known).overlaps):
        from_scores = number % 2 == 0
        assert each.confidence_from == ("scores" if from_scores else "turns")
        assert each.confidence == (sure if from_scores else plain.overlaps[number].confidence)


def test_a_level_is_decibels_below_full_scale() -> None:
    assert level_of(1.0) == 0.0
    assert level_of(0.01) == pytest.approx(-20.0)
    assert level_of(0.0) is level_of(float("nan")) is None
    assert Heard(-20.0).power == pytest.approx(0.01)
    assert Heard().power is None
