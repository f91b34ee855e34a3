"""`SpeakerDB`: the composition root, and everything a door may ask for.

Every method is a use case; loops live only in `work`. Ids may be shortened to a beginning that only one id has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from speakerdb.catalog import activity, journal
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Database
from speakerdb.catalog.upgrade import upgrade
from speakerdb.diarizers.asked import NOTHING_ASKED, Asked
from speakerdb.diarizers.loading import DiarizerLoader
from speakerdb.errors import ConfigurationError, NoMigration, SpeakerDBError, StorageFull
from speakerdb.executors import IN_FLIGHT, Executor, make_executor, refuse_in_a_starting_worker, share_out
from speakerdb.extraction import Loader
from speakerdb.extraction.extract import LoadEmbedder
from speakerdb.extraction.task import LoadDiarizer
from speakerdb.files import uploaded
from speakerdb.generations import undefined
from speakerdb.index.opening import open_index
from speakerdb.index.port import VectorIndex
from speakerdb.matcher import Scope
from speakerdb.migrator.migrator import Swapped, Which
from speakerdb.parts import build
from speakerdb.reports import (
    AddReport,
    GateReport,
    MatchResult,
    MigrationView,
    OnWork,
    Preflight,
    ProfileView,
    Progress,
    RecordingView,
    SpeakerView,
    Status,
    SwapReport,
    WorkReport,
)
from speakerdb.reports.pointing import AliasReport, AliasView
from speakerdb.reports.rebuilding import OnRebuild, RebuildReport
from speakerdb.reports.seeing import LeaseView
from speakerdb.settings import Settings, load_settings
from speakerdb.types import FloatArray, Kind, Turn, Waveform


class SpeakerDB:
    """One library. Open it, use it, close it (or use it as a context manager)."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        index: VectorIndex,
        executor: Executor,
        load: LoadEmbedder,
        load_diarizer: LoadDiarizer,
    ) -> None:
        self._executor = executor
        parts = build(settings, catalog, index, executor, load, load_diarizer)
        self.settings, self.catalog, self.index = settings, catalog, index
        self.generations = parts.generations
        self.who = settings.actor
        self.serving = parts.serving
        self.projector = parts.projector
        self.ingest = parts.ingest
        self.people = parts.people
        self.voices = parts.voices
        self.transcripts = parts.transcripts
        self.rediarizing = parts.rediarizing
        self.files = parts.files
        self.extraction = parts.extraction
        self.migrator = parts.migrator
        self.repairer = parts.repairer
        self.matcher = parts.matcher
        self.overview = parts.overview
        self.adoption = parts.adoption
        self.access = parts.access
        self.explain = parts.explain
        self.plots = parts.plots
        self.statistics = parts.statistics
        self.recipes = parts.recipes
        self.calibrating = parts.calibrating
        self.live = parts.live
        self.preferences = parts.preferences
        self.worker = parts.worker
        self.housekeeping = parts.housekeeping

    @classmethod
    def open(
        cls,
        settings: Settings | None = None,
        *,
        index: VectorIndex | None = None,
        executor: Executor | None = None,
        load_embedder: LoadEmbedder | None = None,
        load_diarizer: LoadDiarizer | None = None,
        clock: Callable[[], int] | None = None,
        start: bool = True,
    ) -> SpeakerDB:
        """Open a library, and make it where there is none. Without `start` as it is, for who brings an existing index.

        Raises `ConfigurationError` classes (a database of a newer schema, a changed generation) and `BackendError` classes.
        """
        refuse_in_a_starting_worker()
        settings = settings or load_settings()
        _make_folder(settings.data_dir)
        catalog = Catalog(
            settings.catalog_url,
            locks=settings.data_dir / "locks",
            lease_seconds=settings.lease_seconds,
            fence_patience=6 * settings.fence_seconds,
            clock=clock,
        )
        with ExitStack() as given_up:
            given_up.callback(catalog.close)
            catalog.prepare(auto_upgrade=settings.auto_upgrade)
            if index is None:
                index = open_index(settings)
                given_up.callback(index.close)
            if executor is None:
                workers, gpus = share_out(settings.workers, settings.device)
                executor = make_executor(settings.executor, workers, depth=IN_FLIGHT, gpus=gpus)
            load = load_embedder or Loader(
                settings.device,
                settings.allow_unknown_checkpoints,
                settings.telemetry,
                settings.models.offline,
                settings.models_folder,
                settings.models.keep,
                settings.extractor.backend,
                settings.extractor.precision == "half",
            )
            opened = cls(settings, catalog, index, executor, load, load_diarizer or DiarizerLoader.of(settings))
            if start:
                opened._first_start()
            given_up.pop_all()
        return opened

    @staticmethod
    def upgrade(settings: Settings | None = None) -> str:
        """Bring the database's schema to this version; the revision it is at now."""
        settings = settings or load_settings()
        _make_folder(settings.data_dir)
        database = Database(settings.catalog_url)
        try:
            return upgrade(database)
        finally:
            database.close()

    def close(self) -> None:
        """End the workers and close every connection. Fine to call twice."""
        self._executor.close()
        self.index.close()
        self.catalog.close()

    def __enter__(self) -> SpeakerDB:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What the library holds

    def add(
        self,
        path: Path | str | None,
        turns: Sequence[Turn] | None = None,
        *,
        recording_id: str | None = None,
        library: str = "default",
        names: Mapping[str, str] | None = None,
        waveform: Waveform | None = None,
        asked: Asked = NOTHING_ASKED,
    ) -> AddReport:
        """Add a recording with its turns, or bring it up to date, and queue the work. Without turns a diarizer is to find
        them, as is `asked`. See `Ingest.add`.

        A waveform is held in memory until its recording is extracted by this object's `work`; a recording that has only
        a waveform cannot be extracted again for another generation. One that has a file is heard from that.
        """
        before: list[tuple[str, Waveform | None]] = []

        def keep(recording: str, sound: Waveform) -> None:
            before.append((recording, self.extraction.keep(recording, sound)))

        try:
            return self.ingest.add(
                path, turns, recording_id=recording_id, library_name=library, names=names, waveform=waveform, asked=asked,
                keep=keep,
            )  # fmt: skip
        except SpeakerDBError:
            for recording, sound in before:  # it could not be committed
                self.extraction.keep(recording, sound)
            raise

    def remove(self, recording_id: str) -> bool:
        """Forget a recording with its voices; whether its file went too: an uploaded one that no other recording has."""
        found, path = self.ingest.remove(recording_id)
        self.extraction.keep(found, None)
        folder = self.settings.uploads_folder
        upload = uploaded.name_of(folder, path)
        return upload is not None and uploaded.remove_unused(self.catalog, folder, upload, self.who)

    def recordings(self, *, library: str | None = None, limit: int | None = None) -> list[RecordingView]:
        """The recordings of a library, or of all."""
        return self.ingest.recordings(library_name=library, limit=limit)

    # Names

    def speakers(
        self,
        *,
        recording: str | None = None,
        profile: str | None = None,
        library: str | None = None,
        limit: int | None = None,
    ) -> list[SpeakerView]:
        """Speakers of a recording, a profile, a library, or all."""
        return self.people.speakers(recording=recording, profile=profile, library_name=library, limit=limit)

    def speaker(self, speaker_id: str) -> SpeakerView:
        """One speaker."""
        return self.people.speaker(speaker_id)

    def rename_speaker(self, speaker_id: str, name: str | None) -> SpeakerView:
        """Give a speaker a name, or take it away."""
        return self.people.rename_speaker(speaker_id, name)

    def assign(self, speaker_id: str, profile_id: str | None) -> SpeakerView:
        """Say whose voice a speaker is; None takes it back."""
        return self.people.assign(speaker_id, profile_id)

    def create_profile(self, name: str, *, library: str = "default") -> ProfileView:
        """A new person."""
        return self.people.create_profile(name, library_name=library)

    def profiles(self, *, library: str | None = None) -> list[ProfileView]:
        """People by name."""
        return self.people.profiles(library_name=library)

    def rename_profile(self, profile_id: str, name: str) -> ProfileView:
        """Give a person another name."""
        return self.people.rename_profile(profile_id, name)

    def merge_profiles(self, source_id: str, into_id: str) -> ProfileView:
        """Two profiles are one person."""
        return self.people.merge_profiles(source_id, into_id)

    # Work

    def work(
        self,
        *,
        on_event: OnWork | None = None,
        stop: Callable[[], bool] | None = None,
        limit: int | None = None,
        forever: bool = False,
        retry: bool = False,
    ) -> WorkReport:
        """Drain the queue, and project what is waiting. Continues whatever an earlier process left.

        `limit` ends after that many recordings; `forever` waits for more; `retry` queues failed items again first.
        """
        if retry:
            self.retry()
        return self.worker.run(on_event=on_event, stop=stop or (lambda: False), limit=limit, forever=forever)

    def progress(self, generation: str | None = None) -> Progress:
        """How far a generation is; without one, the target of a running migration, else what serves."""
        return self.overview.progress(generation)

    # Migration

    def preflight(self, target: str, *, rediarize: bool = False) -> Preflight:
        """What starting a migration would meet. Changes nothing."""
        return self.migrator.preflight(target, rediarize=rediarize)

    def start_migration(
        self, target: str, *, force: bool = False, checked: Preflight | None = None, rediarize: bool = False
    ) -> MigrationView:
        """Begin a migration. `checked` is a pre-flight that was just made, so that none is made twice. With `rediarize`,
        recordings that have sound are diarized again before they are extracted."""
        self.migrator.start(target, force=force, checked=checked, rediarize=rediarize)
        return self._view()

    def migration(self) -> MigrationView | None:
        """The newest migration."""
        return self.overview.migration()

    def pause(self, reason: str = "") -> MigrationView:
        """Leave what is queued for the target in the queue."""
        self.migrator.pause(reason)
        return self._view()

    def resume(self) -> MigrationView:
        """Go on with what was paused."""
        self.migrator.resume()
        return self._view()

    def retry(
        self,
        *,
        code: str | None = None,
        recording: str | None = None,
        library: str | None = None,
        listed: Sequence[str] | None = None,
        why: str | None = None,
    ) -> int:
        """Queue failed recordings again: all, or by error code, library, or a list of ids and paths; how many."""
        return self.migrator.retry(Which(code, library, _listed(recording, listed), why))

    def waive(
        self,
        *,
        why: str,
        code: str | None = None,
        recording: str | None = None,
        library: str | None = None,
        listed: Sequence[str] | None = None,
    ) -> int:
        """Let failed recordings be missing, on a person's word, chosen as in `retry`; how many."""
        return self.migrator.waive(Which(code, library, _listed(recording, listed), why))

    def cancel(self) -> MigrationView:
        """End a running migration; nothing serves differently."""
        self.migrator.cancel()
        return self._view()

    def check_gates(self) -> GateReport:
        """Measure the gates without swapping."""
        return self.migrator.check_gates()

    def finalize(self) -> SwapReport:
        """Prove the target and swap it in."""
        return self._swap_report(self.migrator.finalize())

    def rollback(self, *, now: bool = False) -> SwapReport:
        """Swap the source back in."""
        return self._swap_report(self.migrator.rollback(now=now))

    def retire(self, *, purge: bool = False) -> MigrationView:
        """End the roll-back period and drop the source's index."""
        self.migrator.retire(purge=purge)
        return self._view()

    # Questions

    def match(
        self,
        *,
        speaker: str | None = None,
        profile: str | None = None,
        clip: Path | Waveform | None = None,
        vector: FloatArray | None = None,
        k: int = 10,
        kind: Kind = Kind.SPEAKER,
        generation: str | None = None,
        library: str | None = None,
        same_recording: bool = False,
    ) -> MatchResult:
        """Who is this? See `Matcher.match`."""
        return self.matcher.match(
            speaker=speaker,
            profile=profile,
            clip=clip,
            vector=vector,
            generation=generation,
            scope=Scope(k, kind, library, same_recording),
        )

    def match_many(
        self,
        speakers: Sequence[str],
        *,
        k: int = 10,
        kind: Kind = Kind.SPEAKER,
        library: str | None = None,
        same_recording: bool = False,
    ) -> list[MatchResult]:
        """Who are these? One answer each, searched together."""
        return self.matcher.match_many(speakers, scope=Scope(k, kind, library, same_recording))

    def status(self) -> Status:
        """What serves, what runs, what waits, what is broken and the command that mends it."""
        return self.overview.status()

    def leases(self) -> tuple[LeaseView, ...]:
        """Every lease, who holds it, and whether that process still lives."""
        return self.overview.leases()

    def break_lease(self, name: str, *, why: str, epoch: int | None = None) -> LeaseView:
        """Take a lease away from whoever holds it; as it was. See `Catalog.break_lease`."""
        row = self.catalog.break_lease(name, self.who, why=why, epoch=epoch)
        return activity.lease_view(row, self.catalog, self.catalog.now())

    def alias(self) -> AliasView:
        """What the alias names, and what SQL says."""
        return self.migrator.pointing.show()

    def set_alias(self, generation: str, *, why: str, force: bool = False) -> AliasReport:
        """Let the alias name a live generation's index, on a person's word. See `Pointing.set`."""
        return self.migrator.pointing.set(generation, why=why, force=force)

    def events(self, *, limit: int = 50) -> list[dict[str, Any]]:
        """What happened, newest first."""
        return self.overview.events(limit=limit)

    def rebuild_index(
        self, generation: str, *, serve: bool = False, on_progress: OnRebuild = lambda _: None
    ) -> RebuildReport:
        """Build a live generation's index again from SQL, and let it take the old one's place. See `Rebuild.run`."""
        if generation not in self.generations:
            raise ConfigurationError(
                f"There is no generation {generation!r}.", hint=f"Known: {', '.join(sorted(self.generations))}."
            )
        return self.migrator.rebuild(self.generations[generation], serve=serve, on_progress=on_progress)

    # Small parts

    def _first_start(self) -> None:
        known = self.generations
        if self.settings.serving not in known:
            raise ConfigurationError(
                f"The setting serving names the unknown generation {self.settings.serving!r}.",
                hint=f"Known: {', '.join(sorted(known))}.",
            )
        with self.catalog.read() as tx:
            live = journal.live_generations(tx)
            used = {name: mark for name, mark in journal.known_generations(tx).items() if name in live}
        if missing := sorted(set(used) - set(known)):
            raise undefined(missing[0])
        if changed := [name for name, mark in used.items() if known[name].fingerprint != mark]:
            with self.catalog.job() as tx:
                journal.register_generation(tx, known[changed[0]], self.catalog.now())
        self.serving.first_start(known[self.settings.serving])
        self.serving.notice_restored(self.who)

    def _view(self) -> MigrationView:
        found = self.migration()
        if found is None:
            raise NoMigration("There is no migration.")
        return found

    def _swap_report(self, swapped: Swapped) -> SwapReport:
        return SwapReport(
            migration=self._view(),
            gates=swapped.gates,
            serving=self.serving.resolve(fresh=True).generation.name,
            source_lag=swapped.source_lag,
            fence_seconds=swapped.fence_seconds,
        )


def _listed(one: str | None, many: Sequence[str] | None) -> tuple[str, ...] | None:
    if one is None and many is None:
        return None
    return (*(() if one is None else (one,)), *(many or ()))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno == 28:
            raise StorageFull(f"There is no room to make {folder}.") from error
        raise ConfigurationError(
            f"The data folder {folder} cannot be made: {error.strerror}.",
            hint="Set SPEAKERDB_DATA_DIR to a folder that can be written.",
        ) from error
