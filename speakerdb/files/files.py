"""Recordings' files: are they there and as they were, where did they move to, and which changed ones are right as they are.

Every walk takes constant memory: what is found is handed out one by one, and reports hold counts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from speakerdb import media
from speakerdb.catalog import asking, files, journal, library, people, schema, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction, parts, savepoint
from speakerdb.catalog.files import FileRow
from speakerdb.core.commands import command
from speakerdb.core.turns import AWAITED, NOBODY, turns_digest, validate
from speakerdb.errors import (
    BackendError,
    Conflict,
    InvalidInput,
    MediaChanged,
    NotFound,
    SpeakerDBError,
)
from speakerdb.files.looking import Looked, look, look_deeper
from speakerdb.opener import Opener
from speakerdb.reports.files import (
    AcceptReport,
    FileChange,
    FileCheck,
    FileProgress,
    FileState,
    Moved,
    OnFileChange,
    OnFiles,
    OnFinding,
    RelocateReport,
)
from speakerdb.types import Turn

PART = 500
"""Recordings that are read, looked at and written together."""
LOOKERS = 8
"""Threads that read files' ends: on a network share, waiting is most of it."""
FOLDERS_NAMED = 5

_NEXT = {
    FileState.MISSING: "If they were moved: `{relocate}`. Else put them back, and run "
    "`speakerdb work --retry`; or forget them: `speakerdb remove ID`.",
    FileState.CHANGED: "If the turns still fit the sound: `speakerdb media accept ID` (or `--all-changed`). Else add the "
    "file again with its new turns: `speakerdb add FILE --turns FILE`.",
    FileState.UNREADABLE: "Put a file that plays in its place, then `speakerdb media accept ID`; or forget the recording: "
    "`speakerdb remove ID`.",
    FileState.FORBIDDEN: "Allow their folder in the setting `media_roots`, or move them and run `speakerdb media relocate "
    "OLD NEW`.",
    FileState.OTHER_LENGTH: "Make the turns again and add the file: `speakerdb add FILE --turns FILE`.",
}


