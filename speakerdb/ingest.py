"""What the library holds: recordings come in, change, and go. Work follows by itself.

Everything about a recording is one transaction: its turns, its speakers, the work items for every live generation, and
the tombstones of voices that are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speakerdb import media
from speakerdb.catalog import journal, library, people, schema, vectors, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.library import RecordingRow
from speakerdb.core.turns import turns_digest, validate
from speakerdb.errors import InvalidInput
from speakerdb.reports import AddOutcome, AddReport, RecordingView
from speakerdb.types import Fingerprint, Turn, Waveform

MAX_ID_LENGTH = 200


class Ingest:
    """Adds and removes recordings."""

    def __init__(self, catalog: Catalog, *, media_roots: Sequence[Path], who: str) -> None:
        self._catalog = catalog
        self._media_roots = media_roots
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
        _check_id(recording_id)
        resolved, fingerprint, seconds = None, None, None
        if path is not None:
            resolved = media.check_allowed(Path(path), self._media_roots)
            seconds = media.probe(resolved).seconds
            fingerprint = media.fingerprint(resolved)
        if waveform is not None and seconds is None:
            seconds = len(waveform.samples) / waveform.sample_rate
        checked = validate(turns, seconds)
        labels = {turn.speaker for turn in checked}
        if unknown := sorted(set(names or {}) - labels):
            raise InvalidInput(
                f"There is no speaker {unknown[0]!r} in these turns.", hint=f"They have: {', '.join(sorted(labels))}."
            )
        with self._catalog.change() as tx:
            return self._write(
                tx, recording_id, library_name, None if resolved is None else str(resolved), fingerprint, seconds,
                checked, names or {},
            )  # fmt: skip

    def remove(self, recording_id: str) -> None:
        """Forget a recording with its voices, in SQL and in every index. `NotFound` if there is none."""
        with self._catalog.change() as tx:
            found = library.resolve_id(tx, schema.recordings, recording_id, "recording")
            library.find_recording(tx, found, lock=True)
            now = self._catalog.now()
            affected = people.of_recordings(tx, [found])
            gone = list(library.speaker_ids(tx, found).values())
            lost = library.names_of(tx, gone)
            vectors.mark_deleted(tx, gone, now)
            people.mark_dirty(tx, affected, now)
            library.delete_recording(tx, found)
            journal.record(tx, "recording-removed", self._who, now, entity_id=found, lost=lost)

    def recordings(self, *, library_name: str | None = None, limit: int | None = None) -> list[RecordingView]:
        """The recordings of a library, or of all."""
        with self._catalog.read() as tx:
            chosen = None if library_name is None else library.library_id(tx, library_name)
            return library.list_recordings(tx, library=chosen, limit=limit)

    def find(self, given: str) -> str:
        """The full id of a recording from an id or the beginning of one."""
        with self._catalog.read() as tx:
            return library.resolve_id(tx, schema.recordings, given, "recording")

    def _write(
        self,
        tx: Transaction,
        recording_id: str | None,
        library_name: str,
        path: str | None,
        fingerprint: Fingerprint | None,
        seconds: float | None,
        turns: Sequence[Turn],
        names: Mapping[str, str],
    ) -> AddReport:
        now = self._catalog.now()
        home = library.ensure_library(tx, library_name, now)
        if recording_id is None and path is not None:
            recording_id = library.find_by_path(tx, home, path)
        lost: list[dict[str, str | None]] = []
        known = None if recording_id is None else library.find_recording(tx, recording_id, lock=True)
        if known is not None and known.library_id != home:
            raise InvalidInput(f"The recording {known.id!r} belongs to another library.", hint="Choose another --id.")
        row = RecordingRow(
            recording_id or library.new_id("rec"), home, path, fingerprint, seconds, turns_digest(turns), 1
        )
        if known is None:
            outcome = AddOutcome.ADDED
            library.insert_recording(tx, row, now)
            ids, _ = library.write_turns(tx, row.id, turns, now)
        else:
            # Sound given in memory has no fingerprint: it may be any sound, so it counts as changed.
            same_sound = fingerprint is not None and fingerprint == known.fingerprint
            outcome = (
                AddOutcome.UNCHANGED if same_sound and row.turns_digest == known.turns_digest else AddOutcome.CHANGED
            )
            grown = known.content_version + (outcome is AddOutcome.CHANGED)
            library.update_recording(tx, replace(row, content_version=grown), now)
            ids = library.speaker_ids(tx, row.id)
            if outcome is AddOutcome.CHANGED:
                people.mark_dirty(tx, people.of_recordings(tx, [row.id]), now)
            if row.turns_digest != known.turns_digest:
                ids, gone = library.write_turns(tx, row.id, turns, now)
                lost = library.names_of(tx, gone)
                vectors.mark_deleted(tx, gone, now)
                library.delete_speakers(tx, gone)
        for label, name in names.items():
            library.set_speaker(tx, ids[label], name=library.storable(name, "speaker"))
        queued: tuple[str, ...] = ()
        if outcome is AddOutcome.UNCHANGED:
            work.retry(tx, now, recording=row.id)  # whoever adds it again has mended what was wrong with it
        else:
            queued = journal.live_generations(tx)
            work.enqueue(tx, row.id, queued, "new" if outcome is AddOutcome.ADDED else "changed", now)
            journal.record(tx, f"recording-{outcome}", self._who, now, entity_id=row.id, turns=len(turns), lost=lost)
        return AddReport(row.id, outcome, len(turns), ids, seconds, queued)


def _check_id(recording_id: str | None) -> None:
    if recording_id is None:
        return
    if not recording_id.strip() or len(recording_id) > MAX_ID_LENGTH or not recording_id.isprintable():
        raise InvalidInput(
            f"A recording's id has 1 to {MAX_ID_LENGTH} printable characters.", hint="Choose another --id."
        )
