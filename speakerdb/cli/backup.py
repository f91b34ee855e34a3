"""`speakerdb backup` and `speakerdb restore`: the database is all that must be kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from speakerdb.cli.output import facts, plural, size, when
from speakerdb.cli.session import JsonFlag, Session, WhyOption, YesFlag
from speakerdb.cli.show import say

if TYPE_CHECKING:
    from speakerdb.reports.rebuilding import BackupReport, RestoreReport


def backup(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, or a folder to write it to.")],
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a copy of the database while it is in use. Indices are not needed: they are built again from it.

    Media files and the settings file are not in it.
    """
    from speakerdb.backup import back_up

    session = Session.of(ctx, as_json)
    with session.open() as db:
        report = back_up(db.catalog, target, who=db.who, why=why)
    session.result(report, show_backup)


def restore(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `speakerdb backup` wrote.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the file and say what is in it.")] = False,
    why: WhyOption = None,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a backup in the place of the database. What is there is kept beside it. Asks first.

    Needs the library alone. The indices are then ahead of the database: build them again with
    `speakerdb index rebuild --all`.
    """
    from speakerdb.backup import described, restore_library

    session = Session.of(ctx, as_json)
    settings = session.settings()
    info = described(source)
    session.show(lambda console: show_restore(console, info))
    if dry_run:
        session.result(info, lambda *_: None)
        return
    session.confirm(f"Put it in the place of the database of {settings.data_dir}?", yes=yes)
    report = restore_library(settings, source, why=why)
    session.result(report, _show_restored)


def show_backup(console: Console, report: BackupReport) -> None:
    """One backup that was made."""
    say(
        console,
        f"{report.path}: {size(report.size)}, {plural(report.recordings, 'recording')},"
        f" {plural(report.speakers, 'speaker')}, {plural(report.profiles, 'profile')}, generations"
        f" {', '.join(report.live)}; in {report.seconds:.1f} s.",
    )


def show_restore(console: Console, report: RestoreReport) -> None:
    """What a backup holds."""
    console.print(
        facts(
            (
                ("backup", report.path),
                ("newest event", when(report.made_at)),
                ("recordings", f"{report.recordings:,}"),
                ("speakers", f"{report.speakers:,}"),
                ("profiles", f"{report.profiles:,}"),
                ("live generations", ", ".join(report.live)),
            )
        )
    )


def _show_restored(console: Console, report: RestoreReport) -> None:
    if report.kept is not None:
        say(console, f"The database that was there is kept as {report.kept}.")
    say(console, "Restored. The indices may hold what this database does not know.")
    say(console, "next: `speakerdb index rebuild --all`")
