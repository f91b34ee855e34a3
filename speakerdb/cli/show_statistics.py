"""Statistics of talk and overlaps as text."""

from __future__ import annotations

from rich.console import Console

from speakerdb.cli.output import clock, facts, plural, print_list, table, when
from speakerdb.cli.show import say
from speakerdb.reports.statistics import (
    LibraryTalk,
    OverlapSpeaker,
    ProfileTalk,
    RecordingOverlaps,
    SpeakerTalk,
    TalkStatistics,
)

_NOT_STORED = (
    "Nothing is measured yet of this recording as it is now: this was made from its turns alone, without its sound."
    " `speakerdb work` measures what it extracts, and a migration what was extracted before."
)


def show_speaker_talk(console: Console, report: SpeakerTalk) -> None:
    """One speaker."""
    console.print(
        facts(
            (
                ("speaker", report.id),
                ("name", report.name),
                ("profile", report.profile_id and f"{report.profile_name} ({report.profile_id})"),
                ("recording", report.recording_path or report.recording_id),
                ("label", report.label),
                *_talk(report.talk, "of the recording"),
            )
        )
    )
    if not report.stored:
        say(console, _NOT_STORED)


def show_profile_talk(console: Console, report: ProfileTalk) -> None:
    """One person."""
    console.print(
        facts(
            (
                ("profile", f"{report.name} ({report.id})"),
                ("library", report.library),
                ("speakers", f"{report.speakers:,} in {plural(report.recordings, 'recording')}"),
                *(() if report.talk is None else _talk(report.talk, "of these recordings")),
            )
        )
    )
    if report.months:
        rows = [(m.month, m.recordings, m.recordings - m.dated, clock(m.speech_seconds)) for m in report.months]
        columns = ("month", "recordings", "of them by when they were added", "speech")
        console.print(table(columns, rows, right=columns[1:]))
    if report.change is not None:
        change = report.change
        said = "" if change.first.dated else " (added)"
        say(
            console,
            f"The voice in {change.generation}, beside its first appearance on {when(change.first.at)}{said}"
            f" in {change.first.recording_id}:",
        )
        years = [(y.year, y.voices, _number(y.mean_similarity), _number(y.lowest_similarity)) for y in change.years]
        columns = ("year", "voices", "mean similarity", "lowest")
        console.print(table(columns, years, right=columns))
    _unmeasured(console, report.unmeasured, report.recordings)


def show_library_talk(console: Console, report: LibraryTalk) -> None:
    """One library."""
    console.print(
        facts(
            (
                ("library", report.library),
                ("recordings", f"{report.recordings:,}"),
                ("speakers", f"{report.speakers:,}"),
                ("somebody talks", clock(report.spoken_seconds)),
                (
                    "two or more talk",
                    f"{clock(report.overlap_seconds)}{_share(report.overlap_share)} in {plural(report.overlaps, 'overlap')}",
                ),
                *(() if report.talk is None else _talk(report.talk, "")[2:]),
            )
        )
    )
    if report.recordings > report.unmeasured:
        shares = [
            ("none" if s.below <= 1e-9 else f"{100 * s.least:.0f} to {100 * s.below:.0f} %", s.recordings)
            for s in report.overlap_shares
        ]
        console.print(table(("overlap in a recording", "recordings"), shares, right=("recordings",)))
    if report.people:
        people = [
            (p.name, p.recordings, clock(p.talk.seconds), _percent(p.talk.share), p.talk.turns,
             f"{p.talk.interruptions_given}/{p.talk.interruptions_received}", _percent(p.talk.overlap_share),
             _number(p.talk.words_a_minute, 0), _number(p.talk.level, 1), _number(p.talk.pitch, 0), p.profile_id)
            for p in report.people
        ]  # fmt: skip
        columns = (
            "person", "recordings", "talk", "share", "turns", "interrupts/is", "overlap", "words/min", "dBFS", "Hz", "id",
        )  # fmt: skip
        console.print(table(columns, people, right=columns[1:-1]))
        if report.people_total > len(report.people):
            say(console, f"and {report.people_total - len(report.people):,} more; `--rows N` shows N")
    _unmeasured(console, report.unmeasured, report.recordings)


def show_overlaps(console: Console, report: RecordingOverlaps) -> None:
    """Overlaps of a recording, or of a speaker in it."""
    rows = [
        (o.number, clock(o.start), f"{o.start:.2f}", f"{o.end:.2f}", f"{o.seconds:.2f}", _who(o.primary),
         ", ".join(_who(each) for each in o.secondary), f"{o.confidence:.2f}", o.confidence_from, o.ranked_by)
        for o in report.overlaps
    ]  # fmt: skip
    columns = ("overlap", "at", "from s", "to s", "length s", "primary", "secondary", "confidence", "from", "ranked by")
    if rows:
        print_list(console, columns, rows, right=(*columns[:5], "confidence"))
    say(console, f"{plural(report.total, 'overlap')}, {report.total_seconds:.1f} s together.")
    if not report.stored:
        say(console, _NOT_STORED)


def _talk(talk: TalkStatistics, of: str) -> list[tuple[str, object]]:
    pitch = None
    if talk.pitch is not None:
        pitch = f"{talk.pitch:.0f} Hz ({talk.pitch_low:.0f} to {talk.pitch_high:.0f})"
    rate = None if talk.words is None else f"{_number(talk.words_a_minute, 0)} words a minute ({talk.words:,} words)"
    return [
        ("talks", f"{clock(talk.seconds)} ({talk.seconds:.1f} s)"),
        ("share", None if talk.share is None else f"{_percent(talk.share)} {of}".strip()),
        ("turns", f"{talk.turns:,}"),
        ("mean turn", None if talk.mean_turn_seconds is None else f"{talk.mean_turn_seconds:.1f} s"),
        ("longest turn", f"{talk.longest_turn_seconds:.1f} s"),
        ("interrupts", f"{talk.interruptions_given:,}"),
        ("is interrupted", f"{talk.interruptions_received:,}"),
        ("in overlap", f"{talk.overlap_seconds:.1f} s{_share(talk.overlap_share)}"),
        ("speech rate", rate),
        ("level", None if talk.level is None else f"{talk.level:.1f} dBFS"),
        ("pitch", pitch),
    ]


def _unmeasured(console: Console, unmeasured: int, recordings: int) -> None:
    if unmeasured:
        say(
            console,
            f"Of {unmeasured:,} of {plural(recordings, 'recording')} nothing is measured yet; they are in no sum above but"
            " the count of recordings and the months.",
        )


def _who(speaker: OverlapSpeaker) -> str:
    return speaker.profile_name or speaker.name or speaker.label


def _share(share: float | None) -> str:
    return "" if share is None else f" ({_percent(share)})"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _number(value: float | None, digits: int = 3) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
