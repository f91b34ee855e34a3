"""Where a pipeline is looked for, and which of its files may be loaded."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from diarize_kit import heard

from speakerdb.diarizers import finding
from speakerdb.diarizers.finding import CloudPipeline, PipelineFiles, Trust, find
from speakerdb.diarizers.loading import load_diarizer
from speakerdb.diarizers.port import Hints
from speakerdb.diarizers.pyannote import PyannoteDiarizer
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import (
    CheckpointUntrusted,
    ConfigurationError,
    DiarizationFailed,
    DiarizerRefused,
    ModelAccessDenied,
    ModelOffline,
    ModelUnavailable,
)
from speakerdb.models.hub import Attempt, Outcome
from speakerdb.settings import DiarizerSettings
from speakerdb.types import ModelSpec

ALL = Trust(allow_unknown=True, offline=True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that the hub or its cache is asked for; neither has any."""
    asked: list[str] = []

    def cache(spec: ModelSpec, *, file: str) -> Attempt:
        asked.append(f"cache {spec.id}/{file}")
        return Attempt("cache", Outcome.NOT_FOUND, "not in the cache")

    def hub(spec: ModelSpec, *, file: str) -> Attempt:
        asked.append(f"hub {spec.id}/{file}")
        return Attempt("hub", Outcome.TERMS_NOT_ACCEPTED, "the terms were not accepted (403)")

    monkeypatch.setattr(finding.hub, "from_cache", cache)
    monkeypatch.setattr(finding.hub, "download", hub)
    return asked


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "models/communty-1", "./here", "~/pipelines/one", "communty", "a/b/c"]
)
def test_a_mistyped_path_never_goes_online(name: str, asked: list[str]) -> None:
    with pytest.raises(ModelUnavailable) as refused:
        find(name, None, Trust(allow_unknown=True))
    assert "diarizer.pipeline" in refused.value.hint
    assert asked == []


def test_a_name_of_the_hub_is_looked_for_in_its_cache_and_then_there(asked: list[str]) -> None:
    with pytest.raises(ModelAccessDenied) as refused:
        find("pyannote/speaker-diarization-community-1", "main", Trust(allow_unknown=True))
    assert "huggingface.co/pyannote/speaker-diarization-community-1" in refused.value.hint
    assert [each.split("/")[0] for each in asked] == ["cache pyannote", "hub pyannote"]
    asked.clear()
    with pytest.raises(ModelAccessDenied):
        find("hub:somebody/theirs", None, Trust(allow_unknown=True))
    assert asked == ["cache somebody/theirs/config.yaml", "hub somebody/theirs/config.yaml"]


def test_offline_the_hub_is_not_asked(asked: list[str]) -> None:
    with pytest.raises(ModelOffline) as refused:
        find("pyannote/speaker-diarization-community-1", None, ALL)
    assert "diarizer.pipeline" in refused.value.hint
    assert asked == ["cache pyannote/speaker-diarization-community-1/config.yaml"]


