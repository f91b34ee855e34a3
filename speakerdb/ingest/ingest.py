"""The door of `ingest`: add one recording, bring in a library, remove."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from speakerdb.catalog import intake, journal, library, people, schema, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.core.turns import turns_given
from speakerdb.errors import InvalidInput
from speakerdb.ingest.bulk import Bulk, RefusedFile
from speakerdb.ingest.entries import Given
from speakerdb.ingest.looking import Looking
from speakerdb.ingest.sources import Sources
from speakerdb.ingest.turns_files import TurnsFiles
from speakerdb.ingest.writing import PartWriter, all_names
from speakerdb.opener import Opener
from speakerdb.reports import AddReport, RecordingView
from speakerdb.reports.intake import IntakeReport, OnIntake
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
        turns: Sequence[Turn],
        *,
        recording_id: str | None = None,
        library_name: str = "default",
        names: Mapping[str, str] | None = None,
        waveform: Waveform | None = None,
    ) -> AddReport:
        """Add a recording, or bring the one that is there up to date. Doing it again changes nothing.

        The recording is known by `recording_id`, else by its path in the library. Raises `MediaError`, `NeedsTurns`,
        `InvalidTurns`, `InvalidInput`; then nothing was written.
        """
        if path is None and waveform is None:
            raise InvalidInput("A recording needs a media file or a waveform.")
        if waveform is not None and waveform.sample_rate <= 0:
            raise InvalidInput(f"A waveform cannot have a sample rate of {waveform.sample_rate} Hz.")
        seconds = None if waveform is None else len(waveform.samples) / waveform.sample_rate
        checked = turns_given(turns)
        given = Given(
            None if path is None else Path(path), lambda: (checked, 0), recording_id, library_name,
            all_names(names or {}), seconds=seconds,
        )  # fmt: skip
        ready = self._looking.one(given)
        with self._catalog.change() as tx:
            return PartWriter(tx, self._who, self._catalog.now(), single=True).write(ready).report

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
    ) -> IntakeReport:
        """Add the recordings of files, folders and manifests, or bring them up to date. Doing it again changes nothing.

        `turns` is a file or a folder with turns; they are looked for beside the media without it. `refused` is where the
        refused entries are written, as a manifest; nowhere without it. A run that was stopped or killed is continued by
        running it again. Raises what concerns the whole run: `BackendError`, `WritesFenced`, `InvalidTurns` for `turns`.
        """
        sources = Sources(paths, TurnsFiles(turns), library_name)
        bulk = Bulk(
            self._catalog, self._looking, self._opener(), self._who,
            dry_run=dry_run, refused=RefusedFile(refused, paths),
        )  # fmt: skip
        return bulk.run(sources, on_event or (lambda _: None), stop or (lambda: False))

    def remove(self, recording_id: str) -> str:
        """Forget a recording with its voices, in SQL and in every index; its full id. `NotFound` if there is none.

        Events about it and its voices are deleted too, since names stand in them; the one that says that it was removed
        holds none.
        """
        with self._catalog.change() as tx:
            found = library.resolve_id(tx, schema.recordings, recording_id, "recording")
            now = self._catalog.now()
            affected = people.of_recordings(tx, [found])
            gone = list(library.speaker_ids(tx, found).values())
            intake.forget_events(tx, found)
            vectors.mark_deleted(tx, gone, now)
            people.mark_dirty(tx, affected, now)
            library.delete_recording(tx, found)
            journal.record(tx, "recording-removed", self._who, now, entity_id=found, speakers=len(gone))
        return found

    def recordings(self, *, library_name: str | None = None, limit: int | None = None) -> list[RecordingView]:
        """The recordings of a library, or of all."""
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            return library.list_recordings(tx, library=chosen, limit=limit)

    def find(self, given: str) -> str:
        """The full id of a recording from an id or the beginning of one."""
        with self._catalog.read() as tx:
            return library.resolve_id(tx, schema.recordings, given, "recording")
