"""`speakerdb rediarize`, and `speakerdb assignments`: turns found again, names kept, and what was there before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from speakerdb.cli.diarize import Channels
from speakerdb.cli.output import clock, error_value, plural, table, when
from speakerdb.cli.session import JsonFlag, Session, WhyOption
from speakerdb.cli.show import say
from speakerdb.core.commands import command
from speakerdb.errors import InvalidInput

if TYPE_CHECKING:
    from speakerdb.diarizers.asked import Asked
    from speakerdb.diarizers.port import DiarizationProgress
    from speakerdb.reports.rediarizing import (
        AssignmentsKept,
        AssignmentView,
        KnownSpeaker,
        RediarizePlan,
        RediarizeQueued,
        RevertReport,
    )
    from speakerdb.service import SpeakerDB

app = typer.Typer(no_args_is_help=True, help="Who spoke when, as it was before it was replaced.")

Recording = Annotated[
    str, typer.Argument(metavar="RECORDING", help="A recording's id, a unique beginning, or the path of its file.")
]
MAPPED = ("speaker", "name", "profile", "found as", "both talk s", "cosine", "score", "new s")
NEW = ("new speaker", "found as", "seconds")
SETS = ("set", "replaced", "by", "why", "replaced by", "turns", "found by", "speakers")
REVERTED = ("speaker", "label", "name", "profile", "")


class Names(StrEnum):
    """Whose names stand."""

    now = "now"
    then = "then"


def rediarize(
    ctx: typer.Context,
    recordings: Annotated[
        list[str] | None, typer.Argument(metavar="RECORDING...", help="Ids, beginnings of ids, or paths of files.")
    ] = None,
    library: Annotated[str | None, typer.Option(metavar="NAME", help="Everything of this library instead.")] = None,
    num_speakers: Annotated[
        int | None, typer.Option(metavar="N", help="So many speakers, where that is known.")
    ] = None,
    min_speakers: Annotated[int | None, typer.Option(metavar="N", help="So many at least.")] = None,
    max_speakers: Annotated[int | None, typer.Option(metavar="N", help="So many at most.")] = None,
    channels: Annotated[
        Channels,
        typer.Option(help="`mix`: all channels as one. `as-speakers`: each channel is one speaker, as in a call."),
    ] = Channels.mix,
    accept_lost: Annotated[
        bool, typer.Option("--accept-lost", help="Named speakers whose place nobody takes may go.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Diarize now, show what would change, and write nothing.")
    ] = False,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Queue recordings to be diarized again. Whoever was there keeps id, label, name and profile; `work` does it.

    A recording in which nobody takes a named speaker's place stays as it is, unless `--accept-lost`. What is replaced is kept:
    `assignments revert` brings it back.
    """
    session = Session.of(ctx, as_json)
    from speakerdb.diarizers.asked import Asked
    from speakerdb.diarizers.port import Hints

    given = recordings or []
    if bool(given) == (library is not None):
        raise InvalidInput(
            "Give recordings, or `--library`.", hint="For example `speakerdb rediarize --library default`."
        )
    hints = Hints(num_speakers, min_speakers, max_speakers)
    asked = Asked(hints, channels.value, accept_lost)
    with session.open() as db:
        if not dry_run:
            use = db.rediarizing
            done = use.queue(given, asked, why=why) if library is None else use.queue_library(library, asked, why=why)
            session.result(done, _show_queued)
            return
        _look(session, db, db.rediarizing.chosen(given, library), asked)


def _look(session: Session, db: SpeakerDB, ids: Sequence[str], asked: Asked) -> None:
    from speakerdb.reports.rediarizing import RediarizeDryRun, RediarizePlan

    plans: list[RediarizePlan] = []
    errors: list[dict[str, Any]] = []
    with _progress(session, ids) as on_progress:
        for found in db.rediarizing.looks(ids, asked, on_progress):
            if isinstance(found, RediarizePlan):
                plans.append(found)
                if not session.json:
                    _show_plan(session.out, found)
            else:
                id, error = found
                errors.append({"recording_id": id} | error_value(error))
                session.note(f"{id}: error[{error.code}]: {error.message}\n  next: {error.hint}")
    session.result(RediarizeDryRun(tuple(plans), tuple(errors)), _show_end)
    if errors:
        raise typer.Exit(int(errors[0]["exit_code"]))


