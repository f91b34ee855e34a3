"""From the settings to a diarizer that is ready. Importing this module imports no torch."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import threading
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from speakerdb.diarizers.asked import Channels
from speakerdb.diarizers.channels import ChannelsAsSpeakers
from speakerdb.diarizers.cloud import load_cloud
from speakerdb.diarizers.config import PipelineConfig
from speakerdb.diarizers.finding import CloudPipeline, Part, PipelineFiles, Trust, find
from speakerdb.diarizers.frames import choose
from speakerdb.diarizers.port import Diarizer
from speakerdb.diarizers.pyannote import Limits, PyannoteDiarizer, Running
from speakerdb.diarizers.shared import can_share
from speakerdb.errors import ConfigurationError, ModelUnavailable
from speakerdb.models import hub
from speakerdb.models import pyannote as embedders
from speakerdb.models.processor import may_have_gpu
from speakerdb.settings import DiarizerSettings, Settings


def load_diarizer(
    settings: DiarizerSettings,
    *,
    device: str = "auto",
    pinned: Collection[str] = (),
    allow_unknown: bool = False,
    offline: bool = False,
    telemetry: bool = False,
    folder: Path | None = None,
) -> Diarizer:
    """The diarizer that the settings name, on `device` (auto, cpu, cuda or cuda:N). `pinned` are checksums that may be loaded
    besides those of the settings; `folder` is that of models, where what is converted and measured is kept.

    `DiarizerRefused`, `ModelUnavailable` and its kin, `ConfigurationError` for a parameter that the pipeline does not have or
    that is out of its range, for a device that there is not, and where a library cannot be imported.
    """
    embedders.check_device(device)
    if offline:
        hub.go_offline()
    trust = Trust(frozenset((*settings.sha256, *pinned)), allow_unknown, offline, settings.allow_cloud)
    found = find(settings.pipeline, settings.revision, trust)
    if isinstance(found, CloudPipeline):
        return load_cloud(found, telemetry=telemetry)
    maker = _Maker(found, settings, telemetry=telemetry, folder=folder)
    running, notices = maker.on(device)
    return PyannoteDiarizer(
        running,
        name=found.name,
        embedding_recipe=maker.embedding_recipe,
        on_cpu=lambda: maker.on("cpu")[0],
        limits=Limits(60 * settings.window_minutes, 60 * settings.window_overlap_minutes),
        notices=notices,
    )


_held: dict[str, Diarizer] = {}
"""The diarizer that this process has, by what it was loaded with."""
_loading = threading.Lock()


@dataclass(frozen=True)
class DiarizerLoader:
    """Loads a diarizer. It travels to a worker, where the diarizer is loaded once."""

    settings: DiarizerSettings
    device: str = "auto"
    pinned: tuple[str, ...] = ()
    allow_unknown: bool = False
    offline: bool = False
    telemetry: bool = False
    folder: Path | None = None

    @classmethod
    def of(cls, settings: Settings, *, device: str | None = None, **changes: object) -> DiarizerLoader:
        """That of all settings. `device` and `changes` (settings of `diarizer`) take the place of what is set there.

        `ConfigurationError` for a change that cannot be.
        """
        try:
            chosen = DiarizerSettings(**(settings.diarizer.model_dump() | changes))
        except ValidationError as error:
            raise ConfigurationError(f"The diarizer cannot be set so: {error.errors()[0]['msg']}.") from error
        pins = (generation.model.sha256 for generation in settings.known_generations().values())
        return cls(
            chosen,
            device=device or settings.device,
            pinned=tuple(sorted(pin for pin in pins if pin is not None)),
            allow_unknown=settings.allow_unknown_checkpoints,
            offline=settings.models.offline,
            telemetry=settings.telemetry,
            folder=settings.models_folder,
        )

    def files_here(self) -> PipelineFiles | CloudPipeline:
        """What would be loaded, without loading it or asking the hub. Raises what `find` raises."""
        sums = frozenset((*self.settings.sha256, *self.pinned))
        trust = Trust(sums, self.allow_unknown, offline=True, allow_cloud=self.settings.allow_cloud)
        return find(self.settings.pipeline, self.settings.revision, trust)

    def __call__(self, channels: Channels = "mix") -> Diarizer:
        """The diarizer, ready. Raises what `load_diarizer` raises."""
        if channels == "as-speakers":
            return ChannelsAsSpeakers()
        key = repr(self)
        with _loading:
            if key not in _held:
                _held.clear()
                _held[key] = load_diarizer(
                    self.settings,
                    device=self.device,
                    pinned=self.pinned,
                    allow_unknown=self.allow_unknown,
                    offline=self.offline,
                    telemetry=self.telemetry,
                    folder=self.folder,
                )
            return _held[key]


class _Maker:
    """Makes a pipeline from the bytes of its files, as often as it is needed."""

    def __init__(
        self, files: PipelineFiles, settings: DiarizerSettings, *, telemetry: bool, folder: Path | None
    ) -> None:
        self._files, self._settings, self._telemetry, self._folder = files, settings, telemetry, folder
        self._config = files.config.changed(
            clustering=settings.clustering,
            segmentation_step=settings.segmentation_step,
            segmentation_batch_size=settings.segmentation_batch_size,
            embedding_batch_size=settings.embedding_batch_size,
            parameters=settings.parameters,
        )

    @property
    def embedding_recipe(self) -> str:
        """What the pipeline's own embeddings depend on; no generation's recipe is called so."""
        config = self._config
        stated = [
            self._files.embedding.sha256,
            self._files.segmentation.sha256,
            config.segmentation_step,
            config.embedding_exclude_overlap,
            config.clustering,
        ]
        return "diarizer-" + hashlib.blake2b(json.dumps(stated).encode(), digest_size=8).hexdigest()

    def on(self, device: str) -> tuple[Running, tuple[str, ...]]:
        """The pipeline on a device, or why it is on the processor instead."""
        index, notices = _cuda(device)
        pipeline = self._pipeline()
        if index is None:
            return self._running(pipeline, "cpu", notices)
        import torch

        try:
            pipeline.to(torch.device(f"cuda:{index}"))
        except RuntimeError as error:
            said = f"The device cuda:{index} cannot be used ({error}); the diarizer runs on the CPU."
            return self._running(self._pipeline(), "cpu", (*notices, said))
        return self._running(pipeline, f"cuda:{index}", notices)

    def _running(self, pipeline: Any, device: str, notices: tuple[str, ...]) -> tuple[Running, tuple[str, ...]]:
        model = pipeline._embedding.model_
        if self._settings.embedding == "unchanged":
            return Running(pipeline, device), notices
        if not can_share(model):
            said = f"{type(model).__name__} cannot be cut before its pooling, so each chunk passes once a speaker slot."
            return Running(pipeline, device), (*notices, said)
        batch = 1 if device == "cpu" else self._config.embedding_batch_size
        frames, said = choose(
            model, self._files.embedding.sha256, backend=self._settings.backend, batch=batch, folder=self._folder
        )
        return Running(pipeline, device, frames), (*notices, said) if said else notices

    def _pipeline(self) -> Any:
        config, files = self._config, self._files
        model_class = embedders.import_model_class(telemetry=self._telemetry)
        with embedders.quiet():
            from pyannote.audio.core.plda import PLDA
            from pyannote.audio.pipelines import SpeakerDiarization

        segmentation, embedding = (_model(model_class, part) for part in (files.segmentation, files.embedding))
        try:
            with embedders.quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pipeline = SpeakerDiarization(
                    segmentation=segmentation,
                    embedding=embedding,
                    plda=_plda(PLDA, files.plda),
                    clustering=config.clustering,
                    segmentation_step=config.segmentation_step,
                    segmentation_batch_size=config.segmentation_batch_size,
                    embedding_batch_size=config.embedding_batch_size,
                    embedding_exclude_overlap=config.embedding_exclude_overlap,
                )
        except (ValueError, KeyError, AttributeError, TypeError, RuntimeError, OSError) as error:
            raise ModelUnavailable(
                f"The files of {files.name} make no pipeline ({type(error).__name__}: {error})."
            ) from error
        _instantiate(pipeline, config)
        pipeline._otel_origin, pipeline._otel_name = "local", type(pipeline).__name__
        return pipeline


def _model(model_class: Any, part: Part) -> Any:
    """The model in a checkpoint whose bytes were accepted: unpickling them runs what is in them."""
    try:
        with embedders.quiet():
            model = model_class.from_pretrained(io.BytesIO(part.data), map_location="cpu", strict=False)
    except MemoryError:
        raise  # it says nothing about the file
    except Exception as error:
        # Unpickling runs the file, so damaged bytes can raise anything.
        raise ModelUnavailable(
            f"{part.name} of the diarization pipeline is no pyannote.audio checkpoint, or damaged ({type(error).__name__})."
        ) from error
    return model.eval()


def _plda(plda_class: Any, parts: tuple[Part, ...]) -> Any:
    """The PLDA of the clustering that needs one; an empty one else, so that none is looked for on the hub."""
    if not parts:
        return plda_class.__new__(plda_class)
    transform, plda = (io.BytesIO(part.data) for part in parts)
    return plda_class(transform, plda)


def _instantiate(pipeline: Any, config: PipelineConfig) -> None:
    """Give the pipeline its parameters. `ConfigurationError` for one that it does not have, that is out of its range, or that
    is missing: `instantiate` itself takes any number."""
    known = {f"{group}.{name}": each for group, names in _parameters(pipeline).items() for name, each in names.items()}
    nested: dict[str, dict[str, Any]] = {}
    for dotted, value in config.params.items():
        group, _, name = dotted.partition(".")
        if dotted not in known:
            raise ConfigurationError(
                f"The diarization pipeline has no parameter {dotted!r}.", hint=f"It has {', '.join(sorted(known))}."
            )
        _check_range(dotted, value, known[dotted])
        nested.setdefault(group, {})[name] = value
    if missing := sorted(set(known) - set(config.params)):
        raise ConfigurationError(
            f"The diarization pipeline needs a value of {missing[0]!r}.",
            hint="Give it in its config.yaml, or in the setting `diarizer.parameters`.",
        )
    pipeline.instantiate(nested)


def _parameters(pipeline: Any) -> Mapping[str, Mapping[str, Any]]:
    """What can be set, by group, each with its range."""
    groups = {"clustering": pipeline.clustering, "segmentation": pipeline.segmentation}
    return {name: dict(group._parameters) for name, group in groups.items()}


def _check_range(dotted: str, value: object, known: Any) -> None:
    choices = getattr(known, "choices", None)
    if choices is not None:
        if value not in choices:
            raise ConfigurationError(f"`{dotted}` is {value!r}.", hint=f"It is one of {', '.join(map(str, choices))}.")
        return
    low, high, whole = known.low, known.high, isinstance(known.low, int)
    right = isinstance(value, int) if whole else isinstance(value, int | float)
    if not right or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ConfigurationError(f"`{dotted}` is {value!r}.", hint=f"It is {kind} from {low:g} to {high:g}.")


@functools.lru_cache
def _cuda(device: str) -> tuple[int | None, tuple[str, ...]]:
    """The number of the CUDA device that was asked for and is there; and what to say where it is not."""
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return None, ()
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(device.partition(":")[2] or 0)
    if index < count:
        return index, ()
    if device == "auto":
        return None, ()
    return None, (
        f"The device {device} cannot be used (torch sees {count} CUDA devices); the diarizer runs on the CPU.",
    )
