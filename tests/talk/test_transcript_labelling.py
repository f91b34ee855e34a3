"""Words and segments meet the turns: nothing lost, nothing twice, order and times kept, and the speaker is the oracle's."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.transcript import Segment, Transcript, Word, label
from speakerdb.types import Turn

TICK = 0.125  # so that sums of times are exact


def _exclusive(edges: list[int], speakers: list[str | None]) -> list[Turn]:
    """Turns that do not overlap: between two edges somebody talks, or nobody."""
    return [
        Turn(a * TICK, b * TICK, who)
        for (a, b), who in zip(pairwise(sorted(set(edges))), speakers, strict=False)
        if who is not None
    ]


turns = st.builds(
    _exclusive,
    st.lists(st.integers(0, 200), min_size=2, max_size=30),
    st.lists(st.sampled_from(["A", "B", "C", None]), min_size=30, max_size=30),
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    at, segments = 0, []
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.integers(0, 8))
        start, words = at, []
        for _ in range(draw(st.integers(0, 8))):
            text = draw(st.sampled_from([" one", "two", " three.", "è", "4"]))
            if draw(st.booleans()):
                first = at + draw(st.integers(0, 4))
                at = first + draw(st.integers(0, 6))
                words.append(Word(text, first * TICK, at * TICK))
            else:
                words.append(Word(text))
        at += draw(st.integers(0, 3))
        text = "".join(word.text for word in words) if draw(st.booleans()) else " said ".join(w.text for w in words)
        segments.append(Segment(start * TICK, at * TICK, text.strip() or "hm", tuple(words)))
    return Transcript(tuple(segments))


def _by_ticks(start: float, end: float, turns: list[Turn]) -> str | None:
    """The oracle: counts quarter ticks, one by one."""
    counts: dict[str, int] = {}
    at = start + TICK / 8
    while at < end:
        for turn in turns:
            if turn.start <= at < turn.end:
                counts[turn.speaker] = counts.get(turn.speaker, 0) + 1
        at += TICK / 4
    if start == end:
        return next((turn.speaker for turn in turns if turn.start <= start < turn.end), None)
    most = max(counts.values(), default=0)
    first = {turn.speaker: turn.start for turn in reversed(turns) if turn.end > start and turn.start < end}
    return min((who for who, count in counts.items() if count == most), key=lambda who: first[who], default=None)


@given(transcripts(), turns)
def test_each_word_is_there_once_with_its_time_and_the_speaker_of_most_of_it(
    transcript: Transcript, turns: list[Turn]
) -> None:
    found = label(transcript, turns)
    said = [word for piece in found.pieces for word in piece.words]
    assert [(w.text, w.start, w.end) for w in said] == [(w.text, w.start, w.end) for w in transcript.words()]
    for word in said:
        if word.start is not None and word.end is not None:
            assert word.speaker == _by_ticks(word.start, word.end, turns)


@given(transcripts(), turns)
def test_segments_are_split_where_the_speaker_changes_and_nowhere_else(
    transcript: Transcript, turns: list[Turn]
) -> None:
    found = label(transcript, turns)
    numbers = [piece.segment for piece in found.pieces]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(len(transcript.segments)))
    for before, after in pairwise(found.pieces):
        if before.segment == after.segment:
            assert before.speaker != after.speaker
            assert None not in (before.speaker, after.speaker)
    for piece in found.pieces:
        assert {word.speaker for word in piece.words} <= {piece.speaker, None}
    for number, segment in enumerate(transcript.segments):
        pieces = [piece for piece in found.pieces if piece.segment == number]
        assert (pieces[0].start, pieces[-1].end) == (segment.start, segment.end)
        written = "".join("".join(piece.text.split()) for piece in pieces)
        wanted = "".join(word.text for word in segment.words)
        assert written in ("".join(segment.text.split()), "".join(wanted.split()))


@given(transcripts(), turns)
def test_what_lies_in_no_turn_is_counted_and_not_guessed(transcript: Transcript, turns: list[Turn]) -> None:
    found = label(transcript, turns)
    words = sum(word.speaker is None for piece in found.pieces for word in piece.words)
    assert found.outside == words + sum(not piece.words and piece.speaker is None for piece in found.pieces)
    assert label(transcript, []).speakers == ()


def test_a_word_without_a_place_takes_the_speaker_around_it_only_where_both_sides_agree() -> None:
    turns = [Turn(0, 1, "A"), Turn(1, 2, "B")]
    one = Segment(0, 1, "in 1984 we", (Word("in", 0, 0.3), Word("1984"), Word("we", 0.6, 0.9)))
    both = Segment(0, 2, "in 1984 we", (Word("in", 0, 0.3), Word("1984"), Word("we", 1.6, 1.9)))
    last = Segment(0, 1, "in 1984", (Word("in", 0, 0.3), Word("1984")))
    assert [w.speaker for w in label(Transcript((one,)), turns).pieces[0].words] == ["A", "A", "A"]
    split = label(Transcript((both,)), turns)
    assert [(piece.speaker, piece.text) for piece in split.pieces] == [("A", "in 1984"), ("B", "we")]
    assert split.outside == label(Transcript((last,)), turns).outside == 1


def test_a_segment_without_words_is_not_split_and_says_who_else_talks() -> None:
    turns = [Turn(0, 3, "A"), Turn(3, 4, "B")]
    (piece,) = label(Transcript((Segment(1, 4, "Yes. No."),)), turns).pieces
    assert (piece.speaker, piece.shares) == ("A", (("A", 2.0), ("B", 1.0)))
    (piece,) = label(Transcript((Segment(5, 6, "Who?"),)), turns).pieces
    assert (piece.speaker, piece.shares) == (None, ())


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.sampled_from("ABCD")), min_size=70, max_size=150),
    st.data(),
)
def test_a_stretch_of_many_turns_is_summed_up_exactly(steps: list[tuple[int, int, str]], data: st.DataObject) -> None:
    at, turns = 0, []
    for silence, length, who in steps:
        turns.append(Turn((at + silence) * TICK, (at + silence + length) * TICK, who))
        at += silence + length
    start = data.draw(st.integers(0, at // 4)) * TICK
    end = data.draw(st.integers(3 * at // 4, at + 8)) * TICK
    (piece,) = label(Transcript((Segment(start, end, "all of it"),)), turns).pieces
    expected: dict[str, float] = {}
    for turn in turns:
        shared = min(turn.end, end) - max(turn.start, start)
        if shared > 0:
            expected[turn.speaker] = expected.get(turn.speaker, 0.0) + shared
    assert piece.shares == tuple(sorted(expected.items(), key=lambda each: -each[1]))


def test_words_that_span_a_whole_recording_do_not_hang() -> None:
    """Work that grew with words times turns took more than this suite's limit."""
    turns = [Turn(n / 4, (n + 1) / 4, f"S{n % 5}") for n in range(100_000)]
    segments = tuple(
        Segment(0.0, 25_000.0, "a b", (Word("a", 0.0, 25_000.0), Word("b", 0.0, 24_000.0))) for _ in range(5_000)
    )
    found = label(Transcript(segments), turns)
    assert {piece.speaker for piece in found.pieces} == {"S0"}
    assert {sum(seconds for _, seconds in piece.shares) for piece in found.pieces} == {25_000.0}