class Files:
    """Looks at recordings' files, follows those that moved, and accepts those that were changed on purpose."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        media_roots: Sequence[Path],
        who: str,
        opener: Callable[[], Opener],
    ) -> None:
        self._catalog = catalog
        self._media_roots = tuple(media_roots)
        self._who = who
        self._opener = opener

    def check(
        self,
        *,
        library_name: str | None = None,
        recording: str | None = None,
        deep: bool = False,
        on_finding: OnFinding = lambda _: None,
        on_progress: OnFiles = lambda _: None,
    ) -> FileCheck:
        """Look at every recording's file. Changes nothing.

        `on_finding` gets each recording's finding. With `deep`, files are opened and their first frame is decoded.
        Raises `NotFound` for a library or recording that does not exist.
        """
        total, walk = self._walk(library_name=library_name, recordings=None if recording is None else [recording])
        states: Counter[str] = Counter()
        wrong = 0
        below: str | None = None
        with ThreadPoolExecutor(LOOKERS) as threads, closing(self._opener()) as opener:
            for part in walk:
                looked = threads.map(self._look, part)
                for one in look_deeper(list(looked), opener) if deep else looked:
                    found = one.finding
                    states[found.state.value] += 1
                    wrong += found.wrong
                    if found.state is FileState.MISSING and found.path is not None:
                        folder = os.path.dirname(found.path)
                        below = folder if below is None else os.path.commonpath([below, folder])
                    on_finding(found)
                    on_progress(FileProgress(states.total(), total, wrong))
        steps = tuple(
            text.format(relocate=command("media relocate", below or "OLD", "NEW"))
            for state, text in _NEXT.items()
            if state in states
        )
        return FileCheck(states.total(), dict(states), deep, below, steps)

    def relocate(
        self,
        old: str,
        new: str,
        *,
        library_name: str | None = None,
        dry_run: bool = False,
        why: str | None = None,
        on_change: OnFileChange = lambda _: None,
        on_progress: OnFiles = lambda _: None,
    ) -> RelocateReport:
        """Recordings whose file is `old`, or lies in the folder `old`, have it at `new` from now on.

        Only where the file at the new place is the very one, by its fingerprint, and may be read. What failed because
        the file was missing is queued again. `on_change` gets what came of each recording; those that are refused stay
        as they are. It can be run again at any time. Raises `NotFound` where no recording lies at `old`, `InvalidInput`.
        """
        target = _absolute(new, "NEW")
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            # Paths on record have no links in them. The old place may be gone, so its links may be, too.
            tried = list(dict.fromkeys([_absolute(old, "OLD"), os.path.realpath(os.path.expanduser(old))]))
            if target in tried:
                raise InvalidInput("OLD and NEW are the same.", hint="Give the place where the files are now as NEW.")
            # What an earlier run has moved to a place below the old one stays there.
            places = [files.Below(each, target if _lies_in(target, each) else None, chosen) for each in tried]
            counts = {place: place.count(tx) for place in places}
            folders = files.top_folders(tx, FOLDERS_NAMED)
        place = next((each for each in places if counts[each]), None)
        if place is None:
            raise NotFound(
                f"No recording has its file at {tried[0]}, or in that folder.",
                hint=f"The files of this library lie in {', '.join(folders)}."
                if folders
                else "No recording has a file.",
            )
        if not os.path.exists(target):
            raise NotFound(f"There is nothing at {target}.", hint="Give the place where the files are now as NEW.")
        refused: Counter[str] = Counter()
        done = moved = queued = 0
        with ThreadPoolExecutor(LOOKERS) as threads:
            for part in self._parts_below(place):
                sought = threads.map(lambda row: self._seek(row, place.under, target), part)
                changes = self._unless_taken(part, list(sought))
                if not dry_run:
                    changes, again = self._move(part, changes, why)
                    queued += again
                for change in changes:
                    done += 1
                    moved += change.outcome is Moved.RELOCATED
                    if change.code is not None:
                        refused[change.code] += 1
                    on_change(change)
                    on_progress(FileProgress(done, counts[place], refused.total()))
        return RelocateReport(place.under, target, dry_run, done, moved, queued, dict(refused))

    def accept(
        self,
        recordings: Sequence[str] = (),
        *,
        all_changed: bool = False,
        library_name: str | None = None,
        dry_run: bool = False,
        why: str | None = None,
        on_change: OnFileChange = lambda _: None,
        on_progress: OnFiles = lambda _: None,
    ) -> AcceptReport:
        """Take files that were changed on purpose as their recordings' sound: the turns stay, everything is extracted again.

        For the `recordings` named, or for all whose file has changed. Each is looked at, opened, and its turns are
        checked against its new length; `on_change` gets what came of it, with the code where it was refused.
        Raises `NotFound` for a recording that does not exist, `InvalidInput` where nothing or too much was chosen.
        """
        if all_changed == bool(recordings):
            raise InvalidInput("Name the recordings, or choose all whose file has changed.", hint="One of the two.")
        total, walk = self._walk(library_name=library_name, recordings=None if all_changed else recordings)
        refused: Counter[str] = Counter()
        outcomes: Counter[Moved] = Counter()
        done = 0
        with self._catalog.read() as tx:
            live = journal.live_generations(tx)
        with ThreadPoolExecutor(LOOKERS) as threads, closing(self._opener()) as opener:
            for part in walk:
                looked = list(threads.map(self._look, part))
                done += len(looked)
                if all_changed:
                    looked = [one for one in looked if one.finding.state is FileState.CHANGED]
                for change in self._accept(list(look_deeper(looked, opener)), dry_run, why):
                    outcomes[change.outcome] += 1
                    if change.code is not None:
                        refused[change.code] += 1
                    on_change(change)
                on_progress(FileProgress(done, total, refused.total()))
        accepted = outcomes[Moved.ACCEPTED]
        return AcceptReport(dry_run, accepted, outcomes[Moved.UNCHANGED], live if accepted else (), dict(refused))

    # Looking

    def _walk(
        self, *, library_name: str | None = None, recordings: Sequence[str] | None = None
    ) -> tuple[int, Iterator[list[FileRow]]]:
        """How many recordings there are, and their rows in parts, each read in a transaction of its own."""
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            ids = [library.resolve_id(tx, schema.recordings, each, "recording") for each in recordings or ()]
            ids = list(dict.fromkeys(ids))
            total = files.count(tx, library=chosen) if recordings is None else len(ids)
        return total, self._parts(chosen) if recordings is None else self._parts_of(ids)

    def _parts(self, chosen: str | None) -> Iterator[list[FileRow]]:
        after = ""
        while True:
            with self._catalog.read() as tx:
                part = files.part(tx, after, PART, library=chosen)
            if not part:
                return
            yield part
            after = part[-1].recording_id

    def _parts_of(self, ids: Sequence[str]) -> Iterator[list[FileRow]]:
        for part in parts(ids, PART):
            with self._catalog.read() as tx:
                found = files.by_id(tx, part)
            yield [found[each] for each in part if each in found]

    def _parts_below(self, place: files.Below) -> Iterator[list[FileRow]]:
        after = ""
        while True:
            with self._catalog.read() as tx:
                part = place.part(tx, after, PART)
            if not part:
                return
            yield part
            after = part[-1].path or ""

    def _look(self, row: FileRow) -> Looked:
        return look(row, self._media_roots)

    # Moving

    def _seek(self, row: FileRow, under: str, target: str) -> FileChange:
        """Whether a recording's file is at its new place; nothing is written yet."""
        path = _moved_path(row, under, target)
        try:
            real = str(media.check_allowed(Path(path), self._media_roots))
            _check_text(real, "path")
            if media.fingerprint(Path(real)) != row.fingerprint:
                raise MediaChanged(f"{path} is another file than the one that was at {row.path}.")
        except SpeakerDBError as error:
            return FileChange(row.recording_id, Moved.REFUSED, row.path, path, error.code, error.message)
        return FileChange(row.recording_id, Moved.UNCHANGED if real == row.path else Moved.RELOCATED, row.path, real)

    def _unless_taken(self, part: Sequence[FileRow], changes: list[FileChange]) -> list[FileChange]:
        """A file that another recording of the library has already is not given to a second one."""
        with self._catalog.read() as tx:
            wanted = list({c.new for c in changes if c.outcome is Moved.RELOCATED and c.new})
            taken = files.paths_in_use(tx, wanted)
        told = "Another recording of this library has {} already; remove one of the two."
        return [
            replace(change, outcome=Moved.REFUSED, code=Conflict.code, detail=told.format(change.new))
            if change.outcome is Moved.RELOCATED and (row.library_id, change.new) in taken
            else change
            for row, change in zip(part, changes, strict=True)
        ]

    def _move(
        self, part: Sequence[FileRow], changes: list[FileChange], why: str | None
    ) -> tuple[list[FileChange], int]:
        """Write the moves; and how many failed items are queued again."""
        moved: list[str] = []
        written: list[FileChange] = []
        with self._catalog.change() as tx:
            now = self._catalog.now()
            for row, change in zip(part, changes, strict=True):
                if change.outcome is Moved.RELOCATED and change.new is not None:
                    if files.move(tx, row, change.new, now):
                        moved.append(row.recording_id)
                        journal.record(
                            tx, "recording-relocated", self._who, now, entity_id=row.recording_id, why=why,
                            old=row.path, new=change.new,
                        )  # fmt: skip
                    else:
                        told = "The recording changed meanwhile; run it again."
                        change = replace(change, outcome=Moved.REFUSED, code=Conflict.code, detail=told)
                written.append(change)
            queued = sum(files.retry_unfound(tx, each, now) for each in parts(moved))
            return written, queued

    # Accepting

    def _accept(self, looked: Sequence[Looked], dry_run: bool, why: str | None) -> list[FileChange]:
        with self._catalog.read() if dry_run else self._catalog.change() as tx:
            return [self._accept_one(tx, one, dry_run, why) for one in looked]

    def _accept_one(self, tx: Transaction, one: Looked, dry_run: bool, why: str | None) -> FileChange:
        row, now = one.row, self._catalog.now()
        change = FileChange(row.recording_id, Moved.ACCEPTED, row.path)
        try:
            if one.error is not None:
                raise one.error
            if one.info is None:
                raise InvalidInput("Its sound was given in memory; there is no file that could be accepted.")
            if one.finding.state is not FileState.CHANGED:
                return replace(change, outcome=Moved.UNCHANGED)
            known = library.find_recording(tx, row.recording_id)
            if known is None or (known.path, known.content_version) != (row.path, row.content_version):
                raise Conflict("The recording changed meanwhile.", hint="Run it again.")
            heard = known.turns_digest not in (AWAITED, NOBODY)
            turns, as_before = _fitting_turns(tx, row.recording_id, one.info.seconds) if heard else ((), True)
            if dry_run:
                return change
            with savepoint(tx):
                if not as_before:
                    library.write_turns(tx, row.recording_id, turns, now)
                accepted = replace(
                    known,
                    fingerprint=one.fingerprint,
                    seconds=one.info.seconds,
                    turns_digest=AWAITED if not heard else known.turns_digest if as_before else turns_digest(turns),
                    content_version=known.content_version + 1,
                )
                library.update_recording(tx, accepted, now)
                people.mark_dirty(tx, people.of_recordings(tx, [row.recording_id]), now)
                if heard:
                    work.enqueue(tx, row.recording_id, journal.live_generations(tx), "changed", now)
                else:  # nobody knows who talks in the sound that it has now
                    asking.ask_for_turns(tx, [row.recording_id], "changed", now)
                journal.record(
                    tx, "media-accepted", self._who, now, entity_id=row.recording_id, why=why, seconds=one.info.seconds
                )
        except BackendError:
            raise
        except SpeakerDBError as error:
            return replace(change, outcome=Moved.REFUSED, code=error.code, detail=error.message)
        return change


