"""Transcripts of recordings: whose words they are, kept, shown, removed.

A transcript is kept as it was given. Who says what is found out whenever it is read, from the turns and the names of that
moment: a rename, another profile, a split or new turns show at once. The text is in no event, no log and no message.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from speakerdb.catalog import activity, diarizations, journal, library, transcripts
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.choosing import recording_of
from speakerdb.catalog.database import Transaction
from speakerdb.core.transcript import Labelled, Transcript, label, parse_transcript, writing
from speakerdb.core.transcript.counting import words_of
from speakerdb.core.transcript.naming import Voice, told_apart
from speakerdb.errors import InvalidInput, NeedsTurns, NotFound
from speakerdb.reports.recordings import Part
from speakerdb.reports.transcripts import (
    Outcome,
    TranscriptRemoved,
    TranscriptReport,
    TranscriptSpeaker,
    TranscriptView,
    WordsReport,
)
from speakerdb.transcripts.words import Whose, count
from speakerdb.types import Turn

Form = Literal["json", "srt", "vtt", "text"]
FORMS: tuple[Form, ...] = ("json", "srt", "vtt", "text")


@dataclass(frozen=True, slots=True)
class Shown:
    """A transcript with its speakers, by the turns and names of the moment. Speakers are ids; `names` says their names."""

    report: TranscriptReport
    transcript: Transcript
    labelled: Labelled
    turns: tuple[Turn, ...]
    names: dict[str, str]

    def written(self, form: Form, *, words: bool = False) -> str:
        """As one of `FORMS`; with `words`, the JSON holds each word's time and speaker too. `InvalidInput` for another form."""
        if words and form != "json":
            raise InvalidInput("Only JSON has a place for each word's time.", hint="Ask for words with the form json.")
        if form == "json":
            document = writing.two_stage(self.labelled, self.turns, self.names, words=words)
            return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        if form == "srt":
            return writing.srt(self.labelled, self.names)
        if form == "vtt":
            return writing.vtt(self.labelled, self.names)
        return writing.plain_text(self.labelled, self.names)


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
            if not self._has_turns(tx, row):
                raise NeedsTurns(
                    f"The recording {row.id!r} has no turns yet, so nobody can say whose words these are.",
                    hint="Where it waits for diarization, run `speakerdb work` first. Else give its turns:"
                    " `speakerdb add FILE --turns FILE`.",
                )
        transcript = parse_transcript(text, suffix, duration=row.seconds)
        with self._catalog.read() as tx:
            return self._shown(tx, self._row(tx, row.id).id, transcript, "not-kept")

    def keep(self, shown: Shown, *, why: str | None = None) -> Shown:
        """Keep a transcript that `label` gave, in the place of the one before. The same again changes nothing."""
        packed = transcripts.pack(shown.transcript)  # before others have to wait
        with self._catalog.change() as tx:
            found = self._row(tx, shown.report.recording_id).id
            before = transcripts.find(tx, found)
            outcome: Outcome = "added" if before is None else "changed"
            if before is not None and before.digest == packed.digest:
                outcome = "unchanged"
            else:
                now = self._catalog.now()
                row = transcripts.write(tx, found, packed, self._who, now)
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

        One recording is held at a time, and a bounded number of words and phrases. Phrases do not go beyond a segment
        or a change of speaker. `InvalidInput` for more than one of the three, and for fillers that are none.
        """
        return count(self._catalog, whose, top=top, phrase_length=phrase_length, fillers=fillers)


def _none(recording_id: str) -> NotFound:
    return NotFound(
        f"The recording {recording_id!r} has no transcript.",
        hint="Give it one with `speakerdb label FILE --recording ID`.",
    )
