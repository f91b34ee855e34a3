"""Reports as text. Each function takes a console and one value of `speakerdb.reports`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from speakerdb.cli.output import cell, clean, clock, facts, plural, print_list, size, span, table, when
from speakerdb.reports import (
    AddOutcome,
    AddReport,
    Check,
    CurrentRecording,
    GateReport,
    ItemError,
    MatchResult,
    MigrationView,
    Preflight,
    ProfileView,
    Progress,
    RecordingView,
    SourceLag,
    SpeakerView,
    SwapReport,
    WorkReport,
)
from speakerdb.reports.rediarizing import TurnsProgress
from speakerdb.reports.seeing import ErrorGroup, Pace, Waiting
from speakerdb.reports.work import Work

_ENDS = {
    "drained": "the queue is empty",
    "waiting": "the rest waits for a model",
    "paused": "the migration is paused",
    "halted": "a live setting halts it, see `speakerdb live show`",
    "stopped": "stopped",
    "limit": "the limit is reached",
}
"""Why a run of the queue ended."""


def say(console: Console, text: str) -> None:
    """Lines of text; a terminal wraps them, a pipe does not."""
    console.print("\n".join(map(clean, text.split("\n"))), soft_wrap=True)


def show_checks(console: Console, title: str, checks: Iterable[Check]) -> None:
    """Gates or pre-flight checks: value, threshold and verdict of each, then what to do about what did not pass."""
    rows = tuple(checks)
    say(console, title)
    console.print(
        table(("check", "verdict", "value", "threshold"), [(c.name, c.verdict, c.value, c.threshold) for c in rows])
    )
    for check in rows:
        if check.hint and check.verdict != "pass":
            say(console, f"  {check.name}: {check.hint}")


def show_gates(console: Console, report: GateReport) -> None:
    """The gates of a finalize or roll-back."""
    verdict = "proven" if report.proven else "not proven"
    show_checks(console, f"Gates: {verdict}", report.checks)


def show_preflight(console: Console, report: Preflight) -> None:
    """What a migration would do, and whether it can come to its end."""
    say(console, f"Pre-flight: {report.source} to {report.target}")
    console.print(
        facts(
            (
                ("recordings", f"{report.recordings:,}, of which {report.recordings_to_extract:,} are to be extracted"),
                ("speakers to embed", f"{report.speakers:,}"),
                ("audio", f"{report.audio_seconds / 3600:.2f} hours"),
                ("speech to embed", f"at most {clock(report.speech_seconds)}"),
                ("estimate", span(report.estimate_seconds)),
                *(() if not report.recordings_to_diarize else (("diarize first", _to_diarize(report)),)),
                ("disk", f"{size(report.disk_needed_bytes)} needed, {size(report.disk_free_bytes)} free"),
                (
                    "source model",
                    "loads"
                    if report.source_model_loads
                    else "does not load: new recordings cannot be searched until"
                    " finalize, and a roll-back will lack them",
                ),
            )
        )
    )
    show_checks(console, "Checks: " + ("passed" if report.passed else "not passed"), report.checks)


def _to_diarize(report: Preflight) -> str:
    sound = f"{report.audio_seconds_to_diarize / 3600:.2f} hours"
    return f"{plural(report.recordings_to_diarize, 'recording')}, {sound} of audio; their time is not in the estimate"


def failed_text(errors: Mapping[str, int]) -> str:
    """``3 (media-missing 2, not-finite 1)``."""
    total = sum(errors.values())
    codes = ", ".join(f"{code} {count}" for code, count in sorted(errors.items()))
    return f"{total:,} ({codes})" if codes else f"{total:,}"


def show_errors(console: Console, errors: Sequence[ItemError]) -> None:
    """Work items that failed."""
    if errors:
        rows = [(e.recording_id, e.generation, e.code, e.attempts, e.message) for e in errors]
        console.print(
            table(("failed recording", "generation", "code", "attempts", "message"), rows, right=("attempts",))
        )


def speed(audio_seconds: float, seconds: float) -> str:
    """The real-time factor (processing time by audio time), and its inverse."""
    if audio_seconds <= 0 or seconds <= 0:
        return "no audio was processed"
    return f"real-time factor {seconds / audio_seconds:.4f} ({audio_seconds / seconds:.1f} x real time)"


def shares_text(work: Work) -> str:
    """``network 91 %, decoding 6 %`` of the time in which workers were busy."""
    return f"network {100 * work.network_share:.0f} %, decoding {100 * work.decode_share:.0f} %"


def work_text(work: Work) -> str:
    """What passed through workers, and what their time went into."""
    loads = f", {plural(work.loads, 'model')} loaded in {work.load_time:.1f} s" if work.loads else ""
    return (
        f"{plural(work.forwards, 'segment')} through the network, {clock(work.embedded_seconds)} of speech"
        f" ({clock(work.decoded_seconds)} decoded); workers were busy for {work.total_time:.1f} s, {shares_text(work)}{loads}."
    )


def show_work(console: Console, report: WorkReport) -> None:
    """What one run of the queue did."""
    say(
        console,
        f"{plural(report.recordings_done, 'recording')} done ({_ENDS[report.stopped]}), {report.recordings_failed:,} failed;"
        f" {plural(report.speakers_embedded, 'speaker')} embedded, {report.speakers_unembeddable:,} unembeddable,"
        f" {plural(report.documents_written, 'document')} written.",
    )
    if report.recordings_diarized:
        say(console, f"{plural(report.recordings_diarized, 'recording')} diarized.")
    if report.recordings_done:
        say(
            console,
            f"{clock(report.audio_seconds)} of audio ({clock(report.speech_seconds)} of it embedded) in"
            f" {report.seconds:.1f} s: {speed(report.audio_seconds, report.seconds)}.",
        )
    if report.work.forwards:
        say(console, work_text(report.work))
    for generation, model in sorted(report.models.items()):
        say(console, f"{generation}: {model}")
    for sentence in report.unavailable.values():
        say(console, sentence)
    show_errors(console, report.errors)


def show_progress(console: Console, progress: Mapping[str, Progress]) -> None:
    """One row a generation, and a line for each thing that a person should know of."""
    rows = [
        (
            name,
            f"{p.recordings_done:,}/{p.recordings_total:,}",
            f"{clock(p.audio_seconds_done)}/{clock(p.audio_seconds_total)}",
            p.recordings_queued,
            p.recordings_failed,
            p.speakers_embedded,
            p.documents_waiting,
        )
        for name, p in progress.items()
    ]
    columns = ("generation", "recordings", "audio", "queued", "failed", "embedded", "to index")
    console.print(table(columns, rows, right=columns[1:]))
    for name, p in progress.items():
        if p.errors:
            say(console, f"{name}: failed {failed_text(p.errors)}")
        if p.recordings_waived:
            say(console, f"{name}: {plural(p.recordings_waived, 'recording')} waived")
        if p.speakers_unembeddable:
            say(console, f"{name}: {plural(p.speakers_unembeddable, 'speaker')} without enough clean speech to embed")


def show_migration(console: Console, view: MigrationView | None) -> None:
    """One migration: how far it is, how fast, what is worked on, what failed and the command that tries it again."""
    if view is None:
        say(console, "There has been no migration. Start one with `speakerdb migrate start --to GENERATION`.")
        return
    state = view.state + (f", paused: {view.pause_reason or 'no reason given'}" if view.paused else "")
    console.print(
        facts(
            (
                ("migration", f"{view.id}: {view.source} to {view.target}"),
                ("state", state),
                ("serving", view.serving),
                ("started", when(view.started_at)),
                ("finalized", when(view.finalized_at)),
                ("roll-back until", when(view.rollback_until if view.state == "finalized" else None)),
                ("source lacks", lag_text(view.lag)),
                *(() if view.diarized is None else (("diarized", _diarized_text(view.diarized)),)),
            )
        )
    )
    show_progress(console, {view.target: view.progress})
    show_current(console, view.current)
    if view.pace is not None:
        say(console, f"pace: {pace_text(view.pace)}")
    for wait in view.waiting:
        say(console, waiting_text(wait))
    show_error_groups(console, view.errors)
    if view.next_step:
        say(console, f"next: {view.next_step}")


def _diarized_text(turns: TurnsProgress) -> str:
    """How far the diarization is that a migration was asked for, in words."""
    queued = f"{turns.recordings_queued:,} queued ({clock(turns.audio_seconds_queued)} of audio)"
    return f"{plural(turns.recordings_done, 'recording')}, {queued}, {turns.recordings_failed:,} left as they are"


def lag_text(lag: SourceLag | None) -> str | None:
    """How far the source of a migration is behind, in words; None where there is no roll-back."""
    if lag is None:
        return None
    told = [plural(lag.speakers, "speaker")]
    if lag.documents_waiting:
        told.append(f"{plural(lag.documents_waiting, 'document')} to be written to its index")
    if lag.recordings_queued:
        told.append(f"{plural(lag.recordings_queued, 'recording')} in the queue")
    if lag.recordings_failed:
        told.append(f"recordings failed: {failed_text(lag.errors)}")
    return "; ".join(told)


def show_current(console: Console, current: Sequence[CurrentRecording], most: int = 4) -> None:
    """What is being worked on."""
    for one in current[:most]:
        say(console, f"now: {current_text(one)}")
    if len(current) > most:
        say(console, f"and {len(current) - most:,} more")


def current_text(current: CurrentRecording) -> str:
    """A recording that is being worked on, with its turns and speakers, or how far its diarization is."""
    name = recording_name(current.recording_id, current.path) or current.recording_id
    if current.step:
        share = "" if current.share is None else f" {current.share:.0%}"
        return clean(f"{name} ({current.generation}, {current.step}{share})")
    return clean(
        f"{name} ({current.generation}, {plural(current.turns, 'turn')}, {plural(current.speakers, 'speaker')})"
    )


def speed_text(pace: Pace) -> str:
    """``90.0 x real time, 340 recordings an hour``; recordings alone where no length is known."""
    real_time = f"{pace.speed:.1f} x real time, " if pace.audio_seconds else ""
    return f"{real_time}{pace.recordings_an_hour:,.0f} recordings an hour"


def pace_text(pace: Pace) -> str:
    """How fast it went of late, and what is left."""
    return f"{speed_text(pace)} in the last {clock(pace.seconds)}; left {span(pace.left)}"


def waiting_text(wait: Waiting) -> str:
    """What waits, and why."""
    then = f" next: {wait.command}" if wait.command else ""
    return f"{wait.generation}: {plural(wait.recordings, 'recording')} in the queue. {wait.message}{then}"


def show_error_groups(console: Console, groups: Sequence[ErrorGroup]) -> None:
    """What failed, by code: how many, one of them, and the command that queues them again."""
    if not groups:
        return
    columns = ("failed with", "generation", "recordings", "for example", "attempts", "message")
    rows = [
        (g.code, g.generation, f"{g.count:,}", recording_name(g.recording_id, g.path), g.attempts, g.message)
        for g in groups
    ]
    console.print(table(columns, rows, right=("recordings", "attempts")))
    for retry in dict.fromkeys(group.retry for group in groups):
        say(console, f"  again: {retry}")


def show_swap(console: Console, report: SwapReport) -> None:
    """What a finalize or roll-back did."""
    if report.gates is not None:
        show_gates(console, report.gates)
    say(console, f"{report.serving} serves now. Writers waited {report.fence_seconds:.2f} s.")
    if report.source_lag:
        say(console, f"The source lacks {plural(report.source_lag, 'speaker')}.")
    if report.migration.next_step:
        say(console, f"next: {report.migration.next_step}")


def show_match(console: Console, result: MatchResult) -> None:
    """The generation, path, decision and reason; below them the ranked answers."""
    margin = "" if result.margin is None else f", margin {result.margin:.3f}"
    speech = "" if result.speech_seconds is None else f", {result.speech_seconds:.1f} s of speech"
    say(console, f"{result.query}: generation {result.generation} ({result.index}), path {result.path}{speech}")
    say(console, f"decision: {result.decision}{margin}: {result.reason}")
    rows = [
        (
            m.rank,
            f"{m.score:.4f}",
            " / ".join(dict.fromkeys(n for n in (m.name, m.profile_name) if n)),
            recording_name(m.recording_id, m.recording_path),
            m.label,
            m.id,
            f"{m.speech_seconds:.1f}",
        )
        for m in result.matches
    ]
    columns = ("rank", "score", "name / profile", "recording", "label", "id", "speech s")
    console.print(table(columns, rows, right=("rank", "score", "speech s")))


def recording_name(recording_id: str | None, path: str | None) -> str | None:
    """The file's name where there is one, else the recording's id."""
    return Path(path).name if path else recording_id


def show_added(console: Console, file: str, report: AddReport) -> None:
    """One recording that was added."""
    queued = f"queued for {', '.join(report.queued)}" if report.queued else "nothing queued"
    queued = "queued to be diarized" if report.to_diarize else queued
    say(
        console,
        f"{file}: {report.outcome} as {report.recording_id}; {plural(report.turns, 'turn')},"
        f" {plural(len(report.speakers), 'speaker')}; {queued}",
    )
    if report.outcome is AddOutcome.UNCHANGED:
        return
    for label, speaker_id in report.speakers.items():
        say(console, f"  {label}: {speaker_id}")


def show_speakers(console: Console, speakers: Sequence[SpeakerView]) -> None:
    """A list of speakers."""
    columns = ("id", "name", "profile", "recording", "label", "speech s", "generations")
    rows = [
        (
            s.id,
            s.name,
            s.profile_name or s.profile_id,
            s.recording_id,
            s.label,
            f"{s.speech_seconds:.1f}",
            pairs(s.generations),
        )
        for s in speakers
    ]
    print_list(console, columns, rows, right=("speech s",))


def show_speaker(console: Console, speaker: SpeakerView) -> None:
    """One speaker."""
    console.print(
        facts(
            (
                ("id", speaker.id),
                ("name", speaker.name),
                ("profile", speaker.profile_id and f"{speaker.profile_name} ({speaker.profile_id})"),
                ("recording", speaker.recording_id),
                ("label", speaker.label),
                ("speech", f"{speaker.speech_seconds:.1f} s"),
                ("generations", pairs(speaker.generations)),
            )
        )
    )


def show_profiles(console: Console, profiles: Sequence[ProfileView]) -> None:
    """A list of profiles."""
    rows = [(p.id, p.name, p.library, p.speakers, p.merged_into) for p in profiles]
    print_list(console, ("id", "name", "library", "speakers", "merged into"), rows, right=("speakers",))


def show_recordings(console: Console, recordings: Sequence[RecordingView]) -> None:
    """A list of recordings."""
    rows = [
        (
            r.id,
            r.library,
            r.path,
            None if r.seconds is None else clock(r.seconds),
            r.turns,
            r.speakers,
            r.content_version,
        )
        for r in recordings
    ]
    columns = ("id", "library", "path", "length", "turns", "speakers", "version")
    print_list(console, columns, rows, right=("length", "turns", "speakers", "version"))


def pairs(values: Mapping[str, object]) -> str:
    """``v3 embedded, v4 waiting``."""
    return ", ".join(f"{key} {cell(value)}" for key, value in values.items())
