"""How people talk and how their voices sound: overlaps, and statistics of a speaker, a person and a library. Reads only.

What was measured of a recording as it is now is read from SQL. Of a single recording that is not measured yet, what its
turns alone tell is made at once, and said to be; sums over many recordings leave it out, and say of how many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from speakerdb.catalog import library, overlapping, people, talk_statistics, transcripts
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.diarizations import exclusive_turns
from speakerdb.catalog.library import SpeakerRow
from speakerdb.catalog.schema import recordings
from speakerdb.catalog.talk_statistics import Voice
from speakerdb.core.measures import measures
from speakerdb.core.overlap import Overlap
from speakerdb.errors import InvalidInput
from speakerdb.reports.statistics import (
    LibraryTalk,
    MonthOfTalk,
    OverlapSpeaker,
    OverlapView,
    ProfileTalk,
    RecordingOverlaps,
    SpeakerTalk,
    TalkStatistics,
    VoiceAppearance,
    VoiceChange,
    YearOfVoice,
)

SHOWN = 20
"""Rows of each list, unless more are asked for."""


class Statistics:
    """Statistics of talk and of voices."""

    def __init__(self, catalog: Catalog, serving: Callable[[], str]) -> None:
        """`serving` says which generation serves."""
        self._catalog = catalog
        self._serving = serving

    def speaker(self, given: str) -> SpeakerTalk:
        """One speaker in its recording. `NotFound`."""
        with self._catalog.read() as tx:
            row = people.find_speaker(tx, given)
            found = talk_statistics.of_speaker(tx, row.id).talk
            return SpeakerTalk(
                row.id, row.recording_id, row.path, row.label, row.name, row.profile_id, row.profile_name,
                stored=found is not None, talk=found or _from_turns(tx, row),
            )  # fmt: skip

    def profile(self, given: str, *, rows: int = SHOWN) -> ProfileTalk:
        """One person: sums, months, and the change of the voice in the generation that serves, with at most `rows` of its
        appearances. `NotFound`."""
        generation = self._serving()
        with self._catalog.read() as tx:
            found = people.find_profile(tx, given)
            speakers, everywhere, unmeasured = talk_statistics.recordings_of_profile(tx, found.id)
            return ProfileTalk(
                id=found.id,
                name=found.name,
                library=library.library_name(tx, found.library_id),
                speakers=speakers,
                recordings=everywhere,
                unmeasured=unmeasured,
                talk=talk_statistics.of_profile(tx, found.id).talk,
                months=tuple(months(tx, found.id)),
                change=_change(tx, generation, found.id, rows),
            )

    def library(self, name: str, *, rows: int = SHOWN) -> LibraryTalk:
        """One library: sums, how much of its talk is overlap, and the `rows` people who talk most. `NotFound`."""
        with self._catalog.read() as tx:
            home = library.library_id(tx, name)
            of_recordings = talk_statistics.recordings_of_library(tx, home)
            sums = talk_statistics.of_library(tx, home)
            everybody = None if sums.talk is None else sums.talk.seconds
            total, listed = talk_statistics.people(tx, home, everybody, rows)
        spoken, overlapped = of_recordings.spoken_seconds, of_recordings.overlap_seconds
        return LibraryTalk(
            library=name,
            recordings=of_recordings.recordings,
            unmeasured=of_recordings.unmeasured,
            speakers=sums.speakers,
            spoken_seconds=spoken,
            overlaps=of_recordings.overlaps,
            overlap_seconds=overlapped,
            overlap_share=overlapped / spoken if spoken else None,
            overlap_shares=of_recordings.shares,
            talk=sums.talk,
            people_total=total,
            people=tuple(listed),
        )

    def overlaps(
        self,
        *,
        recording: str | None = None,
        speaker: str | None = None,
        least_seconds: float = 0.0,
        after: int = -1,
        limit: int | None = None,
    ) -> RecordingOverlaps:
        """The overlaps of a recording, or those in which a speaker talks, in the order of time: behind one of them, at most
        `limit`. `NotFound`, `InvalidInput`."""
        if (recording is None) == (speaker is None):
            raise InvalidInput(
                "Give either a recording or a speaker.", hint="For example `speakerdb overlaps list --recording ID`."
            )
        if not 0.0 <= least_seconds < float("inf"):
            raise InvalidInput("The least seconds of an overlap must be 0 or more.")
        with self._catalog.read() as tx:
            who = None if speaker is None else people.find_speaker(tx, speaker).id
            if who is not None:
                home = library.speakers_by_id(tx, [who])[who].recording_id
            else:
                assert recording is not None
                home = library.resolve_id(tx, recordings, recording, "recording")
            row = library.recordings_of(tx, [home])[home]
            stored = overlapping.is_stored(tx, home)
            if stored:
                total, seconds = overlapping.counted(tx, home, speaker=who, least_seconds=least_seconds)
                shown = overlapping.read(tx, home, speaker=who, least_seconds=least_seconds, after=after, limit=limit)
            else:
                chosen = [
                    (number, each)
                    for number, each in enumerate(measures(library.snapshot(tx, [home])[home][1]).overlaps)
                    if each.seconds >= least_seconds and (who is None or who in each.speakers)
                ]
                total, seconds = len(chosen), sum(each.seconds for _, each in chosen)
                shown = [pair for pair in chosen if pair[0] > after][:limit]
            names = library.speakers_by_id(tx, {each for _, overlap in shown for each in overlap.speakers})
        return RecordingOverlaps(
            home, row.path, who, stored, total, seconds, tuple(_view(number, each, names) for number, each in shown)
        )


def _from_turns(tx: Transaction, row: SpeakerRow) -> TalkStatistics:
    """What the turns of a recording tell of a speaker."""
    _, turns = library.snapshot(tx, [row.recording_id])[row.recording_id]
    found = measures(turns).voices
    mine = next((each for each in found if each.talk.speaker == row.id), None)
    if mine is None:  # its recording was made from the vectors of an index, and has no turns
        return talk_statistics.statistics(
            seconds=0.0, everybody=None, turns=0, longest=0.0, given=0, received=0, overlap=0.0, words=None, told=None,
            sound=(None, None, None, None),
        )  # fmt: skip
    words = transcripts.words_by_speaker(tx, row.recording_id, exclusive_turns(tx, row.recording_id))
    return talk_statistics.statistics(
        seconds=mine.talk.seconds,
        everybody=sum(each.talk.seconds for each in found),
        turns=mine.talk.turns,
        longest=mine.talk.longest_turn_seconds,
        given=mine.talk.interruptions_given,
        received=mine.talk.interruptions_received,
        overlap=mine.overlap_seconds,
        words=None if words is None else words.get(row.id, 0),
        told=mine.talk.seconds,
        sound=(None, None, None, None),
    )


def months(tx: Transaction, profile: str) -> Sequence[MonthOfTalk]:
    """The months in which a profile speaks, in the order of time."""
    found: list[MonthOfTalk] = []
    for day in talk_statistics.days(tx, profile):
        name = str(np.datetime64(day.day, "D").astype("datetime64[M]"))
        dated = day.recordings if day.dated else 0
        if found and found[-1].month == name:
            last = found.pop()
            found.append(
                MonthOfTalk(
                    name, last.recordings + day.recordings, last.dated + dated, last.speech_seconds + day.seconds
                )
            )
        else:
            found.append(MonthOfTalk(name, day.recordings, dated, day.seconds))
    return found


def year_of(day: int) -> int:
    """The year of a day since 1970, in UTC."""
    return int(np.datetime64(day, "D").astype("datetime64[Y]").astype(np.int64)) + 1970


def _change(tx: Transaction, generation: str, profile: str, rows: int) -> VoiceChange | None:
    """One pass over the voices in the order of time; what is held is the first one, a row a year, and the rows shown."""
    first: Voice | None = None
    shown: list[VoiceAppearance] = []
    years: dict[int, list[float]] = {}
    count = 0
    for voice in talk_statistics.voices(tx, generation, profile=profile):
        first = first or voice
        value = talk_statistics.similarity(voice, first)
        count += 1
        if len(shown) < max(1, rows):
            shown.append(VoiceAppearance(voice.speaker_id, voice.recording_id, voice.at, voice.dated, value))
        year = years.setdefault(year_of(voice.day), [0.0, 0.0, 1.0])
        year[0] += 1
        year[1] += value
        year[2] = min(year[2], value)
    if first is None:
        return None
    return VoiceChange(
        generation,
        shown[0],
        count,
        tuple(YearOfVoice(year, int(n), total / n, low) for year, (n, total, low) in years.items()),
        tuple(shown[:rows]),
    )


def _view(number: int, overlap: Overlap, names: dict[str, SpeakerRow]) -> OverlapView:
    primary, *secondary = (
        OverlapSpeaker(row.id, row.label, row.name, row.profile_id, row.profile_name)
        for row in (names[each] for each in overlap.speakers)
    )
    return OverlapView(
        number, overlap.start, overlap.end, overlap.seconds, primary, tuple(secondary), overlap.confidence,
        overlap.confidence_from, overlap.ranked_by,
    )  # fmt: skip
