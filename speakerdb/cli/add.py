"""`speakerdb add` and `speakerdb remove`: what the library holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speakerdb.cli.diarize import Channels
from speakerdb.cli.intake_view import run_intake
from speakerdb.cli.live import work_unless_another_does
from speakerdb.cli.output import error_value, plural, print_error
from speakerdb.cli.session import JsonFlag, Session, YesFlag
from speakerdb.cli.show import say, show_added, show_work
from speakerdb.errors import InvalidInput, SpeakerDBError
from speakerdb.reports import AddReport, WorkReport

if TYPE_CHECKING:
    from speakerdb.ingest import TurnsFiles


def _names(given: Sequence[str]) -> dict[str, str]:
    names = {}
    for pair in given:
        label, equals, name = pair.partition("=")
        if not (label and equals and name):
            raise InvalidInput(f"`--name {pair}` is not LABEL=NAME.", hint="For example `--name SPEAKER_00=Ada`.")
        names[label] = name
    return names


def _check_together(files: Sequence[Path], recording_id: str | None, names: Sequence[str]) -> None:
    if len(files) > 1 and (recording_id or names):
        raise InvalidInput("`--id` and `--name` are for one file at a time.", hint="Add the files one at a time.")
    stems: dict[str, Path] = {}
    for file in files:
        first = stems.setdefault(file.stem, file)
        if first is not file:
            raise InvalidInput(
                f"{first} and {file} have the same name, so their turns cannot be told apart.",
                hint="Add them one at a time.",
            )


def add(
    ctx: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Audio or video files, folders of them, and manifests (.jsonl, .ndjson, .csv).",
            show_default=False,
        ),
    ],
    turns: Annotated[
        Path | None,
        typer.Option(
            help="Who talks when: an RTTM (of many recordings too, found by the file's name), JSON (a list of"
            " {start, end, speaker}, pyannote's or WhisperX's), WebVTT or SRT with speaker tags, or a folder that holds"
            " NAME.rttm, .json, .vtt or .srt. Looked for beside each file unless given."
        ),
    ] = None,
    recording_id: Annotated[str | None, typer.Option("--id", help="The recording's id; made up unless given.")] = None,
    library: Annotated[str, typer.Option(help="The library it belongs to.")] = "default",
    name: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=NAME", help="Name a speaker; may be repeated.")
    ] = None,
    diarize: Annotated[
        bool | None,
        typer.Option(
            "--diarize/--no-diarize",
            help="Queue recordings without turns to be diarized, or refuse them; as `diarizer.on_add` says unless given.",
        ),
    ] = None,
    num_speakers: Annotated[
        int | None, typer.Option(metavar="N", help="Tell the diarizer: so many speakers in each recording.")
    ] = None,
    min_speakers: Annotated[int | None, typer.Option(metavar="N", help="So many at least.")] = None,
    max_speakers: Annotated[int | None, typer.Option(metavar="N", help="So many at most.")] = None,
    channels: Annotated[
        Channels,
        typer.Option(help="`mix`: all channels as one. `as-speakers`: each channel is one speaker, as in a call."),
    ] = Channels.mix,
    now: Annotated[bool, typer.Option("--now", help="Extract at once, with everything else that waits.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")] = False,
    refused: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where refused recordings are written, as a manifest to be corrected and added again; refused/TIME.jsonl"
            " in the data folder unless given.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Add recordings with their turns, and queue them for extraction. Those without turns are diarized first.

    A file that cannot be added does not stop the others; the exit code is that of the first error. Adding a file again
    that has not changed changes nothing.
    """
    from speakerdb.diarizers.asked import Asked
    from speakerdb.diarizers.port import Hints
    from speakerdb.ingest import TurnsFiles
    from speakerdb.ingest.sources import is_manifest

    session = Session.of(ctx, as_json)
    hints = Hints(num_speakers, min_speakers, max_speakers)
    asked = Asked(hints, channels.value) if diarize in (True, None) else None
    if diarize is None and not session.settings().diarizer.on_add:
        asked = None
    if (hints != Hints() or channels is not Channels.mix) and (turns is not None or asked is None):
        raise InvalidInput(
            "`--num-speakers` and its like are for a diarizer, and none is asked.",
            hint="Leave them out, or leave out `--turns` and `--no-diarize`.",
        )
    if dry_run or refused is not None or any(path.is_dir() or is_manifest(path) for path in files):
        if recording_id or name:
            raise InvalidInput(
                "`--id` and `--name` are for one file; here a manifest says them.",
                hint="Give ids and names in a manifest.",
            )
        raise typer.Exit(
            run_intake(
                session, files, turns=turns, library=library, now=now, dry_run=dry_run, refused=refused, asked=asked
            )
        )
    _check_together(files, recording_id, name or [])
    names = _names(name or [])
    source = TurnsFiles(turns)
    rows: list[dict[str, Any]] = []
    errors: list[SpeakerDBError] = []
    work: WorkReport | None = None
    exit_code = 0
    with session.open() as db:
        for file in files:
            try:
                report = db.add(
                    file,
                    _turns(source, file, alone=len(files) == 1, diarize=asked is not None),
                    recording_id=recording_id,
                    library=library,
                    names=names,
                    asked=asked or Asked(),
                )
            except SpeakerDBError as error:
                if error.scope == "run":
                    raise
                errors.append(error)
                rows.append({"file": _shown(file), "report": None, "error": error_value(error)})
                if not session.json:
                    print_error(error.code, f"{file}: {error.message}", error.hint)
                continue
            rows.append({"file": _shown(file), "report": report, "error": None})
            if not session.json:
                _print_added(session, file, report)
        if now and len(errors) < len(files):
            work, exit_code = work_unless_another_does(session, db, again="Run `speakerdb work` to continue.")
    if errors:
        exit_code = errors[0].exit_code
    if session.json:
        answer: dict[str, Any] = {"recordings": rows, "work": work}
        if errors:
            answer["error"] = error_value(errors[0]) | {"exit_code": exit_code}
        session.result(answer, lambda *_: None)
    elif work is not None:
        session.show(lambda console: show_work(console, work))
    elif any(row["report"] is not None and row["report"].to_diarize for row in rows):
        session.note("next: `speakerdb work` diarizes and extracts what is queued.")
    elif any(row["report"] is not None and row["report"].queued for row in rows):
        session.note("next: `speakerdb work` extracts what is queued.")
    raise typer.Exit(exit_code)


