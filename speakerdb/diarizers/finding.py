"""Finding a pipeline's files, and the checksum of each before it is used.

A folder on this machine is looked at first. Only a name that says so goes online: one that begins with `pyannote/`, or
`hub:OWNER/NAME`; a mistyped path never does. Checkpoints are programs: their bytes are read once, their SHA-256 is compared
with what may be loaded, and those very bytes are handed on.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from speakerdb.diarizers.config import CLOUD, CONFIG_FILE, MODEL_NAME, PipelineConfig, Reference, is_cloud, parse_config
from speakerdb.errors import CheckpointUntrusted, DiarizerRefused, ModelUnavailable
from speakerdb.models import hub
from speakerdb.models.hub import CACHE, CHECKPOINT_FILE, HUB, Attempt, Outcome
from speakerdb.models.sources import MAX_BYTES, refusal
from speakerdb.types import ModelSpec

PLDA_FILES = ("xvec_transform.npz", "plda.npz")
PRECISION = "pyannote/speaker-diarization-precision"
"""The hub's pipelines whose names begin so only pass the sound on."""

_HUB_NAME = re.compile(r"hub:([A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)")
_OFFLINE_HINT = (
    "Clone the pipeline's folder on a machine with network, bring it here, and set `diarizer.pipeline`"
    " (SPEAKERDB_DIARIZER__PIPELINE) to it."
)


@dataclass(frozen=True, slots=True)
class Trust:
    """Which files may be loaded: those with one of these checksums, or all. `offline`: the hub is not asked."""

    sha256: Collection[str] = ()
    allow_unknown: bool = False
    offline: bool = False
    allow_cloud: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A file that was read and may be loaded. `name` says which one it is, for a person."""

    name: str
    data: bytes = field(repr=False)
    sha256: str


@dataclass(frozen=True, slots=True)
class PipelineFiles:
    """A pipeline: its config, and the files that it names. `plda` is empty where none is needed. `cloud`: it has no files,
    and sends the sound away."""

    name: str
    config: PipelineConfig
    segmentation: Part
    embedding: Part
    plda: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class CloudPipeline:
    """A pipeline that has no files and sends the sound away; `model` is its name there."""

    name: str
    model: str


def find(pipeline: str, revision: str | None, trust: Trust) -> PipelineFiles | CloudPipeline:
    """The files of the pipeline that a setting names.

    `DiarizerRefused` for a config that is not taken, or that sends sound away without leave; `ModelUnavailable`,
    `ModelOffline`, `ModelAccessDenied` or `CheckpointUntrusted` where a file cannot be had or may not be loaded.
    """
    path = Path(pipeline).expanduser()
    folder = path.parent if path.name == CONFIG_FILE and path.is_file() else path
    if folder.is_dir():
        return _Folder(folder, trust).pipeline(folder.resolve().name)
    named = _HUB_NAME.fullmatch(pipeline)
    if named is not None or MODEL_NAME.fullmatch(pipeline):
        return _Repository(named[1] if named else pipeline, revision, trust).pipeline(pipeline)
    raise ModelUnavailable(
        f"There is no folder {pipeline} for the diarization pipeline.",
        hint="Set `diarizer.pipeline` to a folder with a config.yaml, to a name of `pyannote/`, or to `hub:OWNER/NAME`.",
    )


class _Where:
    """Somewhere a pipeline lies."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def pipeline(self, name: str) -> PipelineFiles | CloudPipeline:
        """The pipeline with all its files."""
        text = self._config()
        if is_cloud(text):
            return _cloud(name, self._trust)
        config = parse_config(text)
        plda = config.plda
        parts = [
            ("segmentation", config.segmentation, CHECKPOINT_FILE),
            ("embedding", config.embedding, CHECKPOINT_FILE),
            *(("plda", plda, file) for file in PLDA_FILES if plda is not None),
        ]
        read = [self._part(part, reference, file) for part, reference, file in parts]
        self._check(read)
        return PipelineFiles(name, config, read[0], read[1], tuple(read[2:]))

    def _config(self) -> bytes:
        raise NotImplementedError

    def _file(self, reference: Reference, file: str) -> Path:
        raise NotImplementedError

    def _part(self, part: str, reference: Reference, file: str) -> Part:
        if reference.model_id is not None:
            path = _Repository(reference.model_id, None, self._trust).fetched(file)
        else:
            path = self._file(reference, file)
        data = _bytes(path, MAX_BYTES)
        return Part(f"{part}/{file}", data, hashlib.sha256(data).hexdigest())

    def _check(self, parts: list[Part]) -> None:
        """`CheckpointUntrusted` where a file may not be loaded; it names them all, so that all can be pinned at once."""
        if self._trust.allow_unknown:
            return
        unknown = [part for part in parts if part.sha256 not in self._trust.sha256]
        if unknown:
            listed = ", ".join(f"{part.name} ({part.sha256})" for part in unknown)
            pins = ", ".join(f'"{part.sha256}"' for part in unknown)
            raise CheckpointUntrusted(
                f"Nobody pinned these files of the diarization pipeline: {listed}.",
                hint="A checkpoint is a program. If you trust where it came from, write into the settings file, under"
                f" [diarizer]: sha256 = [{pins}]. To load any file unseen, set `allow_unknown_checkpoints`.",
                files={part.name: part.sha256 for part in unknown},
            )


