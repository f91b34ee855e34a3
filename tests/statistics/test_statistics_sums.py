"""Sums of talk against sums made by hand, on both databases; what is out of date is in none of them."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from speakerdb.catalog import library, people, talk
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.schema import recordings, voice_measures
from speakerdb.core.measures import Heard
from speakerdb.core.transcript import Segment, Transcript, Word
from speakerdb.errors import InvalidInput, NotFound
from speakerdb.statistics import Statistics
from speakerdb.types import Turn
from tests.catalog.conftest import add, embed

FRAME = 0.5


@pytest.fixture
def statistics(catalog: Catalog) -> Statistics:
    return Statistics(catalog, lambda: "v3")


def some_turns(rng: random.Random) -> tuple[Turn, ...]:
    """Turns of two or three speakers, on a grid."""
    found = []
    for who in "ABC"[: rng.randint(2, 3)]:
        for _ in range(rng.randint(1, 5)):
            start, length = rng.randint(0, 60), rng.randint(1, 16)
            found.append(Turn(start * FRAME, (start + length) * FRAME, who))
    return tuple(sorted(found, key=lambda turn: (turn.start, turn.end, turn.speaker)))


def by_id(turns: tuple[Turn, ...], ids: dict[str, str]) -> tuple[Turn, ...]:
    return tuple(Turn(turn.start, turn.end, ids[turn.speaker]) for turn in turns)


def measure(catalog: Catalog, name: str, turns: tuple[Turn, ...], heard: dict[str, Heard] | None = None) -> None:
    with catalog.change() as tx:
        talk.write(tx, name, 1, turns, heard=heard, now=catalog.now())


def profile(catalog: Catalog, name: str, *speakers: str) -> str:
    with catalog.change() as tx:
        made = people.insert(tx, library.library_id(tx, "default"), name, catalog.now())
        for each in speakers:
            library.set_speaker(tx, each, profile_id=made)
    return made


def frames(turns: tuple[Turn, ...]) -> list[set[str]]:
    return [{t.speaker for t in turns if t.start <= n * FRAME < t.end} for n in range(200)]


@pytest.mark.parametrize("seed", range(3))
def test_a_profile_and_a_library_are_the_sums_of_their_recordings(
    catalog: Catalog, statistics: Statistics, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311  a test's choices
    everybody = 0.0
    own: dict[str, list[tuple[float, float, Heard]]] = defaultdict(list)
    """Seconds, overlapped seconds and sound of each of a person's voices."""
    around: dict[str, float] = defaultdict(float)
    members: dict[str, list[str]] = {"Ann": [], "Bob": []}
    overlapped = spoken = 0.0
    for number in range(8):
        turns = some_turns(rng)
        ids = add(catalog, f"show{number}", turns)
        heard = {ids[label]: Heard(rng.uniform(-40, -10), rng.choice([None, rng.uniform(80, 250)])) for label in ids}
        seen = frames(turns)
        if number:  # the first one stays unmeasured
            measure(catalog, f"show{number}", by_id(turns, ids), heard)
            spoken += FRAME * sum(bool(who) for who in seen)
            overlapped += FRAME * sum(len(who) > 1 for who in seen)
        for label, name in (("A", "Ann"), ("B", "Bob")):
            if rng.random() < 0.8 or not number:
                members[name].append(ids[label])
                if number:
                    mine = [who for who in seen if label in who]
                    own[name].append((FRAME * len(mine), FRAME * sum(len(who) > 1 for who in mine), heard[ids[label]]))
                    around[name] += FRAME * sum(map(len, seen))
        if number:
            everybody += FRAME * sum(map(len, seen))
    profiles = {name: profile(catalog, name, *voices) for name, voices in members.items()}
    of_library = statistics.library("default")
    assert (of_library.recordings, of_library.unmeasured) == (8, 1)
    assert of_library.talk is not None
    assert of_library.talk.seconds == pytest.approx(everybody)
    assert of_library.spoken_seconds == pytest.approx(spoken)
    assert of_library.overlap_seconds == pytest.approx(overlapped)
    assert sum(each.recordings for each in of_library.overlap_shares) == 7
    assert of_library.talk.interruptions_given == of_library.talk.interruptions_received
    table = {each.name: each for each in of_library.people}
    sums = sorted((sum(seconds for seconds, _, _ in voices) for voices in own.values()), reverse=True)
    assert [each.talk.seconds for each in of_library.people] == sums
    for name, voices in own.items():
        found = statistics.profile(profiles[name])
        assert (found.recordings, found.unmeasured, found.speakers) == (len(voices) + 1, 1, len(voices) + 1)
        assert found.talk is not None
        seconds = sum(each[0] for each in voices)
        assert found.talk.seconds == pytest.approx(seconds)
        assert found.talk.share == pytest.approx(seconds / around[name])
        assert table[name].talk.share == pytest.approx(seconds / everybody)
        assert table[name].recordings == len(voices)
        assert found.talk.overlap_share == pytest.approx(sum(each[1] for each in voices) / seconds)
        levels = sum(s * heard.level for s, _, heard in voices if heard.level is not None)
        assert found.talk.level == pytest.approx(levels / seconds)
        pitched = [(s, heard.pitch) for s, _, heard in voices if heard.pitch is not None]
        wanted = sum(s * p for s, p in pitched) / sum(s for s, _ in pitched) if pitched else None
        assert found.talk.pitch == (None if wanted is None else pytest.approx(wanted))
        assert found.talk.mean_turn_seconds == pytest.approx(seconds / found.talk.turns)
    limited = statistics.library("default", rows=1)
    assert limited.people == of_library.people[:1]
    assert limited.people_total == 2