def _turns(source: TurnsFiles, file: Path, *, alone: bool, diarize: bool) -> Sequence[Any] | None:
    """The turns of a file; None where none lie beside it and a diarizer is to find them."""
    from speakerdb.ingest.looking import check_text

    check_text(file)
    if diarize and source.place is None and source.find(file) is None:
        return None
    return source.of(file, alone=alone).recordings[""]


def _shown(file: Path) -> str:
    return str(file).encode("utf-8", "replace").decode()


def _print_added(session: Session, file: Path, report: AddReport) -> None:
    session.show(lambda console: show_added(console, str(file), report))


def remove(
    ctx: typer.Context,
    recording_ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Ids of recordings, or unique beginnings of them.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove recordings, with their speakers, their embeddings and the events about them. Asks first.

    Media files stay, but for uploaded ones that no other recording has.

    One that is not there does not stop the others; the exit code is that of the first error.
    """
    session = Session.of(ctx, as_json)
    removed: list[str] = []
    errors: list[SpeakerDBError] = []
    verb = "Would remove" if dry_run else "Removed"
    with session.open() as db:
        if not dry_run:
            many = plural(len(recording_ids), "recording")
            session.confirm(f"Remove {many} with all voices, for good? Names and events go too.", yes=yes)
        for given in recording_ids:
            try:
                if dry_run:
                    voices = db.speakers(recording=given)
                else:
                    db.remove(given)
            except SpeakerDBError as error:
                if error.scope == "run" or len(recording_ids) == 1:
                    raise
                errors.append(error)
                if not session.json:
                    print_error(error.code, error.message, error.hint)
                continue
            removed.append(given)
            if not session.json:
                what = f" with {plural(len(voices), 'speaker')}" if dry_run else ""
                session.show(lambda console, text=f"{verb} {given}{what}.": say(console, text))  # type: ignore[misc]
    answer: dict[str, Any] = {
        "would_remove" if dry_run else "removed": removed[0] if len(recording_ids) == 1 else removed
    }
    if errors:
        answer |= {"errors": [error_value(error) for error in errors], "error": error_value(errors[0])}
    session.result(answer, lambda *_: None)
    raise typer.Exit(errors[0].exit_code if errors else 0)
