"""Speakers and profiles as text: statistics, turns, members, and what a split or an undo did."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from speakerdb.cli.output import clock, facts, plural, table, when
from speakerdb.cli.show import recording_name, say
from speakerdb.reports.people import (
    ProfileDetails,
    ProfileStatistics,
    SpeakerDetails,
    SpeakerTurn,
    SplitReport,
    UndoReport,
)


def show_speaker_details(console: Console, speaker: SpeakerDetails) -> None:
    """One speaker with its statistics and turns."""
    console.print(
        facts(
            (
                ("id", speaker.id),
                ("name", speaker.name),
                ("profile", speaker.profile_id and f"{speaker.profile_name} ({speaker.profile_id})"),
                ("library", speaker.library),
                ("recording", speaker.recording_id),
                ("file", speaker.recording_path),
                ("label", speaker.label),
                ("speech", f"{speaker.speech_seconds:.1f} s"),
            )
        )
    )
    rows = [
        (s.generation, s.state, _seconds(s.seconds), s.segments, _number(s.resultant), _number(s.agreement),
         _number(s.similarity), _number(s.limit), _verdict(s.outlier))
        for s in speaker.statistics
    ]  # fmt: skip
    columns = ("generation", "state", "speech s", "segments", "resultant", "agreement", "to profile", "limit", "fits")
    console.print(table(columns, rows, right=columns[2:8]))
    _turns(console, speaker.turns)
    if speaker.turns_total > len(speaker.turns):
        hidden = plural(speaker.turns_total - len(speaker.turns), "turn")
        say(console, f"and {hidden} more; `--turns {speaker.turns_total}` shows all")


def show_profile_details(console: Console, profile: ProfileDetails) -> None:
    """One person: statistics, members, outliers, appearances."""
    console.print(
        facts(
            (
                ("id", profile.id),
                ("name", profile.name),
                ("library", profile.library),
                ("speakers", f"{profile.speakers:,} in {plural(profile.recordings, 'recording')}"),
                ("speech", clock(profile.speech_seconds)),
                ("merged into it", ", ".join(profile.merged)),
            )
        )
    )
    columns = (
        "generation",
        "embedded",
        "speech",
        "mean similarity",
        "lowest",
        "spread",
        "limit",
        "outliers",
        "nearest",
    )
    console.print(table(columns, [_statistics(s) for s in profile.statistics], right=columns[1:8]))
    for each in profile.statistics:
        for outlier in each.least_similar:
            say(
                console,
                f"{each.generation}: {outlier.speaker_id} does not fit (similarity {outlier.similarity:.3f} to the others)",
            )
    if profile.members:
        rows = [
            (m.speaker_id, recording_name(m.recording_id, m.recording_path), m.label, m.name, f"{m.speech_seconds:.1f}",
             ", ".join(f"{g} {value:.3f}" for g, value in m.similarities.items()), ", ".join(m.outlier_in))
            for m in profile.members
        ]  # fmt: skip
        names = ("speaker", "recording", "label", "name", "speech s", "similarity to the others", "outlier in")
        console.print(table(names, rows, right=("speech s",)))
        _more(console, profile.speakers - len(profile.members), "speaker")
    if profile.appearances:
        dates = [
            (when(a.at) + ("" if a.dated else " (added)"), recording_name(a.recording_id, a.recording_path),
             f"{a.speech_seconds:.1f}", a.speakers)
            for a in profile.appearances
        ]  # fmt: skip
        console.print(table(("recorded", "recording", "speech s", "speakers"), dates, right=("speech s", "speakers")))
        _more(console, profile.recordings - len(profile.appearances), "recording")


def show_split(console: Console, report: SplitReport) -> None:
    """What a split moved, or would move."""
    would = report.speaker_id is None
    say(
        console,
        f"{plural(len(report.turns), 'turn')} ({report.seconds:.1f} s) of {report.source_id}"
        f" {'would move' if would else 'moved'} to {report.label}{'' if would else f' ({report.speaker_id})'};"
        f" {plural(report.turns_left, 'turn')} ({report.seconds_left:.1f} s) stay{'' if report.turns_left > 1 else 's'}.",
    )
    if would:
        _turns(console, report.turns)
        say(console, "Nothing was changed.")
    elif report.queued:
        say(console, f"next: speakerdb work (extracts the recording again for {', '.join(report.queued)})")


def show_undo(console: Console, report: UndoReport) -> None:
    """What was taken back, or would be."""
    reason = "" if report.why is None else f": {report.why}"
    say(console, f"Event {report.event}, {report.kind}, by {report.who} at {when(report.at)}{reason}")
    say(console, ("Taken back. " if report.undone else "Would be taken back. ") + report.takes_back)


def _statistics(s: ProfileStatistics) -> Sequence[object]:
    nearest = None if s.nearest is None else f"{s.nearest.similarity:.3f} {s.nearest.name} ({s.nearest.id})"
    return (
        s.generation, f"{s.embedded:,}/{s.members:,}", clock(s.seconds), _number(s.mean_similarity),
        _number(s.lowest_similarity), _number(s.spread), _number(s.limit), s.outliers, nearest,
    )  # fmt: skip


def _turns(console: Console, turns: Sequence[SpeakerTurn]) -> None:
    if turns:
        rows = [(t.number, clock(t.start), f"{t.start:.2f}", f"{t.end:.2f}", f"{t.end - t.start:.2f}") for t in turns]
        columns = ("turn", "at", "from s", "to s", "length s")
        console.print(table(columns, rows, right=columns))


def _more(console: Console, hidden: int, word: str) -> None:
    if hidden > 0:
        say(console, f"and {plural(hidden, word)} more; `--rows N` shows N")


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _verdict(outlier: bool | None) -> str | None:
    return None if outlier is None else "no" if outlier else "yes"
