"""What is said most, by whom: words, phrases, fillers, and how fast. One recording is held at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from speakerdb.catalog import diarizations, library, people, transcripts
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.core.talk import talk
from speakerdb.core.transcript import Labelled, label
from speakerdb.core.transcript.counting import Frequent, phrases, plain, runs
from speakerdb.errors import InvalidInput
from speakerdb.reports.transcripts import WordCount, WordsReport

FILLERS = ("um", "uh", "uhm", "er", "erm", "ah", "eh", "hm", "hmm", "mm", "mhm", "uh-huh")
"""English sounds that carry no word. What may be a word too ("like", "you know") is not in it; who wants it gives a list."""
MOST_FILLERS = 200
LONGEST_PHRASE = 4
MOST_DIFFERENT = 200_000
"""Different words, or phrases, that are held at once: some 30 MB."""
_RECORDINGS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose words are counted: a speaker's, a profile's, a library's (by name), or all where none is given."""

    speaker: str | None = None
    profile: str | None = None
    library: str | None = None


def count(
    catalog: Catalog, whose: Whose, *, top: int, phrase_length: int | None, fillers: Sequence[str] | None
) -> WordsReport:
    """See `Transcripts.words`."""
    if sum(each is not None for each in (whose.speaker, whose.profile, whose.library)) > 1:
        raise InvalidInput("Words are counted of one speaker, one profile, or one library.")
    if phrase_length is not None and not 2 <= phrase_length <= LONGEST_PHRASE:
        raise InvalidInput(f"A phrase has 2 to {LONGEST_PHRASE} words.")
    wanted = _plain_fillers(FILLERS if fillers is None else fillers)
    lengths = sorted({filler.count(" ") + 1 for filler in wanted})
    said, spoken = Frequent(MOST_DIFFERENT), Frequent(MOST_DIFFERENT)
    found = Frequent(MOST_DIFFERENT, wanted)
    number, total, outside, seconds = 0, 0, 0, 0.0
    for recording in _spoken(catalog, whose):
        number += 1
        seconds += recording.seconds
        for speaker, words in recording.runs():
            total += len(words)
            outside += len(words) if speaker is None else 0
            said.take(words)
            for length in lengths:
                found.take(phrases(words, length))
            if phrase_length is not None:
                spoken.take(phrases(words, phrase_length))
    missed = 0
    if said.missed or spoken.missed:
        # Too much for one look. What can be among the most frequent is known by now; it is counted exactly.
        exact_said, exact_spoken = Frequent(0, said.texts()), Frequent(0, spoken.texts())
        for recording in _spoken(catalog, whose):
            for _, words in recording.runs():
                exact_said.take(words)
                if phrase_length is not None:
                    exact_spoken.take(phrases(words, phrase_length))
        missed = max(_missed(exact_said, top, said.missed), _missed(exact_spoken, top, spoken.missed))
        said, spoken = exact_said, exact_spoken
    kind, id, name = _asked(catalog, whose)
    return WordsReport(
        of=kind,
        id=id,
        name=name,
        recordings=number,
        words=total,
        outside=outside,
        seconds=seconds,
        words_per_minute=(total - outside) / (seconds / 60) if seconds else None,
        top=_counts(said, top),
        phrase_length=phrase_length,
        phrases=_counts(spoken, top),
        fillers=_counts(found, len(wanted)),
        fillers_from="default" if fillers is None else "given",
        may_be_missing=missed,
    )


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A recording with a transcript. `of` are the speakers whose words count; None: everybody's, and nobody's."""

    labelled: Labelled
    of: frozenset[str] | None
    seconds: float

    def runs(self) -> Iterator[tuple[str | None, list[str]]]:
        for piece in self.labelled.pieces:
            for speaker, words in runs(piece):
                if self.of is None or speaker in self.of:
                    yield speaker, words


def _spoken(catalog: Catalog, whose: Whose) -> Iterator[_Spoken]:
    """Recordings with a transcript, one after the other; some are read at one point in time."""
    after = ""
    while True:
        with catalog.read() as tx:
            ids = _recordings(tx, whose, after)
            for each in ids:
                yield _spoken_in(tx, each, _speakers(tx, whose, each))
        if not ids:
            return
        after = ids[-1]


def _recordings(tx: Transaction, whose: Whose, after: str) -> list[str]:
    """The next ones with a transcript, behind an id."""
    if whose.speaker is not None:
        only = people.find_speaker(tx, whose.speaker).recording_id
        return [only] if only > after and transcripts.find(tx, only) is not None else []
    return transcripts.recordings_with(
        tx,
        home=None if whose.library is None else library.library_id(tx, whose.library),
        profile=None if whose.profile is None else people.find_profile(tx, whose.profile).id,
        after=after,
        limit=_RECORDINGS_AT_ONCE,
    )


def _speakers(tx: Transaction, whose: Whose, recording_id: str) -> frozenset[str] | None:
    """Who of a recording is meant; None for all."""
    if whose.speaker is not None:
        return frozenset({people.find_speaker(tx, whose.speaker).id})
    if whose.profile is not None:
        profile = people.find_profile(tx, whose.profile).id
        return frozenset(people.speaker_ids(tx, recording=recording_id, profile=profile))
    return None


def _spoken_in(tx: Transaction, recording_id: str, of: frozenset[str] | None) -> _Spoken:
    transcript = transcripts.read(tx, recording_id)
    assert transcript is not None
    _, turns = library.snapshot(tx, [recording_id])[recording_id]
    seconds = sum(each.seconds for each in talk(turns) if of is None or each.speaker in of)
    return _Spoken(label(transcript, diarizations.exclusive_turns(tx, recording_id)), of, seconds)


def _asked(
    catalog: Catalog, whose: Whose
) -> tuple[Literal["all", "library", "profile", "speaker"], str | None, str | None]:
    """What was asked about: its kind, id and name."""
    with catalog.read() as tx:
        if whose.speaker is not None:
            speaker = people.find_speaker(tx, whose.speaker)
            return "speaker", speaker.id, speaker.profile_name or speaker.name or speaker.label
        if whose.profile is not None:
            profile = people.find_profile(tx, whose.profile)
            return "profile", profile.id, profile.name
    return ("all" if whose.library is None else "library"), None, whose.library


def _plain_fillers(given: Sequence[str]) -> tuple[str, ...]:
    made = [" ".join(filter(None, (plain(word) for word in each.split()))) for each in given]
    if not all(made) or len(made) > MOST_FILLERS or any(each.count(" ") >= LONGEST_PHRASE for each in made):
        raise InvalidInput(
            f"Fillers are words, or phrases of up to {LONGEST_PHRASE}; at most {MOST_FILLERS} of them.",
            hint="Separate them by commas: `--fillers um,uh,you know`.",
        )
    return tuple(dict.fromkeys(made))


def _missed(counted: Frequent, top: int, missed: int) -> int:
    """How often something can have been said that is not among the most frequent, and should be; 0 where that cannot be."""
    shown = counted.top(top)
    least = shown[-1][1] if len(shown) == top else 0
    return 0 if missed < least else missed


def _counts(counted: Frequent, number: int) -> tuple[WordCount, ...]:
    return tuple(WordCount(text, count) for text, count in counted.top(number))
