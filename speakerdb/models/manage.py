"""The models of the settings on this machine: see, fetch, verify, pack, install, clear. Needs no library and no torch."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from speakerdb import __version__
from speakerdb.errors import (
    CheckpointUntrusted,
    ConfigurationError,
    ModelUnavailable,
    StorageFull,
)
from speakerdb.generations import TERMS
from speakerdb.models import bundle, hub
from speakerdb.models.hub import CACHE, HUB, STORE, Attempt, Outcome
from speakerdb.models.networks import Networks
from speakerdb.models.sources import Checkpoint, checked, load_first, locate, refusal
from speakerdb.models.store import ModelStore, StoredModel
from speakerdb.models.telling import backend_of
from speakerdb.reports.mending import (
    ClearReport,
    CopyProgress,
    FetchedModel,
    InstalledModel,
    InstallReport,
    KeptModel,
    ModelPlace,
    ModelsReport,
    ModelView,
    OnCopy,
    PackReport,
    PlaceVerdict,
)
from speakerdb.settings import Settings
from speakerdb.types import Generation

NO_WEIGHTS = ("spectral",)
"""Families that compute without a checkpoint."""
PACKAGES = ("torch", "torchaudio", "pyannote.audio", "openvino", "nncf", "numpy", "av", "huggingface_hub")


def versions() -> dict[str, str]:
    """Versions of what a model depends on, as they are installed; nothing is imported for it."""
    found = {"speakerdb": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


class Models:
    """The models that some settings name. Only `fetch`, and `verify` with `repair`, may use the network."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._generations = settings.known_generations()
        self._offline = settings.models.offline
        self.store = ModelStore(settings.models_folder)
        if self._offline:
            hub.go_offline()

    def overview(self) -> ModelsReport:
        """Where each generation's model lies on this machine. No file's content is read."""
        return self._report([self._view(g, self._places(g)) for g in self._generations.values()])

    def view(self, generation: str) -> ModelView:
        """One generation's model, with its checksums compared."""
        found = self._named([generation])[0]
        return self._view(found, self._examined(found))

    def verify(
        self, names: Sequence[str] = (), *, repair: bool = False, on_copy: OnCopy = lambda _: None
    ) -> ModelsReport:
        """Compute each copy's checksum again and compare it with the pinned one.

        With `repair`, a damaged copy is replaced: in the store by a sound one of this machine where there is one, else
        by a new one from the hub. Raises what the hub's refusal is.
        """
        chosen = self._named(names)
        repaired: list[str] = []
        views = []
        for generation in chosen:
            places = self._examined(generation, on_copy)
            damaged = {place.place for place in places if place.verdict == "damaged"} & {STORE, CACHE}
            if repair and damaged:
                self._repair(generation, damaged, sound=any(p.verdict in ("good", "unknown") for p in places))
                repaired += [f"{generation.name}: {place}" for place in sorted(damaged)]
                places = self._examined(generation, on_copy)
            views.append(self._view(generation, places))
        return replace(self._report(views), repaired=tuple(repaired))

    def fetch(
        self,
        names: Sequence[str] = (),
        *,
        force: bool = False,
        on_terms: Callable[[ModelView], None] = lambda _: None,
    ) -> Iterator[FetchedModel]:
        """Get each generation's checkpoint from the hub into its cache, and from there into the store; one answer each.

        `on_terms` is told of a model before the hub is asked for it. A refusal is an answer, and the others go on.
        """
        for generation in self._named(names):
            view = self._view(generation, self._places(generation))
            if not view.weights:
                yield FetchedModel(generation.name, view.id, "no-weights")
                continue
            kept = self._kept_whole(generation)
            if kept is not None and not force:
                yield self._fetched(generation, "there", kept.sha256, kept.size)
            elif HUB not in generation.model.sources:
                yield FetchedModel(generation.name, view.id, "local", message="Its sources do not name the hub.")
            else:
                if not (self._offline or hub.switched_off()):
                    on_terms(view)
                try:
                    found = self._download(generation, force=force)
                    yield self._fetched(generation, "fetched", found.sha256, len(found.data))
                except ModelUnavailable as error:
                    yield FetchedModel(
                        generation.name, view.id, "refused", code=error.code, message=error.message, hint=error.hint
                    )

    def pack(self, out: Path, names: Sequence[str] = ()) -> PackReport:
        """Write the checkpoints that are on this machine as a bundle: a .tar, a .zip, or else a folder.

        A generation that was named must be there (`ModelUnavailable`); without names, those that are not are left out
        and told of. The network is not used.
        """
        entries: dict[str, StoredModel] = {}
        data: dict[str, bytes] = {}
        left_out: dict[str, str] = {}
        for generation in self._named(names):
            if generation.model.family in NO_WEIGHTS:
                left_out[generation.name] = "it needs no checkpoint"
                continue
            try:
                found = self._here(generation)
            except ModelUnavailable as error:
                if names:
                    raise
                left_out[generation.name] = error.message
                continue
            entries[found.sha256] = self._entry(generation, found.sha256, len(found.data))
            data[found.sha256] = found.data
        if not data:
            why = " ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise ModelUnavailable(f"No model is on this machine. {why}", hint="Run `speakerdb models fetch` first.")
        pins = bundle.requirements()
        small = {
            bundle.REQUIREMENTS: ("\n".join(pins) + "\n").encode(),
            bundle.README: _readme(list(entries.values())).encode(),
        }
        files = {name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in small.items()}
        files |= {bundle.name_of(sha): (sha, len(content)) for sha, content in data.items()}
        made_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made_with = versions()
        manifest = bundle.Manifest(made_at, made_with, tuple(entries.values()), files)
        size = bundle.write(out, manifest, small, data)
        return PackReport(
            str(out), size, tuple(map(self._kept, entries.values())), left_out, made_with, len(pins)
        )  # fmt: skip

    def install(self, source: Path, *, on_copy: OnCopy = lambda _: None) -> InstallReport:
        """Put the models of a bundle into the store. Everything in it is checked before anything is put in place.

        `InvalidBundle` where it is damaged or holds what no bundle holds; `CheckpointUntrusted` where it has another
        checkpoint for a model whose checksum is pinned. Installing it again changes nothing.
        """
        with bundle.opened(source) as (manifest, files), self.store.staging() as staging:
            self._refuse_other_than_pinned(manifest)
            total = sum(size for _, size in manifest.files.values())
            if shutil.disk_usage(staging).free < total:
                raise StorageFull(f"The bundle needs {total / 1e6:,.0f} MB in {self.store.folder}.")
            progress = _Progress(source.name, total, on_copy)
            for name, expected in manifest.files.items():
                if not name.startswith("checkpoints/"):
                    bundle.take(files, name, expected, None, progress)
            for model in manifest.models:
                (staging / model.sha256).mkdir()
                name = bundle.name_of(model.sha256)
                with (staging / model.sha256 / model.file).open("wb") as target:
                    bundle.take(files, name, manifest.files[name], target, progress)
                    target.flush()
                    os.fsync(target.fileno())
            installed = [
                InstalledModel(self._kept(m), self.store.move_in(staging / m.sha256, m), self._is_pinned(m))
                for m in manifest.models
            ]
        return InstallReport(
            str(self.store.folder), tuple(installed), manifest.made_with, tuple(self._notices(manifest, installed))
        )

    def clear(self, names: Sequence[str] = (), *, dry_run: bool = False) -> ClearReport:
        """Remove models from the store, with what was converted from them: all, or those of some generations. The hub's cache
        is left alone, and told of; so are networks that were quantised, because they cannot be made again."""
        chosen = self._named(names)
        wanted = set(self.store.folders())
        if names:
            wanted = {path.parent.name for g in chosen if (path := self.store.find(g.model)) is not None}
        known = {model.sha256: model for model in self.store.models()}
        removed = [
            self._kept(known[sha]) if sha in known else KeptModel("unreadable manifest", None, sha, 0, None, ())
            for sha in sorted(wanted)
        ]
        networks = Networks(self.store.folder, versions()["openvino"])
        converted = sum(networks.size(sha) for sha in wanted)
        freed = 0 if dry_run else sum(self.store.remove(sha) + networks.remove(sha) for sha in sorted(wanted))
        caches = {g.model.id: hub.cache_folder(g.model.id) for g in chosen if g.model.family not in NO_WEIGHTS}
        return ClearReport(
            str(self.store.folder),
            tuple(removed),
            sum(model.size for model in removed) + converted if dry_run else freed,
            {str(folder): _size_of(folder) for folder in caches.values() if folder.is_dir()},
            dry_run,
        )

    # Small parts

    def _named(self, names: Sequence[str]) -> list[Generation]:
        if unknown := [name for name in names if name not in self._generations]:
            raise ConfigurationError(
                f"There is no generation {unknown[0]!r}.", hint=f"Known: {', '.join(sorted(self._generations))}."
            )
        return [g for name, g in self._generations.items() if not names or name in names]

    def _view(self, generation: Generation, places: Sequence[ModelPlace]) -> ModelView:
        spec = generation.model
        weights = spec.family not in NO_WEIGHTS
        terms = TERMS.get(spec.id)
        computed = backend_of(self._settings, generation)
        return ModelView(
            generation=generation.name,
            id=spec.id,
            revision=spec.revision,
            architecture=spec.architecture,
            dimension=spec.dimension,
            weights=weights,
            licence=None if terms is None else terms.licence,
            gated=None if terms is None else terms.gated,
            page=hub.page_of(spec.id) if weights and HUB in spec.sources else None,
            pinned=spec.sha256,
            places=tuple(places),
            backend=computed.backend,
            why=computed.why,
        )

    def _sources(self, generation: Generation) -> list[str]:
        """Where it may lie on this machine, in the order in which it is looked for. The hub's cache is always one."""
        if generation.model.family in NO_WEIGHTS:
            return []
        local = [source for source in generation.model.sources if source != HUB]
        return [STORE, *local] + ([] if CACHE in local or HUB not in generation.model.sources else [CACHE])

    def _places(self, generation: Generation) -> list[ModelPlace]:
        places = []
        for source in self._sources(generation):
            found = locate(generation.model, source, store=self.store, offline=True)
            if isinstance(found, Attempt):
                places.append(_place(found))
            else:
                places.append(ModelPlace(source, "there", str(found), None, found.stat().st_size, ""))
        return places

    def _examined(self, generation: Generation, on_copy: OnCopy = lambda _: None) -> list[ModelPlace]:
        """The same places, with their contents read and compared."""
        places = []
        for source in self._sources(generation):
            found = locate(generation.model, source, store=self.store, offline=True)
            if isinstance(found, Attempt):
                places.append(_place(found))
                continue
            on_copy(CopyProgress(f"{generation.name} {source}", 0, found.stat().st_size))
            places.append(_examined(generation, source, found))
            on_copy(CopyProgress(f"{generation.name} {source}", found.stat().st_size, found.stat().st_size))
        return places

    def _here(self, generation: Generation) -> Checkpoint:
        """The first copy on this machine whose checksum is the pinned one, or any where none is pinned."""
        local = replace(generation.model, sources=tuple(s for s in self._sources(generation) if s != STORE) or (CACHE,))
        try:
            return load_first(local, lambda found: found, allow_unknown=True, store=self.store)[1]
        except ModelUnavailable as error:
            if type(error) is not ModelUnavailable:
                raise
            raise ModelUnavailable(
                f"The model {local.id} is not on this machine.",
                hint=f"Run `speakerdb models fetch --generation {generation.name}` first.",
                attempts=error.details.get("attempts"),
            ) from error

    def _kept_whole(self, generation: Generation) -> StoredModel | None:
        path = self.store.find(generation.model)
        if path is None or not self.store.is_whole(path.parent.name):
            return None
        return next(model for model in self.store.models() if model.sha256 == path.parent.name)

    def _download(self, generation: Generation, *, force: bool) -> Checkpoint:
        spec = generation.model
        found = locate(spec, HUB, offline=self._offline) if not force else self._forced(generation)
        checkpoint = found if isinstance(found, Attempt) else checked(spec, HUB, found, allow_unknown=True)
        if isinstance(checkpoint, Attempt) and checkpoint.outcome is Outcome.WRONG_CHECKSUM and not force:
            # What lay in the hub's cache is damaged: once more, and this time all of it.
            return self._download(generation, force=True)
        if isinstance(checkpoint, Attempt):
            raise refusal(spec, [checkpoint])
        self.store.put(checkpoint.data, self._entry(generation, checkpoint.sha256, len(checkpoint.data)))
        return checkpoint

    def _forced(self, generation: Generation) -> Path | Attempt:
        if self._offline:
            return locate(generation.model, HUB, offline=True)
        return hub.download(generation.model, force=True)

    def _repair(self, generation: Generation, damaged: set[str], *, sound: bool) -> None:
        if CACHE in damaged or not sound:
            if HUB not in generation.model.sources:
                raise CheckpointUntrusted(
                    f"The only copies of {generation.model.id} are damaged, and its sources do not name the hub.",
                    hint="Install it again with `speakerdb models install`, or mend the file in its sources.",
                )
            self._download(generation, force=True)
        else:
            found = self._here(generation)
            self.store.put(found.data, self._entry(generation, found.sha256, len(found.data)))

    def _entry(self, generation: Generation, sha256: str, size: int) -> StoredModel:
        terms = TERMS.get(generation.model.id)
        return StoredModel.of(generation.model, sha256, size, None if terms is None else terms.licence)

    def _fetched(self, generation: Generation, outcome: str, sha256: str, size: int) -> FetchedModel:
        pinned = generation.model.sha256 is not None
        return FetchedModel(generation.name, generation.model.id, outcome, sha256, size, pinned)  # type: ignore[arg-type]

    def _kept(self, model: StoredModel) -> KeptModel:
        users = tuple(
            name
            for name, g in self._generations.items()
            if g.model.sha256 == model.sha256 or (g.model.sha256 is None and model.describes(g.model))
        )
        return KeptModel(model.id, model.revision, model.sha256, model.size, model.licence, users)

    def _is_pinned(self, model: StoredModel) -> bool:
        return any(g.model.sha256 == model.sha256 for g in self._generations.values())

    def _report(self, views: Sequence[ModelView]) -> ModelsReport:
        notice = hub.old_cache_notice()
        return ModelsReport(
            folder=str(self.store.folder),
            cache=str(hub.cache_folder("x").parent),
            offline=self._offline or hub.switched_off(),
            models=tuple(views),
            kept=tuple(map(self._kept, self.store.models())),
            unreadable=tuple(self.store.unreadable()),
            notices=() if notice is None else (notice,),
        )

    def _refuse_other_than_pinned(self, manifest: bundle.Manifest) -> None:
        for model in manifest.models:
            for name, g in self._generations.items():
                if model.describes(g.model) and g.model.sha256 not in (None, model.sha256):
                    raise CheckpointUntrusted(
                        f"The bundle's file for {model.id} has SHA-256 {model.sha256}, but {name} pins {g.model.sha256}.",
                        hint="Make the bundle again from the published model. Another model is a new generation.",
                    )

    def _notices(self, manifest: bundle.Manifest, installed: Sequence[InstalledModel]) -> Iterator[str]:
        for one in installed:
            model = one.model
            if not model.generations:
                yield f"{model.id}: no generation of the settings here uses it."
            elif not one.pinned:
                yield (
                    f"{model.id}: no checksum is pinned, so it is not loaded yet. If you trust who made the bundle, set"
                    f" SPEAKERDB_GENERATIONS__{model.generations[0].upper()}__SHA256={model.sha256}"
                )
        here = versions()
        for name in ("torch", "pyannote.audio"):
            if manifest.made_with.get(name, here[name]) != here[name]:
                yield f"The bundle was made with {name} {manifest.made_with[name]}; here it is {here[name]}."


