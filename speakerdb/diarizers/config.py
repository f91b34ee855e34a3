"""A pipeline's `config.yaml`: read and checked before anything is imported, because it names what is imported.

Only pyannote's own `SpeakerDiarization` is taken, with the parameters that are known here and references to files of the same
folder, of one beside it, or of models of `pyannote/` on the hub. Everything else is `DiarizerRefused`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from speakerdb.errors import DiarizerRefused

CONFIG_FILE = "config.yaml"
MAX_CONFIG_BYTES = 64 * 1024
PIPELINES = (
    "pyannote.audio.pipelines.SpeakerDiarization",
    "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization",
)
CLOUD = "pyannoteai"
"""What the names of pipelines have in common that send sound away, and of the packages that do it."""
CLUSTERINGS = ("VBxClustering", "AgglomerativeClustering")
MODEL_NAME = re.compile(r"pyannote/[A-Za-z0-9][A-Za-z0-9._-]*")

_KEYS = {"dependencies", "version", "pipeline", "params"}
_PARAMS = {
    "clustering", "segmentation", "segmentation_batch_size", "segmentation_step", "embedding", "embedding_batch_size",
    "embedding_exclude_overlap", "plda", "der_variant", "legacy",
}  # fmt: skip
_HINT = "Compare it with the config.yaml of pyannote/speaker-diarization-community-1; a config is a program."


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a part of a pipeline lies: in `folder`, relative to the pipeline's own (which may begin with ``..``), or in a
    hub's repository `model_id`."""

    folder: str = ""
    model_id: str | None = None


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """What a `config.yaml` says. `plda` is None where the clustering needs none. `params` are the pipeline's parameters by
    dotted name."""

    segmentation: Reference
    embedding: Reference
    plda: Reference | None
    clustering: str
    segmentation_step: float = 0.1
    segmentation_batch_size: int = 1
    embedding_batch_size: int = 1
    embedding_exclude_overlap: bool = False
    params: Mapping[str, float | int | str] = field(default_factory=dict)

    def changed(
        self,
        *,
        clustering: str | None = None,
        segmentation_step: float | None = None,
        segmentation_batch_size: int | None = None,
        embedding_batch_size: int | None = None,
        parameters: Mapping[str, float | int | str] | None = None,
    ) -> PipelineConfig:
        """The same with what is set in its place. Another clustering takes none of the parameters of the pipeline's own."""
        params = dict(self.params)
        if clustering is not None and clustering != self.clustering:
            _check_clustering(clustering)
            params = {name: value for name, value in params.items() if not name.startswith("clustering.")}
        return replace(
            self,
            clustering=clustering or self.clustering,
            segmentation_step=segmentation_step or self.segmentation_step,
            segmentation_batch_size=segmentation_batch_size or self.segmentation_batch_size,
            embedding_batch_size=embedding_batch_size or self.embedding_batch_size,
            params=params | dict(parameters or {}),
        )


def is_cloud(text: bytes) -> bool:
    """Whether a config names a pipeline that sends sound away."""
    return CLOUD in _pipeline(_read(text)).get("name", "").lower()