TURNS = (Turn(0.0, 10.0, "A"), Turn(8.0, 12.0, "B"), Turn(20.0, 21.0, "A"), Turn(20.5, 22.0, "B"))


def test_a_speaker_before_and_after_it_is_measured(catalog: Catalog, statistics: Statistics) -> None:
    ids = add(catalog, "show", TURNS)
    before = statistics.speaker(ids["B"])
    assert not before.stored
    assert (before.talk.level, before.talk.pitch) == (None, None)
    measure(catalog, "show", by_id(TURNS, ids), {ids["B"]: Heard(-20.0, 200.0, 180.0, 230.0)})
    after = statistics.speaker(ids["B"][:12])
    assert after.stored
    assert (after.talk.level, after.talk.pitch, after.talk.pitch_low, after.talk.pitch_high) == (-20, 200, 180, 230)
    for each in (before.talk, after.talk):
        assert (each.seconds, each.turns, each.mean_turn_seconds, each.longest_turn_seconds) == (5.5, 2, 2.75, 4.0)
        assert each.share == pytest.approx(5.5 / 16.5)
        assert (each.interruptions_given, each.interruptions_received) == (1, 0), "the second one began within a second"
        assert (each.overlap_seconds, each.overlap_share) == (2.5, pytest.approx(2.5 / 5.5))
        assert each.words is each.words_a_minute is None


def test_words_a_minute_are_of_recordings_with_a_transcript(catalog: Catalog, statistics: Statistics) -> None:
    from speakerdb.catalog import transcripts

    said = tuple(Word(f"w{n}", n * 0.5, n * 0.5 + 0.4) for n in range(16))
    told = transcripts.pack(Transcript((Segment(0.0, 8.0, "…", said),)))
    ids = [add(catalog, name, TURNS) for name in ("told", "untold")]
    with catalog.change() as tx:
        transcripts.write(tx, "told", told, "me", catalog.now())
    unmeasured = statistics.speaker(ids[0]["A"]).talk
    for name, labels in zip(("told", "untold"), ids, strict=True):
        measure(catalog, name, by_id(TURNS, labels))
    person = profile(catalog, "Ann", *(labels["A"] for labels in ids))
    for found in (unmeasured, statistics.speaker(ids[0]["A"]).talk, statistics.profile(person).talk):
        assert found is not None
        assert found.words == 16
        assert found.words_a_minute == pytest.approx(16 * 60 / 11.0)
    assert statistics.speaker(ids[1]["A"]).talk.words is None
    assert statistics.speaker(ids[0]["B"]).talk.words == 0


