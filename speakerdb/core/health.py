"""What is broken, what waits and why: rules over what was read, each with the command that mends it. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from speakerdb.core.commands import command
from speakerdb.core.lifecycle import State
from speakerdb.core.turns import DIARIZE
from speakerdb.errors import (
    ConfigurationError,
    DiarizerRefused,
    DimensionMismatch,
    ModelUnavailable,
    NamesUnmapped,
    SpeakerDBError,
    TooFewVoices,
)
from speakerdb.reports.live import Halt
from speakerdb.reports.seeing import ErrorGroup, LeaseView, Problem, Waiting

WORK = "speakerdb work"
MEDIA_CHECK = "speakerdb media check"
_FAULTS: tuple[type[SpeakerDBError], ...] = (
    ModelUnavailable, *ModelUnavailable.__subclasses__(), DimensionMismatch,
)  # fmt: skip
MODEL_FAULTS = frozenset(cls.code for cls in _FAULTS)
"""Codes of errors that keep a generation's model from being used, whatever recording it was tried with."""
DIARIZER_FAULTS = MODEL_FAULTS | {DiarizerRefused.code, ConfigurationError.code}
"""The same of the diarizer."""
_LOOK_AT_FILES = frozenset({"media-missing", "media-changed", "media-forbidden"})


@dataclass(frozen=True, slots=True)
class GenerationFacts:
    """What was read about one live generation."""

    name: str
    index: str
    index_there: bool
    queued: int
    """Recordings that are queued or taken."""
    held_back: int
    """Those of them that belong to a paused migration."""
    taken: int
    dirty_profiles: int
    documents_waiting: int
    rejected: int
    rejection: str | None
    model_fault: tuple[str, str] | None
    """Code and message of the error that keeps its model from being loaded, as the last run wrote it down."""
    errors: tuple[ErrorGroup, ...]
    misled: str | None = None
    """What is wrong with its aliases."""
    waived: int = 0
    """Of the documents that its index refuses, those that may stay so on a person's word."""


@dataclass(frozen=True, slots=True)
class TurnsFacts:
    """What was read about recordings that are to be diarized, as of a generation."""

    name: str
    queued: int
    held_back: int
    model_fault: tuple[str, str] | None
    errors: tuple[ErrorGroup, ...]


