"""Where one thing stands in one generation, why, and what happens next: rules over what was read. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from speakerdb.core.commands import option
from speakerdb.core.health import WORK, mending_command
from speakerdb.reports.seeing import DocumentState, FileSeen, Place, Waiting, WorkState

State = Literal["embedded", "stale", "unembeddable", "waiting", "working", "failed", "waived", "absent"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What was read about a recording, a speaker or a profile in one generation."""

    generation: str
    live: bool
    serving: bool
    recording_id: str | None
    """The recording that is extracted for it; None for a profile, which is pooled."""
    known: bool
    """There is an embedding (or the word that there can be none), of whatever content."""
    current: bool
    """It was made from the thing as it is now."""
    unembeddable: str | None
    work: WorkState | None
    waiting: Waiting | None
    """Why its work item is in the queue."""
    worked_on: bool
    """Somebody works on the queue."""
    file: FileSeen | None
    document: DocumentState | None = None
    documents: Mapping[str, int] = field(default_factory=dict)
    speakers: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    segments: int | None = None
    agreement: float | None = None


def place_of(seen: Standing) -> Place:
    """Where it stands, and what happens next."""
    state, why = _state(seen)
    then, command = _next(seen, state)
    return Place(
        generation=seen.generation,
        live=seen.live,
        serving=seen.serving,
        state=state,
        why=why,
        next=then,
        command=command,
        work=seen.work,
        seconds=seen.seconds,
        segments=seen.segments,
        agreement=seen.agreement,
        document=seen.document,
        speakers=seen.speakers,
        documents=seen.documents,
    )


def _state(seen: Standing) -> tuple[State, str]:
    work = seen.work
    if work is not None and work.state == "taken":
        return "working", f"attempt {work.attempts}"
    if seen.current:
        return ("embedded", "") if seen.unembeddable is None else ("unembeddable", seen.unembeddable)
    if work is not None and work.state == "failed":
        return "failed", f"{work.code} after {_times(work.attempts)}: {work.message or 'no message'}"
    if work is not None and work.state == "waived":
        return "waived", work.waived_why or ""
    if work is None and seen.recording_id is not None:
        return ("stale", "it has changed since") if seen.known else ("absent", "nobody has asked for it")
    if seen.recording_id is None and not seen.live:
        return ("stale", "its members have changed since") if seen.known else ("absent", "nobody has asked for it")
    tried = ""
    if work is not None and work.code is not None:
        tried = f"; tried before: {work.code}: {work.message or 'no message'}"
    changed = "its members have changed" if seen.recording_id is None else "it has changed since"
    return ("stale", f"{changed}{tried}") if seen.known else ("waiting", f"not extracted yet{tried}")


def _next(seen: Standing, state: State) -> tuple[str, str]:
    """What happens next, and the command that makes it happen where it does not by itself."""
    if state == "working":
        if seen.worked_on:
            return "It is being extracted now.", ""
        return "The process that had taken it is gone; the next one takes it again.", WORK
    if not seen.live:
        return "Nothing: this generation is not live. A migration to it would bring it up to date.", ""
    if state == "failed":
        return _after_failure(seen)
    if state == "waived":
        return "It may be missing, on a person's word.", _retry(seen)
    if state in ("embedded", "unembeddable"):
        return _after_extraction(seen, state)
    if seen.waiting is not None:
        return seen.waiting.message, seen.waiting.command
    if state == "absent":
        return "It was never queued for this generation: give it again.", "speakerdb add"
    return "It is pooled from its members.", "" if seen.worked_on else WORK


def _after_failure(seen: Standing) -> tuple[str, str]:
    code = "" if seen.work is None or seen.work.code is None else seen.work.code
    again = _retry(seen)
    if seen.file is not None and seen.file.state == "in-memory":
        return "Its sound was given in memory and is gone: add it again with its sound, or let it be missing.", ""
    if seen.file is not None and seen.file.state in ("missing", "changed", "forbidden"):
        return f"Its file is {seen.file.state}: mend that, then try it again with `{again}`.", mending_command(code)
    return "Mend what the message says, then try it again.", again


def _retry(seen: Standing) -> str:
    assert seen.recording_id is not None  # a profile has no work item
    return "speakerdb migrate retry" + option("--recording", seen.recording_id)


def _after_extraction(seen: Standing, state: State) -> tuple[str, str]:
    queued = seen.waiting is not None
    again = " It is in the queue to be extracted again." if queued else ""
    command = seen.waiting.command if seen.waiting is not None else ""
    document = seen.document
    rebuild = f"speakerdb index rebuild {seen.generation}"
    if document is not None and document.rejection is not None:
        return f"The index refused its document: {document.rejection}.", rebuild
    states = set(seen.documents) if document is None else {document.state}
    behind = document is not None and document.version > document.indexed_version
    if behind or "waiting" in states:
        return "Its document is to be written to the index." + again, command if seen.worked_on else WORK
    if wrong := sorted(states & {"missing", "stale", "different", "vector", "ahead", "no-index", "rejected"}):
        return f"The index does not hold what it should ({', '.join(wrong)}).", rebuild
    if state == "unembeddable":
        return "Nothing: there is not enough clean speech." + again, command
    return "Nothing: it can be searched." + again, command


def first_to_do(places: Iterable[Place]) -> tuple[str, str]:
    """What to do first about a thing: where it serves before the other live generations."""
    ordered = sorted(places, key=lambda place: (not place.serving, not place.live))
    for place in ordered:
        if place.live and place.command:
            return f"{place.generation}: {place.next}", place.command
    return (ordered[0].next, "") if ordered else ("", "")


def _times(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"
