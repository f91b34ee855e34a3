"""Transcripts of recordings: whose words they are, kept, shown, removed; and what is said most.

A transcript is kept as it was given. Who says what is found out whenever it is read, from the turns and the names of that
moment: a rename, another profile, a split or new turns show at once. The text is in no event, no log and no message.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from speakerdb.catalog import activity, diarizations, journal, library, people, schema, transcripts
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.core.talk import talk
from speakerdb.core.transcript import Labelled, Transcript, label, parse_transcript, writing
from speakerdb.core.transcript.counting import Frequent, phrases, plain, runs, words_of
from speakerdb.core.transcript.naming import Voice, told_apart
from speakerdb.errors import InvalidInput, InvalidTranscript, NeedsTurns, NotFound
from speakerdb.reports.recordings import Part
from speakerdb.reports.transcripts import (
    Outcome,
    TranscriptRemoved,
    TranscriptReport,
    TranscriptSpeaker,
    TranscriptView,
    WordCount,
    WordsReport,
)
from speakerdb.types import Turn

MAX_TRANSCRIPT_BYTES = 64 * 1024**2
"""Of a file with a transcript: some hundred hours of speech."""
FILLERS = ("um", "uh", "uhm", "er", "erm", "ah", "eh", "hm", "hmm", "mm", "mhm", "uh-huh")
"""English sounds that carry no word. What may be a word too ("like", "you know") is not in it; who wants it gives a list."""
MOST_FILLERS = 200
LONGEST_PHRASE = 4
MOST_DIFFERENT = 200_000
"""Different words, or phrases, that are held at once: some 30 MB."""
_RECORDINGS_AT_ONCE = 20

Form = Literal["json", "srt", "vtt", "text"]
FORMS: tuple[Form, ...] = ("json", "srt", "vtt", "text")
SUFFIX_OF_TYPE = MappingProxyType(
    {"application/json": ".json", "text/vtt": ".vtt", "application/x-subrip": ".srt", "text/srt": ".srt"}
)
"""How a transcript is written, by the media type that it is sent as; anything else is told by its content."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A transcript with its speakers, by the turns and names of the moment. Speakers are ids; `names` says their names."""

    report: TranscriptReport
    transcript: Transcript
    labelled: Labelled
    turns: tuple[Turn, ...]
    names: dict[str, str]

    def written(self, form: Form, *, words: bool = False) -> str:
        """As one of `FORMS`; with `words`, the JSON holds each word's time and speaker too."""
        if form == "json":
            document = writing.two_stage(self.labelled, self.turns, self.names, words=words)
            return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        if form == "srt":
            return writing.srt(self.labelled, self.names)
        if form == "vtt":
            return writing.vtt(self.labelled, self.names)
        return writing.plain_text(self.labelled, self.names)


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose words are counted: a speaker's, a profile's, a library's (by name), or all where none is given."""

    speaker: str | None = None
    profile: str | None = None
    library: str | None = None