def test_what_was_measured_of_another_content_is_in_no_sum(catalog: Catalog, statistics: Statistics) -> None:
    ids = add(catalog, "show", TURNS)
    measure(catalog, "show", by_id(TURNS, ids), {ids["A"]: Heard(-20.0, 120.0)})
    person = profile(catalog, "Ann", ids["A"])
    assert statistics.profile(person).unmeasured == 0
    with catalog.change() as tx:
        tx.execute(sa.update(recordings).values(content_version=2))
    found = statistics.profile(person)
    assert (found.unmeasured, found.talk) == (1, None)
    of_library = statistics.library("default")
    assert (of_library.unmeasured, of_library.talk, of_library.overlaps, of_library.people) == (1, None, 0, ())
    assert not statistics.speaker(ids["A"]).stored
    assert not statistics.overlaps(recording="show").stored
    with catalog.read() as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(voice_measures)) == 2, "they are there, and not shown"


def test_what_is_not_there_is_not_found(catalog: Catalog, statistics: Statistics) -> None:
    for ask in (statistics.speaker, statistics.profile, statistics.library):
        with pytest.raises(NotFound):
            ask("nobody")
    for given in ({}, {"recording": "a", "speaker": "b"}):
        with pytest.raises(InvalidInput):
            statistics.overlaps(**given)
    with pytest.raises(NotFound):
        statistics.overlaps(recording="nothing")
    add(catalog, "show", TURNS)
    with pytest.raises(InvalidInput):
        statistics.overlaps(recording="show", least_seconds=float("nan"))
    empty = profile(catalog, "Nobody")
    assert statistics.profile(empty).talk is None


def test_overlaps_are_the_same_stored_or_made_at_once(catalog: Catalog, statistics: Statistics) -> None:
    ids = add(catalog, "show", TURNS)
    made = statistics.overlaps(recording="show")
    assert not made.stored
    measure(catalog, "show", by_id(TURNS, ids))
    stored = statistics.overlaps(recording="show")
    assert stored.stored
    assert stored.overlaps == made.overlaps
    assert (stored.total, stored.total_seconds) == (made.total, made.total_seconds) == (2, 2.5)
    first = stored.overlaps[0]
    assert (first.start, first.end, first.primary.label, [each.label for each in first.secondary]) == (
        8,
        10,
        "A",
        ["B"],
    )


@pytest.mark.parametrize("stored", [True, False])
def test_overlaps_by_speaker_length_and_place(catalog: Catalog, statistics: Statistics, stored: bool) -> None:
    turns = (*TURNS, Turn(9.0, 9.5, "C"), Turn(30.0, 34.0, "C"), Turn(31.0, 32.0, "A"))
    ids = add(catalog, "show", turns)
    if stored:
        measure(catalog, "show", by_id(turns, ids))
    person = profile(catalog, "Ann", ids["A"])
    every = statistics.overlaps(recording="show")
    assert [(o.start, o.end) for o in every.overlaps] == [(8, 9), (9, 9.5), (9.5, 10), (20.5, 21), (31, 32)]
    assert every.overlaps[1].primary.profile_name == "Ann"
    assert {o.primary.profile_id for o in every.overlaps if o.primary.label == "A"} == {person}
    mine = statistics.overlaps(speaker=ids["C"])
    assert [o.number for o in mine.overlaps] == [1, 4]
    assert (mine.total, mine.speaker_id) == (2, ids["C"])
    long = statistics.overlaps(recording="show", least_seconds=1.0)
    assert [o.number for o in long.overlaps] == [0, 4]
    assert long.total_seconds == 2.0
    paged = [statistics.overlaps(recording="show", after=at, limit=2).overlaps for at in (-1, 1, 3)]
    assert tuple(o for page in paged for o in page) == every.overlaps