@dataclass(frozen=True, slots=True)
class MigrationFacts:
    """What was read about the migration that is not at its end."""

    source: str
    target: str
    state: State
    paused: bool
    pause_reason: str | None
    rollback_until: int | None
    source_lag: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read, at one point in time."""

    now: int
    serving: str | None
    """The generation the alias names; None where it does not say."""
    stated: str | None
    """The generation that should serve by what SQL knows; None where only the alias can tell."""
    generations: tuple[GenerationFacts, ...]
    migration: MigrationFacts | None
    work: LeaseView | None
    migrating: LeaseView | None
    fence_until: int | None
    disk_free: int
    disk_floor: int
    old_cache: str | None
    """What the variable PYANNOTE_CACHE is set to."""
    left_over: Mapping[str, str] = field(default_factory=dict)
    """Concrete indices that nothing needs, and the generations they were made for."""
    halt: Halt | None = None
    """Why nothing is to be extracted now."""
    turns: TurnsFacts | None = None


def retry_command(code: str, recording_id: str = "RECORDING", options: str = "") -> str:
    """Queue all recordings that failed with a code again. Where a person must look first, at one of them, what shows it.

    `options`: what was asked of that one's diarization, as the command line takes it.
    """
    if code == NamesUnmapped.code:
        return command("rediarize", recording_id, options=f"{options} --dry-run")
    if code == TooFewVoices.code:
        return command("rediarize", recording_id)  # with no number: the same number would fail again
    return f"speakerdb migrate retry --code {code}"


def mending_command(code: str) -> str:
    """What to do first about recordings that failed with a code."""
    return MEDIA_CHECK if code in _LOOK_AT_FILES else retry_command(code)


def waiting(facts: Facts) -> tuple[Waiting, ...]:
    """For each lane with recordings in the queue: why nothing is done with them, or that something is."""
    lanes = (*(() if facts.turns is None else (facts.turns,)), *facts.generations)
    pause_reason = None if facts.migration is None else facts.migration.pause_reason
    return tuple(
        found
        for one in lanes
        for found in why_waiting(
            one.name, one.queued, one.held_back,
            pause_reason=pause_reason, fence_until=facts.fence_until, model_fault=one.model_fault, work=facts.work,
            halt=facts.halt,
        )
    )  # fmt: skip


def why_waiting(
    generation: str,
    queued: int,
    held_back: int,
    *,
    pause_reason: str | None,
    fence_until: int | None,
    model_fault: tuple[str, str] | None,
    work: LeaseView | None,
    halt: Halt | None = None,
) -> Iterator[Waiting]:
    """Why so many recordings of one lane are in the queue; `held_back` of them belong to a paused migration."""
    if held_back:
        yield Waiting(
            generation, held_back, "paused", f"The migration is paused: {pause_reason or 'no reason was given'}.",
            "speakerdb migrate resume",
        )  # fmt: skip
    count = queued - held_back
    if not count:
        return
    if fence_until is not None:
        message = "A finalize makes writers wait for some seconds; it goes on by itself."
        yield Waiting(generation, count, "writes-fenced", message, "")
    elif halt is not None:
        yield Waiting(generation, count, halt.reason, halt.message, halt.command)
    elif model_fault is not None:
        what = "The diarizer cannot be used" if generation == DIARIZE else "Its model cannot be loaded"
        message = f"{what} ({model_fault[0]}): {model_fault[1]}"
        yield Waiting(generation, count, "model-unavailable", message, "speakerdb doctor")
    elif work is not None and work.held:
        yield Waiting(generation, count, "working", f"{process(work)} works on the queue.", "")
    elif work is not None and work.state == "gone":
        message = f"{process(work)} worked on the queue and is gone; what it had taken is taken again."
        yield Waiting(generation, count, "holder-gone", message, WORK)
    else:
        yield Waiting(generation, count, "nobody-works", "Nobody works on the queue.", WORK)


def process(lease: LeaseView) -> str:
    """A lease's holder, as a person would say it."""
    return f"Process {lease.pid} on {lease.host}" if lease.pid is not None else f"{lease.holder}"


def problems(facts: Facts, waits: Iterable[Waiting]) -> tuple[Problem, ...]:
    """Everything a person should know of, errors first, in a fixed order."""
    found = [*_of_serving(facts), *_of_queue(waits), *_of_migration(facts), *_of_machine(facts)]
    if facts.turns is not None:
        found += _of_errors(facts.turns, "could not be diarized")
    for one in facts.generations:
        found += _of_generation(facts, one)
    return tuple(sorted(found, key=lambda problem: problem.severity != "error"))


def astray(facts: Facts) -> bool:
    """Whether an alias names something else than it should."""
    return _disagrees(facts) or any(one.misled is not None for one in facts.generations)


def _disagrees(facts: Facts) -> bool:
    return facts.serving is not None and facts.stated is not None and facts.serving != facts.stated


def _of_serving(facts: Facts) -> Iterator[Problem]:
    if _disagrees(facts):
        yield Problem(
            "alias-disagrees", "error",
            f"The alias lets {facts.serving} serve, and by the database it should be {facts.stated}: somebody moved the "
            "alias by hand, or one of the two was restored. Nothing moves it by itself.",
            f"speakerdb index rebuild {facts.stated} --serve", generation=facts.stated,
        )  # fmt: skip
    if facts.left_over:
        live = [one.name for one in facts.generations]
        named = [*(owner for owner in facts.left_over.values() if owner in live), facts.stated, facts.serving, *live]
        first = next((name for name in named if name is not None), "--all")
        yield Problem(
            "index-left-over", "warning",
            f"Nothing needs the index {' and the index '.join(facts.left_over)} any more: whoever was to drop it died, or the"
            " database was restored. What was removed from the library since may still be in it.",
            f"speakerdb index rebuild {first}",
        )  # fmt: skip


def _of_queue(waits: Iterable[Waiting]) -> Iterator[Problem]:
    for wait in waits:
        if wait.reason == "model-unavailable":
            yield Problem(wait.reason, "error", wait.message, wait.command, wait.recordings, wait.generation)
        elif wait.reason in ("nobody-works", "holder-gone"):
            yield Problem(wait.reason, "warning", wait.message, wait.command, wait.recordings, wait.generation)