def parse_config(text: bytes) -> PipelineConfig:
    """What a `config.yaml` says. `DiarizerRefused` for anything that is not exactly a pipeline that is known."""
    given = _read(text)
    pipeline = _pipeline(given)
    name = pipeline["name"]
    if name not in PIPELINES:
        raise DiarizerRefused(
            f"Its config.yaml names the class {name!r}; only {PIPELINES[0]} is taken.", hint=_HINT, name=name
        )
    _known(given, _KEYS, "It")
    _known(pipeline, {"name", "params"}, "`pipeline`")
    params = pipeline.get("params") or {}
    if not isinstance(params, dict):
        raise DiarizerRefused("`pipeline.params` of its config.yaml is no table.", hint=_HINT)
    _known(params, _PARAMS, "`pipeline.params`")
    clustering = params.get("clustering", "VBxClustering")
    _check_clustering(clustering)
    needed = ["segmentation", "embedding"] + (["plda"] if clustering == "VBxClustering" else [])
    if missing := [part for part in needed if part not in params]:
        raise DiarizerRefused(f"Its config.yaml does not say where its {missing[0]} is.", hint=_HINT)
    return PipelineConfig(
        segmentation=_reference("segmentation", params["segmentation"]),
        embedding=_reference("embedding", params["embedding"]),
        plda=_reference("plda", params["plda"]) if "plda" in needed else None,
        clustering=clustering,
        segmentation_step=_number(params, "segmentation_step", 0.1, 0.001, 1.0),
        segmentation_batch_size=round(_number(params, "segmentation_batch_size", 1, 1, 4096)),
        embedding_batch_size=round(_number(params, "embedding_batch_size", 1, 1, 4096)),
        embedding_exclude_overlap=params.get("embedding_exclude_overlap", False) is True,
        params=_flat(given.get("params") or {}),
    )


def _read(text: bytes) -> dict[str, Any]:
    import yaml  # it comes with pyannote.audio

    if len(text) > MAX_CONFIG_BYTES:
        raise DiarizerRefused(f"Its config.yaml has more than {MAX_CONFIG_BYTES:,} bytes.", hint=_HINT)
    try:
        given = yaml.safe_load(text.decode("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DiarizerRefused(f"Its config.yaml cannot be read ({type(error).__name__}).", hint=_HINT) from error
    if not isinstance(given, dict):
        raise DiarizerRefused("Its config.yaml is no table.", hint=_HINT)
    return given


def _pipeline(given: Mapping[str, Any]) -> dict[str, Any]:
    pipeline = given.get("pipeline")
    if not isinstance(pipeline, dict) or not isinstance(pipeline.get("name"), str):
        raise DiarizerRefused("Its config.yaml does not name a pipeline.", hint=_HINT)
    return pipeline


def _known(given: Mapping[Any, Any], known: set[str], where: str) -> None:
    if unknown := sorted(str(key) for key in given if key not in known):
        raise DiarizerRefused(f"{where} in config.yaml holds {unknown[0]!r}, which is not known.", hint=_HINT)


def _check_clustering(name: object) -> None:
    if name not in CLUSTERINGS:
        raise DiarizerRefused(f"There is no clustering {name!r} here.", hint=f"Use {' or '.join(CLUSTERINGS)}.")


def _reference(part: str, value: object) -> Reference:
    """A part's place. It may lie in the pipeline's folder or in one beside it, and nowhere else."""
    if isinstance(value, str) and MODEL_NAME.fullmatch(value):
        return Reference(model_id=value)
    if isinstance(value, str) and value.startswith("$model/") and "\\" not in value and "@" not in value:
        steps = [step for step in value.removeprefix("$model/").split("/") if step not in ("", ".")]
        if steps and ".." not in steps[1:] and (steps[0] != ".." or len(steps) == 2):
            return Reference(folder="/".join(steps))
    raise DiarizerRefused(
        f"Its config.yaml looks for its {part} at {value!r}, which is neither in its folder nor a folder beside it.",
        hint="Write `$model/NAME` for a folder in it, or `$model/../NAME` for one beside it.",
    )


def _number(params: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DiarizerRefused(
            f"`{name}` in its config.yaml is {value!r}, not a number from {low:g} to {high:g}.", hint=_HINT
        )
    return value


def _flat(given: object) -> dict[str, float | int | str]:
    """Parameters by dotted name."""
    found: dict[str, float | int | str] = {}
    for group, params in given.items() if isinstance(given, dict) else [("", None)]:
        for name, value in params.items() if isinstance(params, dict) else [("", None)]:
            if isinstance(value, bool) or not isinstance(value, float | int | str):
                raise DiarizerRefused("`params` in its config.yaml is no table of parameters.", hint=_HINT)
            found[f"{group}.{name}"] = value
    return found
