"""Recordings that have turns are diarized again: queued, or looked at first; and earlier assignments come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from functools import partial

from speakerdb.catalog import asking, assignments, journal, library, people, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.choosing import recording_of
from speakerdb.catalog.database import Transaction, parts
from speakerdb.catalog.intake import Voice
from speakerdb.catalog.library import RecordingRow
from speakerdb.core.commands import command, option
from speakerdb.core.turns import AWAITED
from speakerdb.diarizers.asked import Asked
from speakerdb.diarizers.port import DiarizationProgress
from speakerdb.errors import Conflict, InvalidInput, MediaMissing, NeedsTurns, SpeakerDBError, WorkerTimeout
from speakerdb.executors import Executor, Overdue
from speakerdb.extraction import storing_turns
from speakerdb.extraction.diarize import diarize
from speakerdb.extraction.drain import Extraction
from speakerdb.extraction.outcomes import checked, lost
from speakerdb.extraction.storing_turns import Before, Planned
from speakerdb.extraction.task import Diarized, DiarizeTask
from speakerdb.people.naming import checked_why
from speakerdb.rediarizing import reverting
from speakerdb.rediarizing.reverting import Names
from speakerdb.reports.rediarizing import (
    AssignmentsKept,
    AssignmentView,
    KnownSpeaker,
    MappedSpeaker,
    NewSpeaker,
    RediarizePlan,
    RediarizeQueued,
    RevertReport,
)

OnProgress = Callable[[str, DiarizationProgress], None]
NAMED_IN_EVENTS = 1000
"""Recordings of one request that get an event of their own; more of them share one."""


class Rediarizing:
    """Turns are found again, and the people in them stay who they are."""

    def __init__(self, catalog: Catalog, extraction: Extraction, *, executor: Callable[[], Executor], who: str) -> None:
        """`executor` makes one for looking: that of the queue is ended whenever nothing is in the queue."""
        self._catalog = catalog
        self._executor = executor
        self._extraction = extraction
        self._who = who

    # To be done

    def queue(self, recordings: Sequence[str], asked: Asked, *, why: str | None = None) -> RediarizeQueued:
        """Queue recordings (ids, beginnings of ids, paths) to be diarized again; `work` does it.

        All of them or none: `MediaMissing` for one without sound, `NeedsTurns` for one that waits for its first diarization.
        """
        asked = self._signed(asked, why)
        with self._catalog.change() as tx:
            rows = self._rows(tx, recordings)
            now = self._catalog.now()
            for part in parts(rows):
                asking.ask_for_turns(tx, [row.id for row in part], "changed", now, asked.to_json())
            named: Sequence[str | None] = [row.id for row in rows] if len(rows) <= NAMED_IN_EVENTS else [None]
            for entity in named:
                count = 1 if entity is not None else len(rows)
                self._record(tx, entity, asked, count, None)
        return RediarizeQueued(len(rows), sum(row.seconds or 0.0 for row in rows))

    def queue_library(self, name: str, asked: Asked, *, why: str | None = None) -> RediarizeQueued:
        """The same for all of a library that can be diarized again. `NotFound`."""
        asked = self._signed(asked, why)
        with self._catalog.change() as tx:
            home = library.library_id(tx, name)
            found = asking.askable(tx, home)
            if found.recordings:
                asking.ask_all(tx, "changed", self._catalog.now(), asked.to_json(), home)
                self._record(tx, None, asked, found.recordings, name)
        return RediarizeQueued(found.recordings, found.seconds, found.without_sound, found.awaiting)

    def keep(
        self, recordings: Sequence[str] = (), library_name: str | None = None, *, why: str | None = None
    ) -> AssignmentsKept:
        """Leave recordings, or all of a library, as they are: what failed to be diarized again, or is yet to be, is forgotten.

        What has no turns yet has nothing to keep: of a library it is left out. `NotFound`; `NeedsTurns` for one that waits for
        its first diarization; `InvalidInput` for both, or none.
        """
        _one_or_the_other(recordings, library_name)
        why = checked_why(why)
        with self._catalog.change() as tx:
            ids = list(dict.fromkeys(recording_of(tx, each) for each in recordings))
            for row in (row for part in parts(ids) for row in library.recordings_of(tx, part).values()):
                if row.turns_digest in asking.WITHOUT_TURNS:
                    raise NeedsTurns(
                        f"The recording {row.id!r} has no turns yet that could be kept.", hint=_turns_first(row)
                    )
            named: Sequence[str | None]
            if library_name is None:
                kept = asking.keep_as_they_are(tx, ids)
                named, count = kept if len(kept) <= NAMED_IN_EVENTS else [None], len(kept)
            else:
                count = asking.keep_all(tx, library.library_id(tx, library_name))
                named = [None] if count else []
            for entity in named:
                journal.record(
                    tx, "assignments-kept", self._who, self._catalog.now(), entity_id=entity, why=why,
                    count=count if entity is None else 1, library=library_name,
                )  # fmt: skip
        return AssignmentsKept(count)

    def chosen(self, recordings: Sequence[str] = (), library_name: str | None = None) -> list[str]:
        """Full ids of what is meant, in its order. Raises as `queue` and `queue_library` do; `InvalidInput` for both, or none."""
        _one_or_the_other(recordings, library_name)
        with self._catalog.read() as tx:
            if library_name is not None:
                return list(asking.askable_ids(tx, library.library_id(tx, library_name)))
            return [row.id for row in self._rows(tx, recordings)]

    # Looked at first

    def looks(
        self, ids: Sequence[str], asked: Asked, on_progress: OnProgress = lambda *_: None
    ) -> Iterator[RediarizePlan | tuple[str, SpeakerDBError]]:
        """Diarize recordings (by their full ids) now, one after the other, and say what storing that would change. Nothing is
        written.

        What is wrong with a recording stops none of the others; what is wrong with the run is raised.
        """
        executor = self._executor()
        try:
            for id in ids:
                try:
                    yield self._look(executor, id, asked, partial(on_progress, id))
                except SpeakerDBError as error:
                    if error.scope == "run":
                        raise
                    yield id, error
        finally:
            executor.close()

    def look(self, recording_id: str, asked: Asked) -> RediarizePlan:
        """The same of one recording. Raises what diarizing raises, and `Conflict` where the recording changed meanwhile."""
        (found,) = self.looks([recording_id], asked)
        if isinstance(found, tuple):
            raise found[1]
        return found

    def _look(
        self, executor: Executor, recording_id: str, asked: Asked, on_told: Callable[[DiarizationProgress], None]
    ) -> RediarizePlan:
        with self._catalog.read() as tx:
            before = storing_turns.read(tx, recording_id)
        if before is None:
            raise Conflict(f"The recording {recording_id!r} was removed.", hint="See `speakerdb recordings list`.")
        task = self._extraction.diarize_task(before.row, before.turns, asked)
        result = self._heard(executor, task, on_told)
        with self._catalog.read() as tx:
            now = storing_turns.read(tx, recording_id)
            if now is None or now.row.content_version != task.content_version:
                raise Conflict(
                    f"The recording {recording_id!r} was changed while it was diarized.", hint="Run it again."
                )
            planned = storing_turns.plan(tx, now, task, result)
            return _plan_report(tx, now, planned, result, accepted=asked.accept_lost)

    def _heard(self, executor: Executor, task: DiarizeTask, on_told: Callable[[DiarizationProgress], None]) -> Diarized:
        patience = self._extraction.patience(task)
        future = executor.submit(diarize, task, timeout=patience, on_told=on_told)
        error = future.exception()
        if isinstance(error, Overdue):
            raise WorkerTimeout(f"it took more than {patience:g} s and was ended.") from error
        if isinstance(error, BrokenExecutor):
            raise lost(error, "") from error
        found = checked(task, future)
        if isinstance(found, SpeakerDBError):
            raise found
        assert isinstance(found, Diarized)
        return found

    # What was there before

    def sets(self, recording: str) -> tuple[AssignmentView, ...]:
        """What a recording's assignments were before they were replaced, the newest first."""
        with self._catalog.read() as tx:
            found = assignments.sets_of(tx, recording_of(tx, recording))
            profiles = people.by_id(
                tx, [s.profile_id for one in found for s in one.speakers if s.profile_id is not None]
            )
            return tuple(
                AssignmentView(
                    one.id, one.recording_id, one.at, one.who, one.why, one.replaced_by, len(one.turns),
                    None if one.found is None else one.found.diarizer,
                    tuple(
                        KnownSpeaker(
                            s.id, s.label, s.name, s.profile_id,
                            profiles[s.profile_id].name if s.profile_id in profiles else None,
                        )
                        for s in one.speakers
                    ),
                )
                for one in found
            )  # fmt: skip

    def revert(
        self,
        recording: str,
        *,
        to: int | None = None,
        names: Names = "now",
        accept_lost: bool = False,
        why: str | None = None,
        dry_run: bool = False,
    ) -> RevertReport:
        """Bring the set of this number, or the newest, back; what stands now becomes a set itself.

        `names`: those that speakers have ``now`` stay, or those of ``then`` come back too. `NotFound`; `NamesUnmapped` where
        somebody who has a name or a profile would go, unless `accept_lost`; `NeedsTurns`, `InvalidInput` for a set that does
        not fit any more.
        """
        why = checked_why(why)
        if dry_run:
            with self._catalog.read() as tx:
                return reverting.plan(tx, recording_of(tx, recording), to, names).report(tx, done=False)
        with self._catalog.change() as tx:
            planned = reverting.plan(tx, recording_of(tx, recording), to, names)
            if not (planned.turns_change or planned.names_change):
                return planned.report(tx, done=False)
            if planned.unmapped is not None and not accept_lost:
                raise planned.unmapped
            now, row = self._catalog.now(), planned.row
            gone = [one.id for one in planned.gone.values()]
            told = library.names_of(tx, gone) if gone else []
            kept_as = assignments.remember(tx, row.id, "reverted", self._who, now, why=why)
            queued: Sequence[str] = ()
            if planned.turns_change:
                queued = assignments.bring_back(tx, row, planned.then, planned.speakers, now)
            else:
                _set_names(tx, row, planned, now)
            vectors.raise_versions(tx, [one.id for one in planned.speakers], now)
            journal.record(
                tx, "assignments-reverted", self._who, now, entity_id=row.id, why=why, set=planned.then.id,
                kept_as=kept_as, turns=len(planned.then.turns), names=names, gone=gone, lost=told,
                back=[one.id for one in planned.speakers if one.id not in planned.there],
            )  # fmt: skip
            return planned.report(tx, done=True, kept_as=kept_as, queued=queued)

    # Small parts

    def _signed(self, asked: Asked, why: str | None) -> Asked:
        """With who asks, and why, which is kept with the set that is replaced."""
        behalf = journal.actor()
        return replace(asked, who=behalf.who or self._who, why=checked_why(why) or behalf.why)

    def _rows(self, tx: Transaction, given: Sequence[str]) -> list[RecordingRow]:
        """The recordings that are meant, each once. Raises for one that cannot be diarized again."""
        ids = list(dict.fromkeys(recording_of(tx, each) for each in given))
        rows = [row for part in parts(ids) for row in library.recordings_of(tx, part).values()]
        queued = asking.waiting(tx, [row.id for row in rows if row.turns_digest == AWAITED])
        for row in rows:
            if row.id in queued:
                raise NeedsTurns(
                    f"The recording {row.id!r} is queued to be diarized already.", hint="Run `speakerdb work` first."
                )
            if not self._extraction.has_sound(row):
                raise MediaMissing(
                    f"The recording {row.id!r} has no file, so nobody can listen to it again.",
                    hint=f"Give it its file: `{command('add', 'FILE', options=option('--id', row.id))}`.",
                )
        order = {id: place for place, id in enumerate(ids)}
        return sorted(rows, key=lambda row: order[row.id])

    def _record(self, tx: Transaction, entity: str | None, asked: Asked, count: int, name: str | None) -> None:
        journal.record(
            tx, "diarization-asked", self._who, self._catalog.now(), entity_id=entity, why=asked.why, count=count,
            library=name, asked=asked.as_dict(),
        )  # fmt: skip