# Over time


def _date(catalog: Catalog, name: str, at: datetime | None) -> None:
    with catalog.change() as tx:
        instant = None if at is None else (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        tx.execute(sa.update(recordings).where(recordings.c.id == name).values(recorded_at=instant))


def test_months_are_of_when_it_was_recorded_before_1970_too(catalog: Catalog, statistics: Statistics) -> None:
    dates = [
        datetime(1969, 12, 31, 23, 59, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), datetime(1958, 2, 3, tzinfo=UTC),
        datetime(2024, 2, 29, 12, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), None,
    ]  # fmt: skip
    voices = []
    for number, at in enumerate(dates):
        voices.append(add(catalog, f"show{number}", TURNS)["A"])
        _date(catalog, f"show{number}", at)
    found = statistics.profile(profile(catalog, "Ann", *voices))
    added = f"{datetime.fromtimestamp(catalog.now() / 1e6, UTC):%Y-%m}"
    expected = {"1958-02": (1, 1), "1969-12": (1, 1), "1970-01": (1, 1), "2024-02": (2, 2)}
    expected[added] = (expected.get(added, (0, 0))[0] + 1, expected.get(added, (0, 0))[1])
    assert {m.month: (m.recordings, m.dated) for m in found.months} == expected
    assert [m.month for m in found.months] == sorted(expected)
    assert sum(m.speech_seconds for m in found.months) == 6 * 11.0


def test_instants_at_the_end_of_what_a_database_counts(catalog: Catalog, statistics: Statistics) -> None:
    voices = [add(catalog, name, TURNS)["A"] for name in ("old", "new")]
    with catalog.change() as tx:
        for name, at in (("old", -(2**63)), ("new", 2**63 - 1)):
            tx.execute(sa.update(recordings).where(recordings.c.id == name).values(recorded_at=at))
    found = statistics.profile(profile(catalog, "Ann", *voices))
    assert [m.recordings for m in found.months] == [1, 1]


def test_a_voice_is_compared_with_its_first_appearance(catalog: Catalog, statistics: Statistics) -> None:
    texts = ["young", "young", "old", "older"]
    years = [2001, 2001, 2011, 2021]
    voices = []
    for number in (3, 1, 0, 2):  # added in another order than recorded
        ids = add(catalog, f"show{number}", TURNS)
        embed(catalog, ids["A"], text=texts[number])
        _date(catalog, f"show{number}", datetime(years[number], 5, 1 + number, tzinfo=UTC))
        voices.append(ids["A"])
    unembedded = add(catalog, "show4", TURNS)["A"]
    person = profile(catalog, "Ann", *voices, unembedded)
    change = statistics.profile(person, rows=3).change
    assert change is not None
    assert (change.generation, change.voices, change.first.recording_id) == ("v3", 4, "show0")
    assert change.first.similarity == pytest.approx(1.0)
    assert [each.recording_id for each in change.appearances] == ["show0", "show1", "show2"]
    assert change.appearances[1].similarity == pytest.approx(1.0)
    assert [(each.year, each.voices) for each in change.years] == [(2001, 2), (2011, 1), (2021, 1)]
    assert change.years[1].mean_similarity == pytest.approx(change.appearances[2].similarity)
    assert change.appearances[2].similarity < 0.9
    with catalog.change() as tx:
        tx.execute(sa.update(recordings).where(recordings.c.id == "show0").values(content_version=2))
    later = statistics.profile(person).change
    assert later is not None
    assert later.first.recording_id == "show1", "a vector of another content is none"
    assert statistics.profile(profile(catalog, "Bob", add(catalog, "last", TURNS)["B"])).change is None