class _Folder(_Where):
    """A folder on this machine."""

    def __init__(self, folder: Path, trust: Trust) -> None:
        super().__init__(trust)
        self._folder = folder

    def _config(self) -> bytes:
        path = self._folder / CONFIG_FILE
        if not path.is_file():
            raise ModelUnavailable(
                f"The folder {self._folder} has no {CONFIG_FILE}, so it is no diarization pipeline.",
                hint="Give the folder that a clone of pyannote/speaker-diarization-community-1 made.",
            )
        return _bytes(path, MAX_BYTES)

    def _file(self, reference: Reference, file: str) -> Path:
        # Links inside it are followed on purpose: a hub's cache is made of them. The checksum decides what is loaded.
        path = self._folder.absolute() / reference.folder / file
        if reference.folder.startswith("../"):
            path = self._folder.resolve().parent / reference.folder.removeprefix("../") / file
        if not path.is_file():
            raise ModelUnavailable(
                f"The diarization pipeline in {self._folder} lacks {reference.folder}/{file}.",
                hint="Copy the whole folder again; a clone without git-lfs has no weights in it.",
            )
        return path


class _Repository(_Where):
    """A repository of the hub: its cache on this machine first."""

    def __init__(self, model_id: str, revision: str | None, trust: Trust) -> None:
        super().__init__(trust)
        self._id, self._revision = model_id, revision

    def pipeline(self, name: str) -> PipelineFiles | CloudPipeline:
        if self._id.startswith(PRECISION):
            return _cloud(name, self._trust)
        return super().pipeline(name)

    def fetched(self, file: str, subfolder: str | None = None) -> Path:
        """A file, from the cache or from the hub."""
        spec = ModelSpec("pyannote", self._id, dimension=0, revision=self._revision, subfolder=subfolder)
        attempts = []
        for source in (CACHE, HUB):
            if source == CACHE:
                found = hub.from_cache(spec, file=file)
            elif self._trust.offline:
                found = Attempt(HUB, Outcome.OFFLINE, "not asked, because the setting models.offline is on")
            else:
                found = hub.download(spec, file=file)
            if isinstance(found, Path):
                return found
            attempts.append(found)
        error = refusal(spec, attempts)
        if error.code == "model-offline":
            error.hint = _OFFLINE_HINT
        elif error.code == "model-unavailable":
            error.hint = "Look at the name and the revision in `diarizer.pipeline` and `diarizer.revision`."
        raise error

    def _config(self) -> bytes:
        return _bytes(self.fetched(CONFIG_FILE), MAX_BYTES)

    def _file(self, reference: Reference, file: str) -> Path:
        if reference.folder.startswith(".."):
            raise DiarizerRefused(f"The config.yaml of {self._id} looks for a part outside of it ({reference.folder}).")
        return self.fetched(file, reference.folder)


def _cloud(name: str, trust: Trust) -> CloudPipeline:
    if not trust.allow_cloud:
        raise DiarizerRefused(
            f"{name} sends the sound of every recording to the servers of {CLOUD}; it is not computed on this machine.",
            hint="Take pyannote/speaker-diarization-community-1. If sending it away is what you want, set"
            " `diarizer.allow_cloud` (SPEAKERDB_DIARIZER__ALLOW_CLOUD=true).",
        )
    tail = name.rpartition("/")[2]
    return CloudPipeline(name, tail.removeprefix("speaker-diarization-") if "precision" in tail else "precision-2")


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
                raise ModelUnavailable(
                    f"{path} is no file of a pipeline: not a regular file, or above {limit:,} bytes."
                )
            return file.read()
    except OSError as error:
        raise ModelUnavailable(f"{path} cannot be read ({error.strerror}).") from error