def _one_or_the_other(recordings: Sequence[str], library_name: str | None) -> None:
    if bool(recordings) == (library_name is not None):
        raise InvalidInput("Give recordings, or a library.", hint="For example `--library default`.")


def _turns_first(row: RecordingRow) -> str:
    """What to do where there are no turns yet."""
    given = command("add", "FILE", options=f"{option('--id', row.id)} --turns TURNS")
    if row.turns_digest == AWAITED:
        return f"Give it its turns with `{given}`, or `{command('remove', row.id)}`."
    # What an index had told of: its voices are all that is known of it.
    return f"Give it its turns with `{given}`, or have it diarized: `{command('rediarize', row.id)}`."


def _set_names(tx: Transaction, row: RecordingRow, planned: reverting.Revert, now: int) -> None:
    """The turns are so already; names and profiles of then come back."""
    people.mark_dirty(tx, people.of_recordings(tx, [row.id]), now)
    for one in planned.speakers:
        library.set_speaker(tx, one.id, name=one.name, profile_id=one.profile_id)
    people.mark_dirty(tx, people.of_recordings(tx, [row.id]), now)


def _plan_report(
    tx: Transaction, before: Before, planned: Planned, result: Diarized, *, accepted: bool
) -> RediarizePlan:
    rows = library.speakers_by_id(tx, [voice.id for voice in before.voices.values()])
    seconds: dict[str, float] = {}
    for turn in planned.turns:
        seconds[turn.speaker] = seconds.get(turn.speaker, 0.0) + turn.end - turn.start

    def known(id: str) -> KnownSpeaker:
        row = rows[id]
        return KnownSpeaker(row.id, row.label, row.name, row.profile_id, row.profile_name)

    def in_order(voices: Sequence[Voice]) -> list[KnownSpeaker]:
        return sorted((known(voice.id) for voice in voices), key=lambda one: one.label)

    mapping = planned.remapping
    return RediarizePlan(
        recording_id=before.row.id,
        path=before.row.path,
        diarizer=result.found.diarizer,
        turns_before=len(before.turns),
        turns=len(planned.turns),
        changed=planned.changed,
        refused=planned.unmapped is not None and not accepted,
        mapped=tuple(
            MappedSpeaker(
                known(pair.old), pair.new, pair.shared_seconds, pair.cosine, pair.score,
                seconds[planned.labels[pair.new]],
            )
            for pair in mapping.pairs
        ),
        new=tuple(
            NewSpeaker(planned.labels[label], label, seconds[planned.labels[label]]) for label in mapping.new
        ),
        lost=tuple(in_order(planned.lost)),
        notices=result.notices,
    )  # fmt: skip
