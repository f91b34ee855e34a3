"""`speakerdb add` and `speakerdb remove`: what the library holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from speakerdb.cli.live import run_work
from speakerdb.cli.output import error_value, print_error
from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import say, show_added, show_work
from speakerdb.errors import InvalidInput, InvalidTurns, NeedsTurns, SpeakerDBError
from speakerdb.reports import AddReport, WorkReport
from speakerdb.types import Turn

RTTM = ".rttm"
JSON = ".json"


@dataclass(frozen=True)
class TurnsSource:
    """The file or folder that `--turns` names. An RTTM is read once, however many recordings it holds."""

    path: Path
    recordings: dict[str, tuple[Turn, ...]] | None
    """Turns by recording of an RTTM file; None for a folder or a JSON list."""

    @classmethod
    def at(cls, path: Path) -> TurnsSource:
        """`InvalidTurns` when it cannot be read."""
        if not path.exists():
            raise InvalidTurns(
                f"There is no turns file {path}.", hint="Give `--turns` an RTTM file, a JSON list, or a folder of them."
            )
        if path.is_dir() or path.suffix.lower() == JSON:
            return cls(path, None)
        return cls(path, _rttm(path))

    def of(self, file: Path, *, alone: bool) -> Sequence[Turn]:
        """The turns of one media file. `alone` says that it is the only one that was given."""
        if self.path.is_dir():
            return self._in_folder(file)
        if self.recordings is None:
            if not alone:
                raise InvalidTurns(
                    f"{self.path.name} is a JSON list, which holds one recording.",
                    hint="Add the files one at a time, or give a folder with one list a file.",
                )
            return _json_turns(self.path)
        return _of_recording(self.path, self.recordings, file.stem, alone=alone)

    def _in_folder(self, file: Path) -> Sequence[Turn]:
        found = [p for suffix in (RTTM, JSON) if (p := self.path / f"{file.stem}{suffix}").is_file()]
        if not found:
            raise NeedsTurns(f"The folder {self.path} has neither {file.stem}{RTTM} nor {file.stem}{JSON}.")
        if len(found) > 1:
            raise InvalidTurns(
                f"The folder {self.path} has both {found[0].name} and {found[1].name}.", hint="Remove one of them."
            )
        if found[0].suffix == JSON:
            return _json_turns(found[0])
        return _of_recording(found[0], _rttm(found[0]), file.stem, alone=True)


def _rttm(path: Path) -> dict[str, tuple[Turn, ...]]:
    from speakerdb.core.turns import parse_rttm

    return dict(parse_rttm(_text(path)))


def _json_turns(path: Path) -> Sequence[Turn]:
    from speakerdb.core.turns import parse_json_turns

    return parse_json_turns(_text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTurns(f"The turns file {path} cannot be read: {error}.") from error


def _of_recording(path: Path, recordings: dict[str, tuple[Turn, ...]], stem: str, *, alone: bool) -> Sequence[Turn]:
    if alone and len(recordings) == 1:
        return next(iter(recordings.values()))
    if stem in recordings:
        return recordings[stem]
    there = ", ".join(sorted(recordings)) or "none at all"
    raise InvalidTurns(
        f"{path.name} has no turns of a recording {stem}; it has {there}.",
        hint="A recording's name in the RTTM must be the media file's name without its ending.",
    )


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
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio or video files.", show_default=False)],
    turns: Annotated[
        Path | None,
        typer.Option(
            help="Who talks when: an RTTM (of many recordings too, found by the file's name), a JSON list of"
            " {start, end, speaker}, or a folder that holds NAME.rttm or NAME.json."
        ),
    ] = None,
    recording_id: Annotated[str | None, typer.Option("--id", help="The recording's id; made up unless given.")] = None,
    library: Annotated[str, typer.Option(help="The library it belongs to.")] = "default",
    name: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=NAME", help="Name a speaker; may be repeated.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Extract at once, with everything else that waits.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Add recordings with their turns, and queue them for extraction.

    A file that cannot be added does not stop the others; the exit code is that of the first error. Adding a file again
    that has not changed changes nothing.
    """
    session = Session.of(ctx, as_json)
    _check_together(files, recording_id, name or [])
    names = _names(name or [])
    if turns is None:
        raise NeedsTurns(f"{files[0].name} came without turns.")
    source = TurnsSource.at(turns)
    rows: list[dict[str, Any]] = []
    errors: list[SpeakerDBError] = []
    work: WorkReport | None = None
    exit_code = 0
    with session.open() as db:
        for file in files:
            try:
                report = db.add(
                    file,
                    source.of(file, alone=len(files) == 1),
                    recording_id=recording_id,
                    library=library,
                    names=names,
                )
            except SpeakerDBError as error:
                if error.scope == "run":
                    raise
                errors.append(error)
                rows.append({"file": str(file), "report": None, "error": error_value(error)})
                if not session.json:
                    print_error(error.code, f"{file}: {error.message}", error.hint)
                continue
            rows.append({"file": str(file), "report": report, "error": None})
            if not session.json:
                _print_added(session, file, report)
        if now and len(errors) < len(files):
            work, exit_code = run_work(session, db, again="Run `speakerdb work` to continue.")
    if errors:
        exit_code = errors[0].exit_code
    if session.json:
        answer: dict[str, Any] = {"recordings": rows, "work": work}
        if errors:
            answer["error"] = error_value(errors[0]) | {"exit_code": exit_code}
        session.result(answer, lambda *_: None)
    elif work is not None:
        session.show(lambda console: show_work(console, work))
    elif not now and len(errors) < len(files):
        session.note("next: `speakerdb work` extracts what is queued.")
    raise typer.Exit(exit_code)


def _print_added(session: Session, file: Path, report: AddReport) -> None:
    session.show(lambda console: show_added(console, str(file), report))


def remove(
    ctx: typer.Context,
    recording_id: Annotated[str, typer.Argument(metavar="ID", help="The recording's id, or a unique beginning of it.")],
    as_json: JsonFlag = False,
) -> None:
    """Remove a recording, with its speakers and their embeddings. The media file stays."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        db.remove(recording_id)
    session.result({"removed": recording_id}, lambda console, value: say(console, f"Removed {value['removed']}."))