def _fitting_turns(tx: Transaction, recording_id: str, seconds: float | None) -> tuple[Sequence[Turn], bool]:
    """A recording's turns, by label, cut at its new end where they hardly pass it, and whether they are as before.

    `InvalidTurns` where they lie beyond it.
    """
    labels = {speaker: label for label, speaker in library.speaker_ids(tx, recording_id).items()}
    _, stored = library.snapshot(tx, [recording_id])[recording_id]
    turns = [Turn(turn.start, turn.end, labels[turn.speaker]) for turn in stored]
    fitting = validate(turns, seconds)
    return fitting, set(fitting) == set(turns)


def _absolute(given: str, what: str) -> str:
    _check_text(given, what)
    if not given.strip():
        raise InvalidInput(f"{what} is empty.", hint="Give the folder or the file, as it was and as it is now.")
    return os.path.abspath(os.path.expanduser(given))


def _check_text(path: str, what: str) -> None:
    if "\0" in path or any("\ud800" <= character <= "\udfff" for character in path):
        raise InvalidInput(f"The {what} holds a character that cannot be stored.", hint="Rename the file or folder.")


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _moved_path(row: FileRow, under: str, target: str) -> str:
    assert row.path is not None
    rest = row.path.removeprefix(under.rstrip("/")).lstrip("/")
    if rest:
        return os.path.join(target, rest)
    return os.path.join(target, os.path.basename(row.path)) if os.path.isdir(target) else target
