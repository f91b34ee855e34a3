"""The status, the events and the explanation of one thing, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from speakerdb.cli.output import cell, clock, document, facts, plural, table, when
from speakerdb.cli.show import pace_text, pairs, say, show_current, show_progress, waiting_text
from speakerdb.reports import Status
from speakerdb.reports.live import LiveSettings
from speakerdb.reports.seeing import Explanation, LeaseView, Place, Problem

_DOES = {"work": "works on the queue", "migration": "moves an alias or builds an index", "repair": "compares and mends"}
_LENGTHS = {"seconds": "length", "speech_seconds": "speech"}


def show_status(console: Console, status: Status) -> None:
    """One screen: what serves, what runs, what waits and why, what is broken and the command that mends it."""
    console.print(
        facts(
            (
                ("serving", f"{status.serving} ({status.index})"),
                ("live generations", ", ".join(status.live)),
                (
                    "library",
                    f"{plural(status.recordings, 'recording')}, {plural(status.speakers, 'speaker')},"
                    f" {plural(status.profiles, 'profile')}; {status.libraries:,} named"
                    f" {'library' if status.libraries == 1 else 'libraries'}",
                ),
                ("data folder", status.data_dir),
                ("database", status.database),
            )
        )
    )
    for one in status.preferences:
        where = "" if one.library is None else f" for the library {one.library}"
        say(console, f"preferred{where}: {one.text}. {one.reason}")
    show_progress(console, status.progress)
    if not status.recordings:
        say(console, "The library is empty. next: speakerdb add FILE --turns FILE")
    for lease in status.leases:
        if lease.state != "free":
            say(console, lease_text(lease))
    show_current(console, status.current)
    for name, pace in status.pace.items():
        say(console, f"pace {name}: {pace_text(pace)}")
    for name, told in status.backends.items():
        say(console, f"computed {name}: {told}")
    for wait in status.waiting:
        say(console, f"waiting {waiting_text(wait)}")
    view = status.migration
    if view is not None:
        paused = f", paused: {view.pause_reason or 'no reason given'}" if view.paused else ""
        until = f", roll-back until {when(view.rollback_until)}" if view.state == "finalized" else ""
        say(console, f"migration {view.id}: {view.source} to {view.target}, {view.state}{paused}{until}")
        if view.next_step:
            say(console, f"next: {view.next_step}")
    show_problems(console, status.problems)


def lease_text(lease: LeaseView) -> str:
    """Which process has a lease, since when, and whether it still lives."""
    who = f"process {lease.pid} on {lease.host}" if lease.pid is not None else f"{lease.holder}"
    if lease.state == "held":
        return f"{lease.name}: {who} {_DOES.get(lease.name, 'is at it')} since {when(lease.since)}"
    gone = "is gone" if lease.state == "gone" else f"has not been heard of since {when(lease.expires_at)}"
    return f"{lease.name}: {who} {gone}; whoever comes next takes over"


def show_leases(console: Console, leases: Sequence[LeaseView]) -> None:
    """Every lease, one row each."""
    columns = ("lease", "state", "host", "process", "since", "until", "epoch")
    rows = [
        (one.name, one.state, one.host, one.pid, _at(one.since, one), _at(one.expires_at, one), one.epoch)
        for one in leases
    ]
    console.print(table(columns, rows, right=("epoch",)))


def _at(instant: int | None, lease: LeaseView) -> str | None:
    return None if lease.state == "free" else when(instant)


def show_live(console: Console, settings: LiveSettings) -> None:
    """What is set live, with who and why."""
    if not settings.rows:
        say(console, "Nothing is set. See `speakerdb live set --help` for what can be.")
        return
    columns = ("setting", "library", "value", "who", "why", "since")
    rows = [
        (one.name, one.library or "all", one.value, one.who, one.why, when(one.updated_at)) for one in settings.rows
    ]
    console.print(table(columns, rows))


def show_problems(console: Console, problems: Sequence[Problem]) -> None:
    """What is broken or waits for a person, errors first, each with the command that mends it."""
    if not problems:
        say(console, "problems: none")
        return
    say(console, f"problems: {len(problems)}")
    for problem in problems:
        say(console, f"  {problem.severity}[{problem.code}]: {' '.join(problem.message.split())}")
        if problem.command:
            say(console, f"    next: {problem.command}")


def show_events(console: Console, events: Iterable[Mapping[str, Any]]) -> None:
    """The audit trail, one row an event."""
    rows = [
        (
            e.get("id"),
            when(e.get("at")),
            e.get("kind"),
            e.get("who"),
            e.get("migration"),
            e.get("entity"),
            e.get("why"),
            _data(e.get("data")),
        )
        for e in events
    ]
    console.print(table(("id", "at", "kind", "who", "migration", "entity", "why", "data"), rows))


def event_line(event: Mapping[str, Any]) -> str:
    """One event in one line, for whoever follows them."""
    parts = [when(event.get("at")), event.get("kind"), f"by {event.get('who')}"]
    if event.get("entity"):
        parts.append(event["entity"])
    if event.get("why"):
        parts.append(f"because {event['why']}")
    return "  ".join(cell(part) for part in (*parts, _data(event.get("data"))) if part)


def _data(data: object) -> str:
    return " ".join(document(data).split()) if data else ""


def show_explanation(console: Console, found: Explanation) -> None:
    """Where one thing stands in each generation, and what happens next."""
    shown = [("id", found.id), ("is a", found.kind), *(_fact(name, value) for name, value in found.facts.items())]
    if found.file is not None:
        shown.append(("file", f"{found.file.state}: {found.file.message}" if found.file.message else found.file.state))
    console.print(facts(shown))
    if found.places:
        columns = ("generation", "state", "why", "speech", "version", "indexed", "document", "next")
        console.print(table(columns, [_place(place) for place in found.places], right=("version", "indexed")))
    if found.speakers:
        rows = [(s["id"], s["label"], s["name"], pairs(s["generations"])) for s in found.speakers]
        console.print(table(("speaker", "label", "name", "generations"), rows))
    if found.events:
        told = [(e["id"], when(e["at"]), e["kind"], e["who"], e["why"], _data(e["data"])) for e in found.events]
        console.print(table(("event", "at", "kind", "who", "why", "data"), told))
    say(console, f"next: {found.command}" if found.command else f"next: {found.next}")
    if found.command and found.next:
        say(console, f"  {found.next}")


def _fact(name: str, value: object) -> tuple[str, object]:
    if name in _LENGTHS and isinstance(value, (int, float)):
        return _LENGTHS[name], clock(value)
    return name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def _place(place: Place) -> tuple[object, ...]:
    marks = [word for word, holds in (("serving", place.serving), ("not live", not place.live)) if holds]
    speech = None if place.seconds is None else f"{clock(place.seconds)} in {plural(place.segments or 0, 'segment')}"
    document_ = place.document
    held: str = "" if document_ is None else document_.state
    if place.documents:
        held = ", ".join(f"{count} {name}" for name, count in place.documents.items())
    return (
        place.generation + (f" ({', '.join(marks)})" if marks else ""),
        place.state,
        place.why,
        speech,
        None if document_ is None else document_.version,
        None if document_ is None else document_.indexed_version,
        held,
        place.command or place.next,
    )
