"""`speakerdb`: the command line. Thin verbs over the service; here errors become an exit code and the next step."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from speakerdb import __version__
from speakerdb.cli import (
    add,
    alias,
    backup,
    db,
    demo,
    diarize,
    doctor,
    explain,
    index,
    lease,
    live_settings,
    match,
    media,
    migrate,
    models,
    overlaps,
    plot,
    profiles,
    recipe,
    recordings,
    rediarize,
    repair,
    serve,
    speakers,
    statistics,
    status,
    support,
    token,
    transcripts,
    undo,
    work,
)
from speakerdb.cli.output import INTERNAL_EXIT, document, error_document, print_error
from speakerdb.cli.session import Session
from speakerdb.errors import SpeakerDBError, StorageFull

INTERRUPTED_EXIT = 130
IO_EXIT = 74
USAGE_EXIT = 2


class Interrupted(Exception):
    """Ctrl-C, by a name that Typer does not know: it would end without a word, also where JSON was asked for."""


class _Group(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # A verb that takes files may have a second one under its name: `diarize FILE` and `diarize evaluate`.
        if " ".join(args[:2]) in self.commands:
            args = [" ".join(args[:2]), *args[2:]]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


app = typer.Typer(
    name="speakerdb",
    cls=_Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Keeps the voices of a media library searchable while the model that describes them is replaced.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(add.add)
app.command()(add.remove)
app.command()(work.work)
app.command()(serve.serve)
app.command()(match.match)
app.command()(diarize.diarize)
app.command("diarize evaluate")(diarize.evaluate)
app.command()(rediarize.rediarize)
app.add_typer(rediarize.app, name="assignments")
app.command()(transcripts.label)
app.add_typer(transcripts.app, name="transcripts")
app.add_typer(migrate.app, name="migrate")
app.add_typer(speakers.app, name="speakers")
app.add_typer(profiles.app, name="profiles")
app.command()(undo.undo)
app.add_typer(recordings.app, name="recordings")
app.add_typer(media.app, name="media")
app.command()(status.status)
app.command()(status.events)
app.command()(explain.explain)
app.command()(plot.plot)
app.add_typer(overlaps.app, name="overlaps")
app.add_typer(statistics.app, name="statistics")
app.command()(backup.backup)
app.command()(backup.restore)
app.add_typer(token.app, name="token")
app.add_typer(db.app, name="db")
app.add_typer(index.app, name="index")
app.add_typer(repair.app, name="repair")
app.add_typer(alias.app, name="alias")
app.add_typer(lease.app, name="lease")
app.add_typer(live_settings.app, name="live")
app.add_typer(models.app, name="models")
app.add_typer(recipe.app, name="recipe")
app.command()(doctor.doctor)
app.command("support-bundle")(support.support_bundle)
app.command()(demo.demo)


@app.callback(invoke_without_command=True)
def options(
    ctx: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the catalog and the index (SPEAKERDB_DATA_DIR).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file, TOML (SPEAKERDB_CONFIG).")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more; errors come with their cause.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    session = Session.of(ctx)
    session.data_dir, session.config, session.verbose = data_dir, config, verbose
    if version:
        typer.echo(f"speakerdb {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Every exception ends here."""
    given = list(sys.argv[1:] if args is None else args)
    session = Session(sys.stdout, json="--json" in given)
    exit_code = _run(session, given)
    session.end_log(exit_code)
    return exit_code


def _run(session: Session, given: list[str]) -> int:
    with _only_json(session):
        try:
            return int(app(given, prog_name="speakerdb", standalone_mode=False, obj=session) or 0)
        except SpeakerDBError as error:
            return _fail(session, error)
        except TyperException as error:
            return _usage(session, error)
        except (Interrupted, KeyboardInterrupt, typer.Abort):
            return _report(session, "interrupted", "Interrupted.", "Run it again to continue.", INTERRUPTED_EXIT)
        except BrokenPipeError:
            # Whoever read our output has seen enough. Python would complain once more when it closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
            return 1
        except OSError as error:
            return _os_error(session, error)
        except UnicodeEncodeError:
            # Only a word that was given can hold half a character: what is in files is checked where it is read.
            return _report(
                session, "usage", "A word that was given is not text in UTF-8.", "Type it again.", USAGE_EXIT
            )
        except Exception as error:  # noqa: BLE001 - the last door: what nobody expected is said, with its own exit code
            session.error = error
            if session.verbose:
                traceback.print_exc()
            hint = (
                "This is a bug in speakerdb. Run it again with `--verbose` (before the verb) and report what it prints."
            )
            return _report(session, "internal", f"{type(error).__name__}: {error}", hint, INTERNAL_EXIT)


@contextlib.contextmanager
def _only_json(session: Session) -> Iterator[None]:
    """With `--json`, what a library prints to standard output goes to standard error instead."""
    if not session.json:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _fail(session: Session, error: SpeakerDBError) -> int:
    session.error = error
    if session.verbose:
        traceback.print_exception(error)
    return _report(session, error.code, error.message, error.hint, error.exit_code, error.details)


def _usage(session: Session, error: TyperException) -> int:
    message = error.format_message()
    if not message:  # a group without a verb has printed its help
        return USAGE_EXIT
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "speakerdb"
    return _report(session, "usage", message, f"See `{command} --help`.", error.exit_code)


def _os_error(session: Session, error: OSError) -> int:
    if session.verbose:
        traceback.print_exception(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _fail(
            session,
            StorageFull(f"There is no room left on the disk: {error}.", hint="Free some room and run it again."),
        )
    return _report(session, "io", f"{error}.", "Look at the file or folder it names, and run it again.", IO_EXIT)


def _report(
    session: Session, code: str, message: str, hint: str, exit_code: int, details: dict[str, object] | None = None
) -> int:
    with contextlib.suppress(BrokenPipeError):
        if session.json:
            session.stdout.write(document(error_document(code, message, hint, details or {}, exit_code)) + "\n")
            session.stdout.flush()
        else:
            print_error(code, message, hint)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
