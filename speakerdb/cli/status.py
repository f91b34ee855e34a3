"""`speakerdb status` and `speakerdb events`."""

from __future__ import annotations

import difflib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import orjson
import typer

from speakerdb.cli.live import StopSignals
from speakerdb.cli.output import clean, plural
from speakerdb.cli.screens import event_line, show_events, show_status
from speakerdb.cli.session import MAX_COUNT, JsonFlag, Session
from speakerdb.cli.show import say
from speakerdb.errors import InvalidInput
from speakerdb.events import KINDS
from speakerdb.reports import as_json as plain
from speakerdb.reports.seeing import EventFilter

if TYPE_CHECKING:
    from speakerdb.service import SpeakerDB

FOLLOW_SECONDS = 1.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """What serves, what runs, what waits and why, what is broken and the command that mends it."""
    session = Session.of(ctx, as_json)
    with session.look() as db:
        session.result(db.status(), show_status)


def events(
    ctx: typer.Context,
    kind: Annotated[list[str] | None, typer.Option(metavar="KIND", help="Only of this kind; may be repeated.")] = None,
    entity: Annotated[
        str | None, typer.Option(metavar="ID", help="Only about this recording, speaker, profile or generation.")
    ] = None,
    who: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this person did.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Not before: a time (2026-05-01T12:00, UTC) or an age (2h, 3d).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Before: a time or an age.")] = None,
    migration: Annotated[int | None, typer.Option(metavar="N", help="Only of this migration.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_COUNT, metavar="N", help="List at most N.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print new ones as they come, until Ctrl-C; with --since, first those.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all that match as JSON Lines, oldest first; - is standard output."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Who did what, when and why, newest first. With `--follow`, `--json` prints JSON Lines."""
    session = Session.of(ctx, as_json)
    if follow and export is not None:
        raise InvalidInput(
            "--follow and --export do not go together.", hint="Follow, and send what is printed to a file."
        )
    now = time.time()
    where = EventFilter(
        kinds=tuple(_known_kind(one) for one in kind or ()),
        who=None if who is None else _text(who),
        since=None if since is None else _instant(since, now),
        until=None if until is None else _instant(until, now),
        migration=migration,
    )
    with session.look() as db:
        if entity is not None:
            where = replace(where, entity=db.overview.entity(_text(entity)))
        if follow:
            raise typer.Exit(_follow(session, db, where))
        if export is not None:
            _export(session, db, where, export)
        else:
            session.result(db.overview.events(where, limit=limit), show_events)


def _known_kind(given: str) -> str:
    if given in KINDS:
        return given
    near = difflib.get_close_matches(given, KINDS, n=3)
    raise InvalidInput(
        f"There is no kind of event {given!r}.",
        hint=f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(sorted(KINDS))}.",
    )


def _text(given: str) -> str:
    """`InvalidInput` for what no database can hold: bytes that are no text, as a shell may pass them on."""
    if not given.isprintable():
        raise InvalidInput(f"{clean(given)!r} holds characters that cannot be looked for.", hint="Give plain text.")
    return given


def _instant(given: str, now: float) -> int:
    """Microseconds since the epoch of a time, or of an age like ``2h``. A time without a zone is UTC, as all that is shown."""
    ago = _AGO.fullmatch(given.strip())
    try:
        if ago is not None:
            return int((now - float(ago[1]) * _UNITS[ago[2]]) * 1e6)
        at = datetime.fromisoformat(given.strip())
        return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1e6)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{given!r} is neither a time nor an age.",
            hint="Give a time like 2026-05-01 or 2026-05-01T12:00, or an age like 90s, 15m, 2h, 3d, 1w.",
        ) from error


def _line(event: Mapping[str, Any]) -> bytes:
    return orjson.dumps(plain(event)) + b"\n"


def _follow(session: Session, db: SpeakerDB, where: EventFilter) -> int:
    """Print what comes until somebody stops it. Ctrl-C is the ordinary end; another signal gives 128 and its number."""
    after = 0 if where.since is not None else db.overview.last_event()
    with StopSignals() as stop:
        for event in followed(db, where, after, stop, _pause):
            session.stdout.write(_line(event).decode() if session.json else event_line(event) + "\n")
            session.stdout.flush()
    return 0 if stop.signum is None or stop.signum == signal.SIGINT else 128 + stop.signum


def followed(
    db: SpeakerDB, where: EventFilter, after: int, stop: Callable[[], bool], pause: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Events that match and come after one (by number), for as long as `stop()` is false; `pause()` between two looks."""
    while not stop():
        # What does not match is passed over once: the next look begins behind it.
        newest = db.overview.last_event()
        for event in db.overview.all_events(where, after=after):
            newest = max(newest, event["id"])
            yield event
            if stop():
                return
        after = newest
        pause()


def _pause() -> None:
    time.sleep(FOLLOW_SECONDS)


def _export(session: Session, db: SpeakerDB, where: EventFilter, file: Path) -> None:
    found = db.overview.all_events(where)
    if str(file) == "-":
        for event in found:
            session.stdout.write(_line(event).decode())
        session.stdout.flush()
        return
    if not file.absolute().parent.is_dir():
        raise InvalidInput(f"There is no folder {file.absolute().parent}.", hint="Make it first, or name another file.")
    count = 0
    with _written_beside(file) as out:
        for event in found:
            out.write(_line(event))
            count += 1
    text = f"{plural(count, 'event')} written to {clean(file)}."
    session.result({"events": count, "file": str(file)}, lambda console, _: say(console, text))


@contextmanager
def _written_beside(file: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place only when all of it is written."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as out:
            yield out
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