class _Progress:
    def __init__(self, what: str, total: int, on_copy: OnCopy) -> None:
        self._what, self._total, self._on_copy, self._done = what, total, on_copy, 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._on_copy(CopyProgress(self._what, self._done, self._total))


def _place(attempt: Attempt) -> ModelPlace:
    verdict: PlaceVerdict = "missing" if attempt.outcome in (Outcome.NOT_FOUND, Outcome.OFFLINE) else "damaged"
    return ModelPlace(attempt.source, verdict, None, None, None, attempt.detail)


def _examined(generation: Generation, source: str, path: Path) -> ModelPlace:
    found = checked(generation.model, source, path, allow_unknown=True)
    size = path.stat().st_size
    if isinstance(found, Attempt):
        return ModelPlace(source, "damaged", str(path), None, size, found.detail)
    if found.pinned:
        return ModelPlace(source, "good", str(path), found.sha256, size, "")
    blob = path.resolve().name
    if len(blob) == 64 and blob != found.sha256:
        # The hub's cache names a large file by the checksum that the hub stated.
        return ModelPlace(source, "damaged", str(path), found.sha256, size, f"the hub stated SHA-256 {blob}")
    return ModelPlace(source, "unknown", str(path), found.sha256, size, "no checksum is pinned")


def _size_of(folder: Path) -> int:
    # A link in the cache's snapshots leads to a blob that is counted itself.
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _readme(models: Sequence[StoredModel]) -> str:
    lines = [
        "Models for speakerdb on a machine without network.",
        "",
        "Install them there with `speakerdb models install` and this folder or file. requirements.txt names the packages",
        "of the machine that made this bundle; manifest.json has the SHA-256 of every file.",
        "",
        "Each model is given by its makers under its own licence and terms:",
    ]
    lines += [f"- {m.id}: {m.licence or 'licence not known to speakerdb'}, {hub.page_of(m.id)}" for m in models]
    return "\n".join(lines) + "\n"
