"""What a person sees: what serves, what runs, what waits, what is broken and the command that mends it. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speakerdb.catalog import journal, leases, library, people, vectors, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.journal import MigrationRow
from speakerdb.core.lifecycle import State
from speakerdb.errors import SpeakerDBError
from speakerdb.index.port import VectorIndex
from speakerdb.migrator import Serving
from speakerdb.reports import MigrationView, Progress, Status
from speakerdb.types import SERVING_ALIAS, Generation

UNKNOWN = "?"
"""What is shown where the alias does not say what serves."""


class Overview:
    """Reads the state of a library."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        generations: Mapping[str, Generation],
        serving: Serving,
        *,
        data_dir: Path,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._generations = generations
        self._serving = serving
        self._data_dir = data_dir

    def status(self) -> Status:
        """What serves, what runs, what waits, what is broken and the command that mends it."""
        warnings: list[str] = []
        serving, index = UNKNOWN, UNKNOWN
        try:
            state = self._serving.resolve(fresh=True)
            serving, index = state.generation.name, state.index
        except SpeakerDBError as error:
            warnings.append(f"{error.message} {error.hint}")
        with self._catalog.read() as tx:
            live = journal.live_generations(tx)
            counts = library.counts(tx)
            progress = {name: work.progress(tx, name) for name in live}
            held = leases.all_leases(tx)
            newest = journal.newest(tx, SERVING_ALIAS)
            refused = {name: vectors.rejections(tx, name) for name in live}
            dirty = {name: len(people.dirty(tx, name)) for name in live}
        existing = self._index.indices()
        for name in live:
            if self._generations[name].index_name not in existing:
                warnings.append(f"The index of {name} is missing. Run `speakerdb index rebuild {name}`.")
            if refused[name]:
                warnings.append(f"The index of {name} refused {len(refused[name])} documents: {refused[name][0][1]}")
            if dirty[name]:
                warnings.append(f"{dirty[name]} profiles wait to be pooled in {name}. Run `speakerdb work`.")
            if failed := progress[name].recordings_failed:
                warnings.append(f"{failed} recordings failed in {name}. Try them again with `speakerdb work --retry`.")
        return Status(
            serving=serving,
            index=index,
            live=live,
            libraries=counts["libraries"],
            recordings=counts["recordings"],
            speakers=counts["speakers"],
            profiles=counts["profiles"],
            progress=progress,
            migration=None if newest is None or newest.state.ended else self._migration_view(newest),
            leases=tuple(
                {"name": row.name, "holder": row.holder, "epoch": row.epoch, "expires_at": row.expires_at}
                for row in held
            ),
            warnings=tuple(warnings),
            data_dir=str(self._data_dir),
            database=self._catalog.database.url,
        )

    def progress(self, generation: str | None = None) -> Progress:
        """How far a generation is; without one, the target of a running migration, else what serves."""
        with self._catalog.read() as tx:
            if generation is None:
                active = journal.active(tx, SERVING_ALIAS)
                generation = active.target if active is not None else self._serving.resolve().generation.name
            return work.progress(tx, generation)

    def migration(self) -> MigrationView | None:
        """The newest migration."""
        with self._catalog.read() as tx:
            found = journal.newest(tx, SERVING_ALIAS)
        return None if found is None else self._migration_view(found)

    def events(self, *, limit: int = 50) -> list[dict[str, Any]]:
        """What happened, newest first."""
        with self._catalog.read() as tx:
            return journal.latest_events(tx, limit)

    def _migration_view(self, row: MigrationRow) -> MigrationView:
        try:
            serving = self._serving.resolve(fresh=True).generation.name
        except SpeakerDBError:
            serving = UNKNOWN  # `status` says why
        with self._catalog.read() as tx:
            progress = work.progress(tx, row.target)
            failed = work.failures(tx, row.target)
            lag = vectors.lacking(tx, row.source)
        return MigrationView(
            id=row.id,
            alias=row.alias,
            source=row.source,
            target=row.target,
            state=row.state.value,
            paused=row.paused,
            pause_reason=row.pause_reason,
            serving=serving,
            started_at=row.started_at,
            finalized_at=row.finalized_at,
            rollback_until=row.rollback_until,
            source_lag=lag,
            progress=progress,
            failed=failed,
            next_step=_next_step(row, progress),
        )


def _next_step(row: MigrationRow, progress: Progress) -> str:
    if row.state is State.RUNNING:
        if row.paused:
            return "speakerdb migrate resume"
        if progress.recordings_queued or progress.documents_waiting:
            return "speakerdb work"
        if progress.recordings_failed:
            return "speakerdb migrate retry, or speakerdb migrate waive --why REASON"
        return "speakerdb migrate finalize"
    if row.state is State.FINALIZED:
        return "speakerdb migrate retire, when no roll-back will be needed"
    if row.state.intention:
        return "speakerdb work (it resolves the swap that was interrupted)"
    return f"speakerdb migrate start --to {row.target}" if row.state is not State.RETIRED else ""