class Transcripts:
    """What was said in recordings."""

    def __init__(self, catalog: Catalog, *, who: str) -> None:
        self._catalog = catalog
        self._who = who

    # One transcript

    def label(self, recording: str, text: str, suffix: str = "") -> Shown:
        """A transcript with the speakers of a recording, given by id, the beginning of one, or the path of its file.
        Nothing is kept.

        `suffix` is the ending of the transcript's file. Raises `NotFound`, `NeedsTurns` where nobody knows yet who speaks
        when, and `InvalidTranscript`.
        """
        with self._catalog.read() as tx:
            row = self._row(tx, recording)
            transcript = parse_transcript(text, suffix, duration=row.seconds)
            if not self._has_turns(tx, row):
                raise NeedsTurns(
                    f"The recording {row.id!r} has no turns yet, so nobody can say whose words these are.",
                    hint="Where it waits for diarization, run `speakerdb work` first. Else give its turns:"
                    " `speakerdb add FILE --turns FILE`.",
                )
            return self._shown(tx, row.id, transcript, "not-kept")

    def keep(self, shown: Shown, *, why: str | None = None) -> Shown:
        """Keep a transcript that `label` gave, in the place of the one before. The same again changes nothing."""
        with self._catalog.change() as tx:
            found = self._row(tx, shown.report.recording_id).id
            before = transcripts.find(tx, found)
            outcome: Outcome = "added" if before is None else "changed"
            if before is not None and before.digest == transcripts.digest_of(shown.transcript):
                outcome = "unchanged"
            else:
                now = self._catalog.now()
                row = transcripts.write(tx, found, shown.transcript, self._who, now)
                journal.record(
                    tx, "transcript-kept", self._who, now, entity_id=found, why=why, segments=row.segments,
                    words=row.words, outcome=outcome,
                )  # fmt: skip
        return replace(shown, report=replace(shown.report, outcome=outcome))

    def show(self, recording: str) -> Shown:
        """A recording's transcript, with its speakers as they are now. `NotFound` where it has none."""
        with self._catalog.read() as tx:
            found = self._row(tx, recording).id
            transcript = transcripts.read(tx, found)
            if transcript is None:
                raise _none(found)
            return self._shown(tx, found, transcript, "unchanged")

    def remove(self, recording: str, *, why: str | None = None) -> TranscriptRemoved:
        """Forget what was said in a recording; the recording stays. `NotFound` where it has no transcript."""
        with self._catalog.change() as tx:
            found = self._row(tx, recording).id
            row = transcripts.find(tx, found)
            if row is None:
                raise _none(found)
            transcripts.remove(tx, found)
            journal.record(
                tx, "transcript-removed", self._who, self._catalog.now(), entity_id=found, why=why, words=row.words
            )
            return TranscriptRemoved(found, row.words)

    def page(self, *, library_name: str | None = None, after: str = "", limit: int) -> Part[TranscriptView]:
        """Which recordings have a transcript, a page at a time, in the order of their ids."""
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            rows = transcripts.listed(tx, home=chosen, after=after, limit=limit + 1)
        more, rows = len(rows) > limit, rows[:limit]
        views = tuple(
            TranscriptView(row.recording_id, home, row.language, row.segments, row.words, row.who, row.created_at)
            for row, home in rows
        )
        return Part(views, (views[-1].recording_id,) if more else None)

    def _shown(self, tx: Transaction, recording_id: str, transcript: Transcript, outcome: Outcome) -> Shown:
        labelled = label(transcript, diarizations.exclusive_turns(tx, recording_id))
        _, turns = library.snapshot(tx, [recording_id])[recording_id]
        rows = library.speakers_by_id(tx, library.speaker_ids(tx, recording_id).values())
        names = told_apart(Voice(row.id, row.label, row.profile_name or row.name) for row in rows.values())
        words = words_of(labelled)
        pieces = Counter(piece.speaker for piece in labelled.pieces)
        report = TranscriptReport(
            recording_id=recording_id,
            outcome=outcome,
            language=transcript.language,
            segments=len(transcript.segments),
            skipped=transcript.skipped,
            pieces=len(labelled.pieces),
            words=words.total(),
            outside=words[None],
            speakers=tuple(
                TranscriptSpeaker(row.id, row.label, names[row.id], row.profile_id, pieces[row.id], words[row.id])
                for row in sorted(rows.values(), key=lambda row: row.label)
            ),
        )
        return Shown(report, transcript, labelled, turns, names)

    def _row(self, tx: Transaction, given: str) -> library.RecordingRow:
        row = library.find_recording(tx, recording_of(tx, given))
        assert row is not None
        return row

    @staticmethod
    def _has_turns(tx: Transaction, row: library.RecordingRow) -> bool:
        if activity.recording_counts(tx, row.id)[0]:
            return True
        found = diarizations.find(tx, row.id)  # which may have heard nobody
        return found is not None and found.content_version == row.content_version

    # What is said most

    def words(
        self, whose: Whose, *, top: int = 20, phrase_length: int | None = None, fillers: Sequence[str] | None = None
    ) -> WordsReport:
        """The most frequent words, and phrases of so many words, of a speaker, a profile, a library, or all.

        One recording is held at a time, and at most `MOST_DIFFERENT` words and phrases. Phrases do not go beyond a segment
        or a change of speaker. `InvalidInput` for more than one of the three, and for fillers that are none.
        """
        if sum(each is not None for each in (whose.speaker, whose.profile, whose.library)) > 1:
            raise InvalidInput("Words are counted of one speaker, one profile, or one library.")
        if phrase_length is not None and not 2 <= phrase_length <= LONGEST_PHRASE:
            raise InvalidInput(f"A phrase has 2 to {LONGEST_PHRASE} words.")
        wanted = _plain_fillers(FILLERS if fillers is None else fillers)
        lengths = sorted({filler.count(" ") + 1 for filler in wanted})
        said, spoken = Frequent(MOST_DIFFERENT), Frequent(MOST_DIFFERENT)
        found = Frequent(MOST_DIFFERENT, wanted)
        number, total, outside, seconds = 0, 0, 0, 0.0
        for recording in self._spoken(whose):
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
            for recording in self._spoken(whose):
                for _, words in recording.runs():
                    exact_said.take(words)
                    if phrase_length is not None:
                        exact_spoken.take(phrases(words, phrase_length))
            missed = max(_missed(exact_said, top, said.missed), _missed(exact_spoken, top, spoken.missed))
            said, spoken = exact_said, exact_spoken
        kind, id, name = self._asked(whose)
        own = total - outside
        return WordsReport(
            of=kind,
            id=id,
            name=name,
            recordings=number,
            words=total,
            outside=outside,
            seconds=seconds,
            words_per_minute=own / (seconds / 60) if seconds else None,
            top=_counts(said, top),
            phrase_length=phrase_length,
            phrases=_counts(spoken, top),
            fillers=_counts(found, len(wanted)),
            fillers_from="default" if fillers is None else "given",
            may_be_missing=missed,
        )

    def _asked(self, whose: Whose) -> tuple[Literal["all", "library", "profile", "speaker"], str | None, str | None]:
        with self._catalog.read() as tx:
            if whose.speaker is not None:
                speaker = people.find_speaker(tx, whose.speaker)
                return "speaker", speaker.id, speaker.profile_name or speaker.name or speaker.label
            if whose.profile is not None:
                profile = people.find_profile(tx, whose.profile)
                return "profile", profile.id, profile.name
        return ("all" if whose.library is None else "library"), None, whose.library

    def _spoken(self, whose: Whose) -> Iterator[_Spoken]:
        """Recordings with a transcript, one after the other; some are read at one point in time."""
        after = ""
        while True:
            with self._catalog.read() as tx:
                profile = home = None
                if whose.speaker is not None:
                    speaker = people.find_speaker(tx, whose.speaker)
                    there = transcripts.find(tx, speaker.recording_id) is not None and not after
                    ids = [speaker.recording_id] if there else []
                else:
                    profile = None if whose.profile is None else people.find_profile(tx, whose.profile).id
                    home = None if whose.library is None else library.library_id(tx, whose.library)
                    ids = transcripts.recordings_with(
                        tx, home=home, profile=profile, after=after, limit=_RECORDINGS_AT_ONCE
                    )
                for each in ids:
                    of = None
                    if whose.speaker is not None:
                        of = frozenset({speaker.id})
                    elif profile is not None:
                        of = frozenset(people.speaker_ids(tx, recording=each, profile=profile))
                    yield _spoken_in(tx, each, of)
            if not ids:
                return
            after = ids[-1]


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


