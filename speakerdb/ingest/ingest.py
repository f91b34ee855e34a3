"""The door of `ingest`: add one recording, bring in a library, remove."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speakerdb.catalog import intake, journal, library, listing, people, schema, vectors, versions
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.conditions import only_if
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.library import RecordingRow
from speakerdb.catalog.listing import Place
from speakerdb.core.commands import command
from speakerdb.core.turns import AWAITED, turns_given
from speakerdb.diarizers.asked import NOTHING_ASKED, Asked
from speakerdb.errors import AlreadyExists, InvalidInput, MediaChanged, VersionConflict
from speakerdb.ingest.bulk import Bulk, RefusedFile
from speakerdb.ingest.entries import Given, Ready, Refused
from speakerdb.ingest.looking import Looking
from speakerdb.ingest.sources import Sources
from speakerdb.ingest.turns_files import TurnsFiles
from speakerdb.ingest.writing import PartWriter, all_names
from speakerdb.opener import Opener
from speakerdb.reports import AddOutcome, AddReport, RecordingView
from speakerdb.reports.intake import IntakeReport, OnIntake
from speakerdb.reports.recordings import Part as PagePart
from speakerdb.reports.recordings import RecordingDetails, RecordingTurn
from speakerdb.types import Turn, Waveform


class Ingest:
    """Adds and removes recordings."""

    def __init__(
        self, catalog: Catalog, *, media_roots: Sequence[Path], who: str, opener: Callable[[], Opener]
    ) -> None:
        self._catalog = catalog
        self._opener = opener
        self._looking = Looking(catalog, media_roots)
        self._who = who

    def add(
        self,
        path: Path | str | None,
        turns: Sequence[Turn] | None,
        *,
        recording_id: str | None = None,
        library_name: str = "default",
        names: Mapping[str, str] | None = None,
        waveform: Waveform | None = None,
        asked: Asked = NOTHING_ASKED,
        keep: Callable[[str, Waveform], object] = lambda _id, _waveform: None,
    ) -> AddReport:
        """Add a recording, or bring the one that is there up to date. Doing it again changes nothing. Without turns (None) it
        is queued to be diarized, as is `asked`. `keep` is given the sound of a waveform right before this is committed.

        The recording is known by `recording_id`, else by its path in the library. Raises `MediaError`, `NeedsTurns`,
        `InvalidTurns`, `InvalidInput`; then nothing was written.
        """
        if path is None and waveform is None:
            raise InvalidInput("A recording needs a media file or a waveform.")
        if waveform is not None and waveform.sample_rate <= 0:
            raise InvalidInput(f"A waveform cannot have a sample rate of {waveform.sample_rate} Hz.")
        seconds = None if waveform is None else len(waveform.samples) / waveform.sample_rate
        given = Given(
            None if path is None else Path(path), _given(turns), recording_id, library_name,
            all_names(names or {}), seconds=seconds, asked=asked,
        )  # fmt: skip
        ready = self._looking.one(given)
        with self._catalog.change() as tx:
            report = PartWriter(tx, self._who, self._catalog.now(), single=True).write(ready).report
            if waveform is not None:
                keep(report.recording_id, waveform)  # nobody can take its work before this is committed
            return report

    def bring_in(
        self,
        paths: Sequence[Path],
        *,
        turns: Path | None = None,
        library_name: str = "default",
        dry_run: bool = False,
        refused: Path | None = None,
        on_event: OnIntake | None = None,
        stop: Callable[[], bool] | None = None,
        asked: Asked | None = None,
    ) -> IntakeReport:
        """Add the recordings of files, folders and manifests, or bring them up to date. Doing it again changes nothing.

        `turns` is a file or a folder with turns; they are looked for beside the media without it. Where none lie there, a
        diarizer is to find them, as is `asked`; without it such a recording is refused. `refused` is where the
        refused entries are written, as a manifest; nowhere without it. A run that was stopped or killed is continued by
        running it again. Raises what concerns the whole run: `BackendError`, `WritesFenced`, `InvalidTurns` for `turns`.
        """
        sources = Sources(paths, TurnsFiles(turns), library_name, asked)
        bulk = Bulk(
            self._catalog, self._looking, self._opener(), self._who,
            dry_run=dry_run, refused=RefusedFile(refused, paths),
        )  # fmt: skip
        return bulk.run(sources, on_event or (lambda _: None), stop or (lambda: False))

    # One recording, for who may ask twice

    def opener(self) -> Opener:
        """Opens media in a process of its own; for `create` and `edit`. Close it when nothing is added any more."""
        return self._opener()

    def create(self, given: Given, opener: Opener) -> tuple[RecordingDetails, bool]:
        """Add a recording that is not there, and whether it was new; one that is there exactly so is left as it is.

        It is known by its id, else by its path in the library. `AlreadyExists` where it has other sound, other turns,
        another file, another library or another time, or is to be diarized otherwise. Names and profiles that are given are
        of the beginning: where it is there, people may have changed them, and they stay. Raises what `add` raises.
        """
        ready = self._look(given, opener)
        with self._catalog.change() as tx:
            if given.recording_id is not None:
                row = library.find_recording(tx, given.recording_id)
                if row is not None and row.library_id != library.find_library(tx, given.library):
                    raise AlreadyExists(f"The recording {row.id!r} is there already, in another library.")
            writer = PartWriter(tx, self._who, self._catalog.now(), single=True)
            writer.load([ready])
            plan = writer.decide(ready)
            if plan.known is None:
                writer.finish(plan)
            elif plan.outcome is not AddOutcome.UNCHANGED or plan.known.path != ready.path:
                raise AlreadyExists(
                    f"The recording {plan.known.id!r} is there already, with other turns or another file.",
                    hint="Change it instead, or give another id.",
                )
            elif writer.asked_otherwise(plan):
                raise AlreadyExists(
                    f"The recording {plan.known.id!r} is there already, to be diarized otherwise.",
                    hint="Have it diarized again when this was done, or give another id.",
                )
            elif given.recorded_at not in (None, plan.known.recorded_at):
                raise AlreadyExists(
                    f"The recording {plan.known.id!r} is there already, made at another time.",
                    hint="Change it instead, or give another id.",
                )
            return self._details(tx, plan.row.id), plan.known is None

    def edit(
        self,
        given: str,
        opener: Opener,
        *,
        turns: Sequence[Turn] | None = None,
        path: Path | None = None,
        recorded_at: int | None = None,
    ) -> RecordingDetails:
        """Give a recording other turns, another file, or the time it was made; what is None stays as it is.

        `VersionConflict` where somebody changed it meanwhile; `MediaChanged` where its file is another one by now and is not
        given. Raises what `add` raises.
        """
        with self._catalog.read() as tx:
            found = library.resolve_id(tx, schema.recordings, given, "recording")
            row = library.find_recording(tx, found)
            assert row is not None
            home = library.library_name(tx, row.library_id)
            version = versions.of_recording(tx, found)
            only_dated = turns is None and path is None
            if turns is None and row.turns_digest != AWAITED:
                turns = [Turn(t.start, t.end, t.speaker) for t in listing.turns_of(tx, found, -1, None)]
        if only_dated:
            return self._date(row, version, recorded_at)  # its file may be away, or be another one that nobody accepted
        file = path or (None if row.path is None else Path(row.path))
        if file is None:
            raise InvalidInput(
                f"The sound of the recording {found!r} was given in memory, so there is nothing to extract again.",
                hint="Give it a file too.",
            )
        entry = Given(file, _given(turns), found, home, recorded_at=recorded_at)
        ready = self._look(entry, opener)
        if path is None and row.fingerprint is not None and ready.fingerprint != row.fingerprint:
            # The turns were found in the sound that was there, as far as anybody has said.
            raise MediaChanged(
                f"The file of the recording {found!r} is another one than when it was added; nothing was written.",
                hint=f"Give the file together with its turns. If those of before fit: `{command('media accept', found)}`.",
            )
        with only_if(_still(found, version)), self._catalog.change() as tx:
            PartWriter(tx, self._who, self._catalog.now(), single=True).write(ready)
            return self._details(tx, found)

    def _date(self, row: RecordingRow, version: str, recorded_at: int | None) -> RecordingDetails:
        """Say when a recording was made; everything else stays as it is."""
        with only_if(_still(row.id, version)), self._catalog.change() as tx:
            if recorded_at not in (None, row.recorded_at):
                now = self._catalog.now()
                library.update_recording(tx, replace(row, recorded_at=recorded_at), now)
                turns = self._details(tx, row.id).turns
                journal.record(
                    tx, "recording-changed", self._who, now, entity_id=row.id, turns=turns, recorded_at=recorded_at
                )
            return self._details(tx, row.id)

    def recording(self, given: str) -> RecordingDetails:
        """One recording, by id or the beginning of one."""
        with self._catalog.read() as tx:
            return self._details(tx, library.resolve_id(tx, schema.recordings, given, "recording"))

    def page(
        self, *, library_name: str | None = None, after: Place | None = None, limit: int
    ) -> PagePart[RecordingView]:
        """The recordings of a library, or of all, a page at a time, in the order they came."""
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            behind = None if after is None else listing.after(listing.RECORDINGS, after)
            views = library.list_recordings(tx, library=chosen, limit=limit + 1, behind=behind)
            more, views = len(views) > limit, views[:limit]
            return PagePart(tuple(views), listing.place_of_recording(tx, views[-1].id) if more else None)

    def turns(self, given: str, *, after: int = -1, limit: int) -> PagePart[RecordingTurn]:
        """The turns of a recording, a page at a time, those behind the one of number `after`."""
        with self._catalog.read() as tx:
            found = library.resolve_id(tx, schema.recordings, given, "recording")
            listed = listing.turns_of(tx, found, after, limit + 1)
        more, listed = len(listed) > limit, listed[:limit]
        return PagePart(tuple(listed), (listed[-1].number,) if more else None)

    def _look(self, given: Given, opener: Opener) -> Ready:
        (found,) = self._looking.part([given], opener.open)
        if isinstance(found, Refused):
            raise found.error
        return found

    @staticmethod
    def _details(tx: Transaction, recording_id: str) -> RecordingDetails:
        (view,) = library.list_recordings(tx, recording=recording_id)
        return listing.details(tx, view)

    def remove(self, recording_id: str) -> tuple[str, str | None]:
        """Forget a recording with its voices, in SQL and in every index; its full id, and the path of its file. `NotFound` if
        there is none.

        Events about it and its voices are deleted too, since names stand in them; the one that says that it was removed
        holds none.
        """
        with self._catalog.change() as tx:
            found = library.resolve_id(tx, schema.recordings, recording_id, "recording")
            row = library.find_recording(tx, found)
            assert row is not None
            now = self._catalog.now()
            affected = people.of_recordings(tx, [found])
            gone = list(library.speaker_ids(tx, found).values())
            journal.record(tx, "recording-removed", self._who, now, entity_id=found, speakers=len(gone))
            intake.forget_events(tx, found)  # after the event: no number is given twice
            vectors.mark_deleted(tx, gone, now)
            people.mark_dirty(tx, affected, now)
            library.delete_recording(tx, found)
        return found, row.path

    def recordings(self, *, library_name: str | None = None, limit: int | None = None) -> list[RecordingView]:
        """The recordings of a library, or of all."""
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            return library.list_recordings(tx, library=chosen, limit=limit)

    def find(self, given: str) -> str:
        """The full id of a recording from an id or the beginning of one."""
        with self._catalog.read() as tx:
            return library.resolve_id(tx, schema.recordings, given, "recording")


def _given(turns: Sequence[Turn] | None) -> Callable[[], tuple[Sequence[Turn], int]] | None:
    """Turns that were given as values, checked now; None where there are none."""
    if turns is None:
        return None
    checked = turns_given(turns)
    return lambda: (checked, 0)


def _still(recording_id: str, version: str) -> Callable[[Transaction], None]:
    """The condition that a recording is as it was when it was read."""

    def check(tx: Transaction) -> None:
        if versions.of_recording(tx, recording_id) != version:
            raise VersionConflict(f"The recording {recording_id!r} was changed meanwhile; nothing was written.")

    return check