@app.command("list")
def list_sets(ctx: typer.Context, recording: Recording, as_json: JsonFlag = False) -> None:
    """List what a recording's turns and speakers were before they were replaced, the newest first."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.rediarizing.sets(recording), _show_sets)


@app.command()
def keep(
    ctx: typer.Context,
    recordings: Annotated[
        list[str] | None, typer.Argument(metavar="RECORDING...", help="Ids, beginnings of ids, or paths of files.")
    ] = None,
    library: Annotated[str | None, typer.Option(metavar="NAME", help="Everything of this library instead.")] = None,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Leave recordings as they are: that they failed to be diarized again, or are yet to be, is forgotten."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        session.result(db.rediarizing.keep(recordings or (), library, why=why), _show_kept)


@app.command()
def revert(
    ctx: typer.Context,
    recording: Recording,
    to: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The set of this number; the newest, unless given.")
    ] = None,
    names: Annotated[
        Names,
        typer.Option(
            help="`now`: speakers who are there still keep their name and profile. `then`: those come back too."
        ),
    ] = Names.now,
    accept_lost: Annotated[
        bool, typer.Option("--accept-lost", help="Named speakers who were not there then may go.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would come back.")] = False,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring back a recording's turns and speakers as they were. What stands now is kept, and can be brought back likewise."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        report = db.rediarizing.revert(
            recording, to=to, names=names.value, accept_lost=accept_lost, why=why, dry_run=dry_run
        )
    session.result(report, _show_revert)


@contextmanager
def _progress(session: Session, ids: Sequence[str]) -> Iterator[Callable[[str, DiarizationProgress], None]]:
    """A line on a terminal; nothing elsewhere."""
    if not session.err.is_terminal:
        yield lambda *_: None
        return
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=session.err, transient=True,
    )  # fmt: skip
    task, number = bar.add_task("", total=None), {id: place for place, id in enumerate(ids, start=1)}

    def show(id: str, progress: DiarizationProgress) -> None:
        told = f"{number[id]}/{len(ids)} {id}: {progress.step}"
        bar.update(task, description=told, completed=progress.completed, total=progress.total)

    with bar:
        yield show


def _show_queued(console: Console, report: RediarizeQueued) -> None:
    say(
        console,
        f"{plural(report.recordings, 'recording')} queued to be diarized again, {clock(report.audio_seconds)} of audio.",
    )
    if report.without_sound:
        say(console, f"note: {plural(report.without_sound, 'recording')} without a file left out")
    if report.awaiting:
        say(console, f"note: {plural(report.awaiting, 'recording')} left out that wait for their first diarization")
    if report.recordings:
        say(console, "next: `speakerdb work` does it, and extracts what has changed.")


def _show_kept(console: Console, report: AssignmentsKept) -> None:
    left = "it is" if report.recordings == 1 else "they are"
    done = (
        f"{plural(report.recordings, 'recording')} left as {left}." if report.recordings else "Nothing was to be done."
    )
    say(console, done)


def _show_plan(console: Console, plan: RediarizePlan) -> None:
    change = f"{plan.turns_before:,} turns become {plan.turns:,}" if plan.changed else "nothing would change"
    say(console, f"{plan.recording_id}: {change} ({plan.diarizer})")
    if plan.mapped:
        rows = [
            (
                *_names(each.speaker),
                each.found_as,
                f"{each.shared_seconds:.1f}",
                None if each.cosine is None else f"{each.cosine:.2f}",
                f"{each.score:.2f}",
                f"{each.seconds:.1f}",
            )
            for each in plan.mapped
        ]
        console.print(table(MAPPED, rows, right=MAPPED[4:]))
    if plan.new:
        rows_ = [(each.label, each.found_as, f"{each.seconds:.1f}") for each in plan.new]
        console.print(table(NEW, rows_, right=("seconds",)))
    for lost in plan.lost:
        say(console, f"  nobody takes the place of {_named(lost)}")
    if plan.refused:
        right = f"; where that is right: `{command('assignments keep', plan.recording_id)}`"
        # What an index had told of has no turns that could be kept.
        say(
            console,
            f"  refused: it stays as it is, unless `--accept-lost` is given{right if plan.turns_before else ''}",
        )
    for notice in plan.notices:
        say(console, f"  note: {notice}")


def _show_end(console: Console, report: Any) -> None:
    refused = sum(plan.refused for plan in report.plans)
    changed = sum(plan.changed and not plan.refused for plan in report.plans)
    say(
        console,
        f"{plural(changed, 'recording')} would change, {refused:,} would be refused, {len(report.errors):,} failed."
        " Nothing was written.",
    )


def _show_sets(console: Console, sets: Sequence[AssignmentView]) -> None:
    if not sets:
        say(console, "Nothing of this recording was replaced.")
        return
    rows = [
        (
            one.number,
            when(one.at),
            one.who,
            one.why,
            one.replaced_by,
            one.turns,
            one.diarizer,
            ", ".join(_named(each) for each in one.speakers),
        )
        for one in sets
    ]
    console.print(table(SETS, rows, right=("set", "turns")))


def _show_revert(console: Console, report: RevertReport) -> None:
    if not report.changed:
        say(console, f"{report.recording_id}: everything is as in set {report.number} already.")
    else:
        done = "comes back" if report.done else "would come back"
        say(console, f"{report.recording_id}: set {report.number} {done}, {plural(report.turns, 'turn')}")
        rows = [
            (
                each.speaker.id,
                each.speaker.label,
                each.speaker.name,
                each.speaker.profile_name or each.speaker.profile_id,
                "stays" if each.was == "there" else "comes back",
            )
            for each in report.speakers
        ]
        if rows:
            console.print(table(REVERTED, rows))
    for each in report.gone:
        say(console, f"  goes: {_named(each)} ({each.id})")
    for notice in report.notices:
        say(console, f"  note: {notice}")
    if report.refused and not report.done:
        say(console, "  refused: named speakers would go; give `--accept-lost` where they may")
    if report.kept_as is not None:
        say(console, f"What stood there is kept as set {report.kept_as}.")
    if report.queued:
        say(console, "next: `speakerdb work` extracts it again.")


def _names(speaker: KnownSpeaker) -> tuple[str, str | None, str | None]:
    return speaker.label, speaker.name, speaker.profile_name or speaker.profile_id


def _named(speaker: KnownSpeaker) -> str:
    label, name, profile = _names(speaker)
    said = " / ".join(each for each in dict.fromkeys((name, profile)) if each)
    return f"{label} ({said})" if said else label
