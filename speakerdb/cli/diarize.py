"""`speakerdb diarize`: files to turns, without a library; and how good turns are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from speakerdb.cli.output import clock, plural, table
from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import say
from speakerdb.errors import InvalidInput
from speakerdb.reports.diarizing import DiarizedFile, DiarizeReport, Evaluation, EvaluationReport
from speakerdb.types import Turn

if TYPE_CHECKING:
    from speakerdb.diarizers.port import DiarizationProgress, Diarizer
    from speakerdb.executors import Executor
    from speakerdb.settings import Settings

SPEAKERS = ("speaker", "turns", "seconds", "share")
PARTS = ("recording", "DER", "missed", "false alarm", "confusion", "spoken", "speakers", "found")


class Channels(StrEnum):
    """What the channels of a file are."""

    mix = "mix"
    as_speakers = "as-speakers"


def diarize(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Media files, or folders of them.")],
    output_dir: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results, made if it is not there.")],
    formats: Annotated[
        str, typer.Option("--format", metavar="FORM,FORM,...", help="Some of rttm, json, srt, serialized.")
    ] = "rttm",
    num_speakers: Annotated[
        int | None, typer.Option(metavar="N", help="So many speakers, where that is known.")
    ] = None,
    min_speakers: Annotated[int | None, typer.Option(metavar="N", help="So many at least.")] = None,
    max_speakers: Annotated[int | None, typer.Option(metavar="N", help="So many at most.")] = None,
    pipeline: Annotated[
        str | None, typer.Option(metavar="FOLDER-OR-NAME", help="Instead of the setting `diarizer.pipeline`.")
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="TEXT", help="Instead of `diarizer.revision`.")] = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="Instead of the setting `device`.")] = None,
    channels: Annotated[
        Channels,
        typer.Option(help="`mix`: all channels as one. `as-speakers`: each channel is one speaker, as in a call."),
    ] = Channels.mix,
    turns: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE-OR-FOLDER", help="Take these turns instead of diarizing, and write them in other forms."
        ),
    ] = None,
    timing: Annotated[bool, typer.Option("--timing", help="Print the seconds of each step.")] = False,
    artifacts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep what each step made there, as `.npz`.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Find out who speaks when in media files, and write it into a folder, one file for each. Needs no library.

    A file that fails is reported and stops nobody; nothing half-written is left.
    """
    session = Session.of(ctx, as_json)
    from speakerdb.diarizers.port import Hints
    from speakerdb.diarizing import check_formats, check_names, diarize_files
    from speakerdb.executors import make_executor

    forms = check_formats(formats.split(","))
    hints = Hints(num_speakers, min_speakers, max_speakers)
    settings = session.settings()
    media = list(_media(files))
    check_names(media)
    changes = {name: value for name, value in (("pipeline", pipeline), ("revision", revision)) if value is not None}
    done: list[DiarizedFile] = []
    executor = make_executor(settings.executor)
    diarizer = _diarizer(settings, changes, device, channels, turns, media, executor)
    with closing(executor), _progress(session, len(media)) as on_progress:
        for one in diarize_files(
            media,
            diarizer,
            output=output_dir,
            formats=forms,
            hints=hints,
            artifacts=artifacts,
            roots=settings.readable_roots,
            on_progress=on_progress,
        ):
            done.append(one)
            if not session.json:
                _show_file(session.out, one, timing=timing)
    session.result(DiarizeReport(getattr(diarizer, "told", diarizer.name), tuple(done)), _show_end)
    failed = [one.error for one in done if one.error is not None]
    if failed:
        raise typer.Exit(int(failed[0]["exit_code"]))