def test_a_pipeline_of_the_hub_is_put_together_from_its_repositories(
    standin_models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As 3.1 is: the config names two other repositories."""
    config = (standin_models / "standin-diarization" / "config.yaml").read_text()
    config = config.replace("$model/segmentation", "pyannote/segmentation-3.0").replace(
        "$model/../standin-wespeaker-resnet34", "pyannote/wespeaker-voxceleb-resnet34-LM"
    )
    (tmp_path / "config.yaml").write_text(config)
    places = {
        ("pyannote/mine", None, "config.yaml"): tmp_path / "config.yaml",
        ("pyannote/mine", "plda", "plda.npz"): standin_models / "standin-diarization/plda/plda.npz",
        ("pyannote/mine", "plda", "xvec_transform.npz"): standin_models / "standin-diarization/plda/xvec_transform.npz",
        ("pyannote/segmentation-3.0", None, "pytorch_model.bin"): standin_models
        / "standin-diarization/segmentation/pytorch_model.bin",
        ("pyannote/wespeaker-voxceleb-resnet34-LM", None, "pytorch_model.bin"): standin_models
        / "standin-wespeaker-resnet34/pytorch_model.bin",
    }
    monkeypatch.setattr(finding.hub, "from_cache", lambda spec, *, file: places[spec.id, spec.subfolder, file])
    found = find("pyannote/mine", None, ALL)
    assert isinstance(found, PipelineFiles)
    assert [part.name for part in found.plda] == ["plda/xvec_transform.npz", "plda/plda.npz"]
    assert found.embedding.sha256.startswith("86d6ade8")


def test_a_config_of_the_hub_may_not_look_outside_of_its_repository(
    standin_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = standin_models / "standin-diarization" / "config.yaml"
    monkeypatch.setattr(finding.hub, "from_cache", lambda *_, **__: config)
    with pytest.raises(DiarizerRefused, match="outside"):
        find("pyannote/mine", None, ALL)


def test_files_that_nobody_pinned_are_all_named(pipeline_folder: Path, pins: tuple[str, ...]) -> None:
    with pytest.raises(CheckpointUntrusted) as refused:
        find(str(pipeline_folder), None, Trust(sha256=pins[:1], offline=True))
    assert sorted(refused.value.details["files"].values()) == sorted(pins[1:])
    assert all(pin in refused.value.hint for pin in pins[1:])
    assert isinstance(find(str(pipeline_folder), None, Trust(sha256=pins, offline=True)), PipelineFiles)


def test_a_file_that_was_changed_is_not_loaded(copied: Path, pins: tuple[str, ...]) -> None:
    path = copied / "segmentation" / "pytorch_model.bin"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CheckpointUntrusted, match="segmentation"):
        find(str(copied), None, Trust(sha256=pins, offline=True))


def test_what_is_missing_is_named(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelUnavailable, match=r"no config\.yaml"):
        find(str(tmp_path / "empty"), None, ALL)
    (copied / "plda" / "plda.npz").unlink()
    with pytest.raises(ModelUnavailable, match="plda"):
        find(str(copied), None, ALL)
    (copied.parent / "standin-wespeaker-resnet34" / "pytorch_model.bin").unlink()
    with pytest.raises(ModelUnavailable, match="standin-wespeaker-resnet34"):
        find(str(copied / "config.yaml"), None, ALL)


@pytest.mark.models
@pytest.mark.parametrize("part", ["segmentation/pytorch_model.bin", "plda/plda.npz"])
def test_a_damaged_file_is_no_pipeline(copied: Path, part: str) -> None:
    """As what git-lfs leaves where it is not installed: a text in the place of weights."""
    (copied / part).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelUnavailable):
        load_diarizer(DiarizerSettings(pipeline=str(copied)), device="cpu", allow_unknown=True, offline=True)


# Parameters


@pytest.mark.models
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"parameters": {"clustering.threshold": 5.0}}, "from 0.5 to 0.8"),
        ({"parameters": {"clustering.threshold": "much"}}, "from 0.5 to 0.8"),
        ({"parameters": {"clustering.unknown": 1}}, "clustering.Fa"),
        ({"parameters": {"segmentation.min_duration_off": -1}}, "from 0 to 1"),
        ({"clustering": "AgglomerativeClustering"}, "diarizer.parameters"),
        ({"clustering": "AgglomerativeClustering", "parameters": {"clustering.method": "guess"}}, "one of"),
        (
            {
                "clustering": "AgglomerativeClustering",
                "parameters": {"clustering.method": "centroid", "clustering.min_cluster_size": 1.5},
            },
            "whole number",
        ),
    ],
)
def test_parameters_are_held_to_their_ranges(
    load: Callable[..., PyannoteDiarizer], given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(**given)
    assert says in refused.value.hint


@pytest.mark.models
def test_another_clustering_needs_no_plda(load: Callable[..., PyannoteDiarizer]) -> None:
    diarizer = load(
        clustering="AgglomerativeClustering",
        parameters={"clustering.method": "centroid", "clustering.min_cluster_size": 1, "clustering.threshold": 0.7},
        segmentation_batch_size=4,
        embedding_batch_size=8,
    )
    pipeline = diarizer._running.pipeline
    assert (pipeline.segmentation_batch_size, pipeline.embedding_batch_size) == (4, 8)
    assert diarizer.diarize(heard([(1, 3)]), Hints(max_speakers=1)).speakers == ("SPEAKER_00",)


@pytest.mark.models
def test_a_device_that_is_not_there_is_told(load: Callable[..., PyannoteDiarizer], pipeline_folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    found = load_diarizer(
        DiarizerSettings(pipeline=str(pipeline_folder), backend="torch"),
        device="cuda:3",
        allow_unknown=True,
        offline=True,
    )
    assert isinstance(found, PyannoteDiarizer)
    assert found.device == "cpu"
    assert "cuda:3 cannot be used" in found.notices[0]
    with pytest.raises(ConfigurationError):
        load_diarizer(DiarizerSettings(pipeline=str(pipeline_folder)), device="tpu", allow_unknown=True)


# What sends sound away


PRECISION = "pyannote/speaker-diarization-precision-2"


def test_a_pipeline_that_sends_sound_away_is_refused_with_that_reason(asked: list[str], copied: Path) -> None:
    with pytest.raises(DiarizerRefused, match="sends the sound") as refused:
        find(PRECISION, None, Trust(allow_unknown=True))
    assert "allow_cloud" in refused.value.hint
    assert asked == []
    (copied / "config.yaml").write_text("pipeline:\n  name: pyannote.audio.pipelines.pyannoteai.sdk.SDK\n")
    with pytest.raises(DiarizerRefused, match="sends the sound"):
        find(str(copied), None, ALL)


def test_it_is_taken_where_it_was_allowed_and_needs_a_key_and_a_package(
    monkeypatch: pytest.MonkeyPatch, sound_file: Path
) -> None:
    found = find(PRECISION, None, Trust(allow_cloud=True))
    assert found == CloudPipeline(PRECISION, "precision-2")
    settings = DiarizerSettings(pipeline=PRECISION, allow_cloud=True)
    monkeypatch.delenv("PYANNOTEAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="key"):
        load_diarizer(settings)
    monkeypatch.setenv("PYANNOTEAI_API_KEY", "none")
    monkeypatch.setitem(sys.modules, "pyannoteai", None)
    with pytest.raises(ConfigurationError, match="not installed"):
        load_diarizer(settings)


def test_what_it_answers_is_a_diarization(monkeypatch: pytest.MonkeyPatch, sound_file: Path) -> None:
    from pyannote.core import Annotation, Segment

    annotation = Annotation()
    annotation[Segment(0.0, 1.0)] = "SPEAKER_00"
    annotation[Segment(0.5, 1.5)] = "SPEAKER_01"
    given: list[Any] = []

    class Sdk:
        def __init__(self, model: str) -> None:
            given.append(model)

        def __call__(self, file: dict[str, str], **hints: int | None) -> Any:
            if hints["num_speakers"] == 7:
                raise RuntimeError("the request with its key")
            given.append((file, hints))
            return SimpleNamespace(speaker_diarization=annotation, exclusive_speaker_diarization=None)

    module = ModuleType("pyannote.audio.pipelines.pyannoteai.sdk")
    module.SDK = Sdk  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("PYANNOTEAI_API_KEY", "none")
    diarizer = load_diarizer(DiarizerSettings(pipeline=PRECISION, allow_cloud=True))
    found = diarizer.diarize(Sound.of_file(sound_file), Hints(max_speakers=3))
    assert given[0] == "precision-2"
    assert given[1][0] == {"audio": str(sound_file), "uri": sound_file.stem}
    assert found.speakers == ("SPEAKER_00", "SPEAKER_01")
    assert [turn.end for turn in found.exclusive] == [1.0, 1.5]
    assert "sent to pyannoteAI" in found.notices[0]
    with pytest.raises(DiarizationFailed) as failed:
        diarizer.diarize(Sound.of_file(sound_file), Hints(num_speakers=7))
    assert "key" not in str(failed.value)


def test_the_pins_of_the_settings_are_those_of_the_folder_in_the_docs(standin_models: Path) -> None:
    """The sums in the README of the assets are those of the files."""
    readme = (standin_models / "README.md").read_text()
    for part in ("segmentation/pytorch_model.bin", "plda/plda.npz", "plda/xvec_transform.npz"):
        assert hashlib.sha256((standin_models / "standin-diarization" / part).read_bytes()).hexdigest() in readme
