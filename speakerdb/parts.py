"""The parts of a library, put together: who gets what. `SpeakerDB` is the door over them."""

from __future__ import annotations

from dataclasses import dataclass

from speakerdb.access import Access
from speakerdb.adoption import Adoption
from speakerdb.calibrating import Calibrating
from speakerdb.catalog.catalog import Catalog
from speakerdb.executors import Executor, make_executor, share_out
from speakerdb.explain import Explain
from speakerdb.extraction.drain import Extraction
from speakerdb.extraction.extract import LoadEmbedder
from speakerdb.extraction.task import LoadDiarizer
from speakerdb.files import Files
from speakerdb.generations import Defined
from speakerdb.housekeeping import Housekeeping
from speakerdb.index.port import VectorIndex
from speakerdb.ingest import Ingest
from speakerdb.live import Live, Preferences, preferred
from speakerdb.matcher import Matcher
from speakerdb.migrator import Migrator, Serving
from speakerdb.migrator.migrator import MigratorOptions
from speakerdb.migrator.probing import Probing
from speakerdb.models.telling import backend_of
from speakerdb.opener import Opener
from speakerdb.overview import Overview
from speakerdb.people import People
from speakerdb.plots import Plots
from speakerdb.projector import Projector
from speakerdb.recipes import Recipes
from speakerdb.rediarizing import Rediarizing
from speakerdb.repairer import Repairer
from speakerdb.settings import Settings
from speakerdb.statistics import Statistics
from speakerdb.transcripts import Transcripts
from speakerdb.types import Generation
from speakerdb.voices import Voices
from speakerdb.worker import Worker


@dataclass(frozen=True, slots=True)
class Parts:
    """Every use case of one library."""

    generations: dict[str, Generation]
    serving: Serving
    projector: Projector
    ingest: Ingest
    people: People
    voices: Voices
    files: Files
    extraction: Extraction
    migrator: Migrator
    repairer: Repairer
    matcher: Matcher
    overview: Overview
    adoption: Adoption
    access: Access
    explain: Explain
    plots: Plots
    statistics: Statistics
    recipes: Recipes
    calibrating: Calibrating
    worker: Worker
    housekeeping: Housekeeping
    live: Live
    preferences: Preferences
    transcripts: Transcripts
    rediarizing: Rediarizing


def build(
    settings: Settings,
    catalog: Catalog,
    index: VectorIndex,
    executor: Executor,
    load: LoadEmbedder,
    load_diarizer: LoadDiarizer,
) -> Parts:
    """All parts over one catalog, one index and one executor."""
    generations = Defined(settings.known_generations())
    who = settings.actor
    media_roots = settings.readable_roots
    disk_floor_bytes = settings.disk_floor_mb * 1_000_000
    serving = Serving(catalog, index, generations)
    live = Live(catalog, generations=generations, who=who)
    chosen = settings.preference
    preferences = Preferences(
        catalog,
        live,
        preferred(chosen.mode, chosen.version, chosen.fallback, generations),
        serving=lambda: (serving.resolve().generation.name, serving.live()),
    )
    projector = Projector(catalog, index)

    def opener() -> Opener:
        return Opener(lambda: make_executor(settings.executor), settings.recording_timeout)

    workers, _ = share_out(settings.workers, settings.device)
    extraction = Extraction(
        catalog,
        executor,
        generations,
        load=load,
        media_roots=media_roots,
        batch=settings.batch_recordings,
        timeout=settings.recording_timeout,
        workers=lambda: live.get().concurrency or workers,
        side_by_side=settings.models.keep != "one",
        load_diarizer=load_diarizer,
        comparing=lambda: serving.resolve().generation,
        measure=settings.overlap.enabled,
        who=who,
    )
    migrator = Migrator(
        catalog,
        index,
        generations,
        serving,
        projector,
        MigratorOptions(
            media_roots=media_roots,
            data_dir=settings.data_dir,
            disk_floor_bytes=disk_floor_bytes,
            workers=workers,
            fence_seconds=settings.fence_seconds,
            rollback_days=settings.rollback_days,
        ),
        probing=Probing(executor, load, load_diarizer, settings.recording_timeout),
        who=who,
    )
    adoption = Adoption(catalog, generations, serving, index, migrator.rebuilding, who=who)
    overview = Overview(
        catalog,
        index,
        generations,
        serving,
        live,
        preferences,
        data_dir=settings.data_dir,
        disk_floor_bytes=disk_floor_bytes,
        backend=lambda generation: str(backend_of(settings, generation)),
    )
    overview.watch(serving.restored_problems)
    overview.watch(adoption.imports.problems)
    repairer = Repairer(catalog, index, generations, serving, projector, settings.repair, who=who)
    overview.watch(repairer.problems)
    overview.watch(live.problems)
    overview.watch(preferences.problems)
    return Parts(
        generations=generations,
        serving=serving,
        projector=projector,
        ingest=Ingest(catalog, media_roots=media_roots, who=who, opener=opener),
        people=People(catalog, who=who),
        voices=Voices(catalog, generations),
        files=Files(catalog, media_roots=media_roots, who=who, opener=opener),
        extraction=extraction,
        migrator=migrator,
        repairer=repairer,
        matcher=Matcher(catalog, index, generations, serving, load, preferences, media_roots=media_roots),
        overview=overview,
        adoption=adoption,
        access=Access(catalog, who=who),
        explain=Explain(catalog, index, generations, serving, live, media_roots=media_roots),
        plots=Plots(catalog, generations),
        statistics=Statistics(catalog, lambda: serving.resolve().generation.name),
        recipes=Recipes(
            catalog,
            generations,
            serving,
            load,
            executor=lambda: make_executor(settings.executor),
            media_roots=media_roots,
            timeout=settings.recording_timeout,
        ),
        calibrating=Calibrating(catalog, generations, settings, media_roots=media_roots),
        worker=Worker(catalog, generations, extraction, projector, migrator, halt=live.halt),
        housekeeping=Housekeeping(catalog, settings.schedule, who=who),
        live=live,
        preferences=preferences,
        transcripts=Transcripts(catalog, who=who),
        rediarizing=Rediarizing(catalog, extraction, executor=lambda: make_executor(settings.executor), who=who),
    )
