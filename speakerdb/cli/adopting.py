"""`speakerdb index import` and `speakerdb index adopt`: bringing an index that another application wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from speakerdb.cli.output import clean, plural
from speakerdb.cli.session import JsonFlag, Session, YesFlag
from speakerdb.cli.show import say
from speakerdb.errors import InvalidInput

if TYPE_CHECKING:
    from speakerdb.adoption import ImportOptions
    from speakerdb.reports.adopting import AdoptReport, ImportProgress, ImportReport

MAX_MAP_BYTES = 1_000_000
Report = TypeVar("Report")

GenerationOption = Annotated[
    str | None,
    typer.Option("--generation", metavar="NAME", help="Whose vectors they are, where the dimension leaves it open."),
]
FieldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="NAME=FIELD",
        help="Which field of its documents is what: vector, id, recording, library, profile, profile_name, label, name,"
        " seconds, kind. Dotted where nested; `_id` is a document's own id. May be repeated.",
    ),
]
FieldsOption = Annotated[
    Path | None,
    typer.Option("--fields", metavar="FILE", help="The same from a TOML or JSON file. `--field` is stronger."),
]
LibraryOption = Annotated[
    str, typer.Option("--library", metavar="NAME", help="The library of documents that name none.")
]
KnownOption = Annotated[
    bool, typer.Option("--known-only", help="Refuse documents of recordings that the database does not know.")
]
SecondsOption = Annotated[
    float | None,
    typer.Option(
        "--assume-seconds",
        metavar="S",
        help="Seconds of speech behind a vector where the index does not say it. Voices with little of it are never"
        " accepted without a person; 1 unless given.",
    ),
]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def import_(
    ctx: typer.Context,
    index: Annotated[
        str, typer.Argument(metavar="INDEX", help="A concrete index, for example speakers_v3, or an alias.")
    ],
    generation: GenerationOption = None,
    field: FieldOption = None,
    fields: FieldsOption = None,
    library: LibraryOption = "default",
    known_only: KnownOption = False,
    assume_seconds: SecondsOption = None,
    extract_again: Annotated[
        bool, typer.Option("--extract-again", help="Queue what has turns, to replace the vectors by extracted ones.")
    ] = False,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Read the vectors of an index into the database, which is the truth about them from then on.

    The index is only read. What the database has already stays as it is. Can be stopped, and run again. Without `--yes` it is
    read twice: once to say what would be done, and after the question.
    """
    session = Session.of(ctx, as_json)
    options = _options(generation, field, fields, library, known_only, assume_seconds, extract_again)
    with session.open(start=False) as db:
        imports = db.adoption.imports

        def look() -> ImportReport:
            return imports.run(index, options, dry_run=True, on_progress=lambda at: _tell(session, at))

        def question(report: ImportReport) -> str:
            return f"Read {plural(report.imported, 'vector')} into the database?"

        if _agreed(session, look, show_import, question, dry_run=dry_run, yes=yes):
            report = imports.run(index, options, on_progress=lambda at: _tell(session, at))
            session.result(report, show_import)