def _spoken_in(tx: Transaction, recording_id: str, of: frozenset[str] | None) -> _Spoken:
    transcript = transcripts.read(tx, recording_id)
    assert transcript is not None
    _, turns = library.snapshot(tx, [recording_id])[recording_id]
    seconds = sum(each.seconds for each in talk(turns) if of is None or each.speaker in of)
    return _Spoken(label(transcript, diarizations.exclusive_turns(tx, recording_id)), of, seconds)


def recording_of(tx: Transaction, given: str) -> str:
    """The full id of a recording from an id, the beginning of one, or the path of its file.

    `NotFound`; `InvalidInput` where several fit.
    """
    try:
        return library.resolve_id(tx, schema.recordings, given, "recording")
    except NotFound:
        named = activity.recordings_of_path(tx, _whole(given)) if given.isprintable() else []
        if not named:
            raise
    if len(named) > 1:
        raise InvalidInput(
            f"{given!r} is the file of several recordings: {', '.join(named[:5])}.", hint="Give one of these ids."
        )
    return named[0]


def text_of(data: bytes) -> str:
    """The text of a transcript's file: UTF-8, with or without a mark in front, or UTF-16 with one. `InvalidTranscript`."""
    if len(data) > MAX_TRANSCRIPT_BYTES:
        raise InvalidTranscript(f"The transcript has more than {MAX_TRANSCRIPT_BYTES:,} bytes.", hint="Is it one?")
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTranscript(
            f"The transcript is not text in UTF-8: byte {error.start} cannot be read.", hint="Save it as UTF-8."
        ) from None


def read_text(path: Path) -> str:
    """The text of a file. `InvalidTranscript` where it cannot be read, is no file, or is too large."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidTranscript(f"The transcript {path} is not a regular file.", hint="Give a file.")
            data = file.read(MAX_TRANSCRIPT_BYTES + 1)
    except (OSError, ValueError) as error:  # a zero byte in the name
        if isinstance(error, InvalidTranscript):
            raise
        raise InvalidTranscript(f"The transcript {path} cannot be read: {error}.", hint="Look at the file.") from error
    return text_of(data)


def _whole(given: str) -> str:
    try:
        return str(Path(given).resolve())
    except (OSError, RuntimeError):  # a loop of links
        return given


def _none(recording_id: str) -> NotFound:
    return NotFound(
        f"The recording {recording_id!r} has no transcript.",
        hint="Give it one with `speakerdb label FILE --recording ID`.",
    )


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