def evaluate(
    ctx: typer.Context,
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="The turns as they should be.")],
    hypothesis: Annotated[Path, typer.Argument(metavar="HYPOTHESIS", help="The turns that are looked at.")],
    collar: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Total width around each edge that is not looked at.")
    ] = 0.0,
    skip_overlap: Annotated[
        bool, typer.Option("--skip-overlap", help="Do not look where two or more talk in the reference.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """The diarization error rate of turns against a reference, with its parts, for each recording and in all.

    Files are RTTM (of many recordings), JSON, WebVTT or SRT. A collar of 0.25 leaves an eighth of a second on either side.
    """
    session = Session.of(ctx, as_json)
    from speakerdb.diarizers.evaluating import evaluate as compare

    report = compare(_turns_of(reference), _turns_of(hypothesis), collar=collar, skip_overlap=skip_overlap)
    session.result(report, _show_evaluation)


def _media(given: Sequence[Path]) -> Iterator[Path]:
    """The files, and those of the folders in the order of their names."""
    from speakerdb.ingest import MEDIA_SUFFIXES

    for path in given:
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in MEDIA_SUFFIXES and file.is_file())
        if not found:
            raise InvalidInput(f"There are no media files in the folder {path}.")
        yield from found


def _diarizer(
    settings: Settings,
    changes: Mapping[str, str],
    device: str | None,
    channels: Channels,
    turns: Path | None,
    files: Sequence[Path],
    executor: Executor,
) -> Diarizer:
    if turns is not None:
        from speakerdb.diarizers.given import TurnsFile
        from speakerdb.ingest import TurnsFiles

        place, named = TurnsFiles(turns), {file.stem: file for file in files}
        return TurnsFile(lambda sound: place.of(named[sound.name], alone=len(files) == 1).of(sound.name))
    if channels is Channels.as_speakers:
        from speakerdb.diarizers.channels import ChannelsAsSpeakers

        return ChannelsAsSpeakers()
    from speakerdb.diarizers.elsewhere import Elsewhere
    from speakerdb.diarizers.loading import DiarizerLoader

    load = DiarizerLoader.of(settings, device=device, **changes)
    return Elsewhere(load.settings.pipeline, load, executor, patience_seconds=settings.recording_timeout)


def _turns_of(path: Path) -> Mapping[str, Sequence[Turn]]:
    """The turns of a file by recording."""
    from speakerdb.core.turn_forms import parse_turns
    from speakerdb.ingest.turns_files import read_text

    return parse_turns(read_text(path), path.suffix).recordings


@contextmanager
def _progress(session: Session, files: int) -> Iterator[Callable[[Path, DiarizationProgress], None] | None]:
    """A line on a terminal; nothing elsewhere."""
    if not session.err.is_terminal:
        yield None
        return
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=session.err, transient=True,
    )  # fmt: skip
    task, seen = bar.add_task("", total=None), dict[Path, int]()

    def show(file: Path, progress: DiarizationProgress) -> None:
        number = seen.setdefault(file, len(seen) + 1)
        window = "" if progress.windows == 1 else f", window {progress.window}"
        told = f"{number}/{files} {file.name}{window}: {progress.step}"
        bar.update(task, description=told, completed=progress.completed, total=progress.total)

    with bar:
        yield show


def _show_file(console: Console, one: DiarizedFile, *, timing: bool) -> None:
    if one.error is not None:
        say(console, f"{one.file}: error[{one.error['code']}]: {one.error['message']}\n  next: {one.error['hint']}")
        return
    say(
        console,
        f"{one.file}: {clock(one.seconds)}, {plural(len(one.speakers), 'speaker')}, {plural(one.turns, 'turn')}, "
        f"{one.overlap_seconds:.1f} s with two or more; took {one.took:.1f} s",
    )
    if one.speakers:
        rows = [(each.speaker, each.turns, f"{each.seconds:.1f}", f"{each.share:.0%}") for each in one.speakers]
        console.print(table(SPEAKERS, rows, right=SPEAKERS[1:]))
    for path in (*one.written, *one.artifacts):
        say(console, f"  written: {path}")
    for notice in one.notices:
        say(console, f"  note: {notice}")
    if timing:
        steps = [(step, f"{seconds:.2f}") for step, seconds in one.timing.items()]
        console.print(table(("step", "seconds"), steps, right=("seconds",)))


def _show_end(console: Console, report: DiarizeReport) -> None:
    failed = sum(one.error is not None for one in report.files)
    say(console, f"{report.diarizer}: {plural(len(report.files) - failed, 'file')} done, {failed} failed")


def _show_evaluation(console: Console, report: EvaluationReport) -> None:
    rows = [_row(each) for each in report.recordings]
    if len(rows) > 1:
        everything = Evaluation(
            "all", report.error_rate, report.total, report.missed, report.false_alarm, report.confusion, 0, 0
        )
        rows.append((*_row(everything)[:-2], None, None))
    console.print(table(PARTS, rows, right=PARTS[1:]))
    overlap = "overlapped speech is left out" if report.skip_overlap else "overlapped speech counts"
    say(console, f"Seconds but for the rate. Collar {report.collar:g} s in all, half on either side; {overlap}.")
    if report.compared_with is not None:
        say(
            console,
            f"note: {report.recordings[0].recording} is compared with {report.compared_with}, the only one on either side",
        )
    for name in report.without_hypothesis:
        say(console, f"note: the hypothesis has nothing of {name}: all of it counts as missed")
    for name in report.without_reference:
        say(console, f"note: the reference has nothing of {name}: it is not looked at")


def _row(each: Evaluation) -> tuple[object, ...]:
    parts = (each.missed, each.false_alarm, each.confusion, each.total)
    rate = None if each.error_rate is None else f"{each.error_rate:.1%}"
    return (each.recording or "-", rate, *(f"{part:.2f}" for part in parts), each.speakers, each.speakers_found)