def _of_migration(facts: Facts) -> Iterator[Problem]:
    migration = facts.migration
    if migration is None:
        return
    if migration.state is State.RUNNING and migration.paused:
        reason = migration.pause_reason or "no reason was given"
        yield Problem(
            "migration-paused", "warning", f"The migration to {migration.target} is paused: {reason}.",
            "speakerdb migrate resume", generation=migration.target,
        )  # fmt: skip
    if migration.state.intention and not (facts.migrating is not None and facts.migrating.held):
        yield Problem(
            "swap-unfinished", "error",
            "A process announced that it would move the alias and did not say what became of it.", WORK,
            generation=migration.target,
        )  # fmt: skip
    if migration.state is State.FINALIZED and (migration.rollback_until or facts.now) < facts.now:
        yield Problem(
            "rollback-over", "warning",
            f"The roll-back period of the migration from {migration.source} is over; until it is retired, every new "
            f"recording is extracted for {migration.source} too.",
            "speakerdb migrate retire", generation=migration.source,
        )  # fmt: skip
    if migration.source_lag:
        failed = any(one.errors for one in facts.generations if one.name == migration.source)
        yield Problem(
            "source-lag", "warning",
            f"{migration.source} lacks {_count(migration.source_lag, 'speaker')}: a roll-back could not answer for them.",
            "speakerdb migrate retry" if failed else WORK, migration.source_lag, migration.source,
        )  # fmt: skip


def _of_machine(facts: Facts) -> Iterator[Problem]:
    if facts.disk_free < facts.disk_floor:
        yield Problem(
            "disk-low", "error",
            f"{facts.disk_free / 1e6:,.0f} MB are free where the library lies, and {facts.disk_floor / 1e6:,.0f} MB is the "
            "setting disk_floor_mb; no migration starts.",
            "speakerdb doctor",
        )  # fmt: skip
    if facts.old_cache is not None:
        yield Problem(
            "old-cache", "warning",
            "The variable PYANNOTE_CACHE is set. This version of pyannote.audio does not read it; models lie under HF_HOME.",
            "unset PYANNOTE_CACHE",
        )  # fmt: skip


def _of_generation(facts: Facts, one: GenerationFacts) -> Iterator[Problem]:
    rebuild = f"speakerdb index rebuild {one.name}"
    if one.misled is not None:
        yield Problem(
            "alias-moved", "error", f"{one.misled} Somebody moved it by hand, and what is new does not come where it is"
            " searched.", rebuild, generation=one.name,
        )  # fmt: skip
    elif not one.index_there:
        yield Problem(
            "index-missing", "error", f"The index {one.index} of {one.name} is missing.", rebuild, generation=one.name
        )
    if refused := one.rejected - one.waived:
        yield Problem(
            "items-rejected", "error",
            f"The index of {one.name} refused {_count(refused, 'document')}: {one.rejection or 'no reason given'}.",
            rebuild, refused, one.name,
        )  # fmt: skip
    yield from _of_errors(one, f"failed in {one.name}")
    if facts.work is not None and facts.work.held:
        return  # whoever works pools and writes what waits
    if one.dirty_profiles:
        yield Problem(
            "profiles-waiting", "warning",
            f"{_count(one.dirty_profiles, 'profile')} to be pooled in {one.name}.", WORK, one.dirty_profiles, one.name,
        )  # fmt: skip
    if one.index_there and one.documents_waiting > one.rejected:
        count = one.documents_waiting - one.rejected
        yield Problem(
            "documents-waiting", "warning", f"{_count(count, 'document')} to be written to the index of {one.name}.",
            WORK, count, one.name,
        )  # fmt: skip


def _of_errors(one: GenerationFacts | TurnsFacts, what: str) -> Iterator[Problem]:
    for group in one.errors:
        yield Problem(
            group.code, "error",
            f"{_count(group.count, 'recording')} {what}, for example {group.recording_id}: {group.message}",
            MEDIA_CHECK if group.code in _LOOK_AT_FILES else group.retry, group.count, one.name,
        )  # fmt: skip


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")