def adopt(
    ctx: typer.Context,
    generation: GenerationOption = None,
    field: FieldOption = None,
    fields: FieldsOption = None,
    library: LibraryOption = "default",
    known_only: KnownOption = False,
    assume_seconds: SecondsOption = None,
    leave: Annotated[
        list[str] | None,
        typer.Option(
            "--leave",
            metavar="REASON",
            help="Go on although documents are refused for this reason; they stay in the copy. May be repeated.",
        ),
    ] = None,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="End an interrupted take-over: the old index takes writes again.")
    ] = False,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Take the place of an index that has the alias's name, `speakers`.

    Its vectors are read into the database, it is blocked for writing, compared, copied as a whole, and then replaced by the
    alias in one step. Until that step it is there as it was; after any interruption this can be run again.
    """
    session = Session.of(ctx, as_json)
    options = _options(generation, field, fields, library, known_only, assume_seconds, False)
    with session.open(start=False) as db:
        takeover = db.adoption.takeover
        if give_up:
            session.result(takeover.give_up(), show_adoption)
            return

        def look() -> AdoptReport:
            return takeover.preview(options, on_progress=lambda at: _tell(session, at))

        def question(_: AdoptReport) -> str:
            return "Stop whatever writes this index, and take its place?"

        if _agreed(session, look, show_adoption, question, dry_run=dry_run, yes=yes):
            report = takeover.run(options, leave=leave or (), on_progress=lambda at: _tell(session, at))
            session.result(report, show_adoption)


def _agreed(
    session: Session,
    look: Callable[[], Report],
    show: Callable[[Console, Report], None],
    question: Callable[[Report], str],
    *,
    dry_run: bool,
    yes: bool,
) -> bool:
    """Whether to go on: what would be done is looked at and shown first, unless the answer is known to be yes."""
    if yes and not dry_run:
        return True
    if not dry_run:
        session.check_terminal()
    report = look()
    if dry_run:
        session.result(report, show)
        return False
    session.show(lambda console: show(console, report))
    session.confirm(question(report), yes=yes)
    return True


def _options(
    generation: str | None,
    field: list[str] | None,
    fields: Path | None,
    library: str,
    known_only: bool,
    assume_seconds: float | None,
    extract_again: bool,
) -> ImportOptions:
    from speakerdb.adoption import ImportOptions
    from speakerdb.core.field_map import parse_fields, read_map

    said: dict[str, str] = {}
    if fields is not None:
        try:
            with fields.open("rb") as file:
                text = file.read(MAX_MAP_BYTES + 1).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(
                f"The field map {fields} cannot be read: {error}.", hint="Give a TOML or JSON file."
            ) from error
        if len(text) > MAX_MAP_BYTES:
            raise InvalidInput(f"{fields} is no field map: it is too large.", hint="Give a TOML or JSON file.")
        said = read_map(text, toml=fields.suffix.lower() == ".toml")
    return ImportOptions(
        generation, said | parse_fields(field or ()), library, known_only, assume_seconds, extract_again
    )


def _tell(session: Session, at: ImportProgress) -> None:
    if at.documents in (0, at.total) or session.err.is_terminal:
        session.note(f"{at.index}: {at.doing} {at.documents:,} of {at.total:,} documents")


def show_import(console: Console, report: ImportReport) -> None:
    """What a pass over an index did, or would do, and what comes next."""
    _show_pass(console, report)
    if report.next:
        say(console, f"next: {report.next}")


def _show_pass(console: Console, report: ImportReport) -> None:
    fields = ", ".join(f"{name} = {field}" for name, field in report.fields.items())
    say(console, f"{clean(report.index)} holds vectors of {report.generation}; fields: {clean(fields)}")
    would = "would be " if report.dry_run else ""
    parts = [f"{report.imported:,} {would}imported"]
    parts += [f"{report.updated:,} {would}updated"] if report.updated else []
    parts += [f"{report.present:,} there already"] if report.present else []
    parts += [f"{report.kept:,} with another vector in the database, which stays"] if report.kept else []
    parts += [f"{report.refusals:,} refused"] if report.refusals else []
    say(console, f"{plural(report.documents, 'document')}: {', '.join(parts)}")
    made = [
        plural(count, word)
        for count, word in (
            (report.recordings, "recording"),
            (report.speakers, "speaker"),
            (report.profiles, "profile"),
        )
        if count
    ]
    if made:
        say(console, f"{'to be made' if report.dry_run else 'made'}: {', '.join(made)}")
    if report.normalised:
        say(console, f"{plural(report.normalised, 'vector')} {would}brought to unit norm")
    if report.without_seconds:
        say(
            console,
            f"{plural(report.without_seconds, 'document')} without seconds of speech: {report.assumed_seconds:g} s assumed",
        )
    for group in report.refused:
        shown = ", ".join(clean(one) for one in group.examples)
        say(console, f"refused[{group.reason}]: {group.count:,}, each {group.sentence}: {shown}")
    if report.queued:
        say(console, f"{plural(report.queued, 'recording')} queued to be extracted again")


def show_adoption(console: Console, report: AdoptReport) -> None:
    """What a take-over did, would do, or that it was given up."""
    if report.taken is not None:
        _show_pass(console, report.taken)
    if report.done:
        say(console, f"The alias speakers names {report.index}.")
        if report.copy is not None:
            say(
                console,
                f"The old index is kept as {report.copy}, blocked for writing. Delete it in the cluster when nothing misses it.",
            )
        say(console, "next: speakerdb status")
    elif report.taken is None:
        blocked = "is still blocked for writing" if report.blocked else "takes writes"
        say(console, f"The index {report.index} {blocked}; what was read stays in the database.")
    else:
        if report.taken.refused:
            leave = " ".join(f"--leave {group.reason}" for group in report.taken.refused)
            say(console, f"What is refused stops a take-over: mend it, or leave it in the copy with `{leave}`.")
        say(console, "next: stop whatever writes it, then speakerdb index adopt with the same options")
