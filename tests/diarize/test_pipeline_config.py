"""What a `config.yaml` may say. A config is a program: what is not known is refused, before anything is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from speakerdb.diarizers.config import MAX_CONFIG_BYTES, Reference, parse_config
from speakerdb.diarizers.finding import Trust, find
from speakerdb.errors import DiarizerRefused

COMMUNITY: dict[str, Any] = {
    "dependencies": {"pyannote.audio": "4.0.0"},
    "pipeline": {
        "name": "pyannote.audio.pipelines.SpeakerDiarization",
        "params": {
            "clustering": "VBxClustering",
            "segmentation": "$model/segmentation",
            "segmentation_batch_size": 32,
            "embedding": "$model/embedding",
            "embedding_batch_size": 32,
            "embedding_exclude_overlap": True,
            "plda": "$model/plda",
        },
    },
    "params": {"clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}, "segmentation": {"min_duration_off": 0.0}},
}
THREE_ONE: dict[str, Any] = {
    "version": "3.1.0",
    "pipeline": {
        "name": "pyannote.audio.pipelines.SpeakerDiarization",
        "params": {
            "clustering": "AgglomerativeClustering",
            "embedding": "pyannote/wespeaker-voxceleb-resnet34-LM",
            "embedding_batch_size": 32,
            "embedding_exclude_overlap": True,
            "segmentation": "pyannote/segmentation-3.0",
            "segmentation_batch_size": 32,
        },
    },
    "params": {
        "clustering": {"method": "centroid", "min_cluster_size": 12, "threshold": 0.7045654963945799},
        "segmentation": {"min_duration_off": 0.0},
    },
}


def text(config: object) -> bytes:
    return yaml.safe_dump(config).encode()


def changed(change: Callable[[dict[str, Any]], object], of: dict[str, Any] = COMMUNITY) -> bytes:
    copy = yaml.safe_load(text(of))
    change(copy)
    return text(copy)


def params(**more: object) -> bytes:
    return changed(lambda config: config["pipeline"]["params"].update(more))


def test_that_of_community_1_is_taken() -> None:
    found = parse_config(text(COMMUNITY))
    assert found.segmentation == Reference("segmentation")
    assert found.plda == Reference("plda")
    assert found.embedding_exclude_overlap
    assert (found.segmentation_step, found.embedding_batch_size) == (0.1, 32)
    assert found.params["clustering.Fb"] == 0.8


def test_that_of_3_1_is_taken_and_looks_for_no_plda() -> None:
    found = parse_config(text(THREE_ONE))
    assert found.segmentation == Reference(model_id="pyannote/segmentation-3.0")
    assert found.plda is None
    assert found.params["clustering.method"] == "centroid"


def test_a_byte_order_mark_does_no_harm() -> None:
    assert parse_config(b"\xef\xbb\xbf" + text(COMMUNITY)) == parse_config(text(COMMUNITY))


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"- a\n- b\n",
        b"pipeline: [",
        b"\xff\xfe",
        b"pipeline: {}\n",
        b"pipeline: {name: 3}\n",
        b"!!python/object/apply:os.system ['true']\n",
        b"#" * (MAX_CONFIG_BYTES + 1),
        changed(lambda config: config["pipeline"].update(name="os.system")),
        changed(lambda config: config["pipeline"].update(name="pyannote.audio.pipelines.VoiceActivityDetection")),
        changed(lambda config: config.update(preprocessors={"audio": {"name": "evil.Klass"}})),
        changed(lambda config: config.update(device="cuda")),
        changed(lambda config: config["pipeline"].update(more=1)),
        changed(lambda config: config["pipeline"].update(params=[1])),
        changed(lambda config: config.update(params={"clustering": 3})),
        changed(lambda config: config.update(params={"clustering": {"threshold": [1]}})),
        changed(lambda config: config["pipeline"]["params"].pop("plda")),
        changed(lambda config: config["pipeline"]["params"].pop("segmentation")),
        params(token="secret"),  # noqa: S106
        params(clustering="OracleClustering"),
        params(clustering=["VBxClustering"]),
        params(segmentation_step=0),
        params(segmentation_step="0.1"),
        params(segmentation_batch_size=True),
        params(segmentation="/etc/passwd"),
        params(segmentation="segmentation"),
        params(segmentation="$model/../../elsewhere"),
        params(segmentation="$model/.."),
        params(segmentation="$model/a/../../../b"),
        params(segmentation="$model/segmentation@main"),
        params(segmentation="$model/"),
        params(embedding="somebody/else"),
        params(embedding={"checkpoint": "pyannote/embedding"}),
    ],
)
def test_anything_else_is_refused(given: bytes) -> None:
    with pytest.raises(DiarizerRefused) as refused:
        parse_config(given)
    assert refused.value.hint


def test_a_class_that_is_not_pyannotes_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_pipeline.py").write_text("raise SystemExit('it was imported')\n")
    (tmp_path / "config.yaml").write_bytes(
        changed(lambda config: config["pipeline"].update(name="evil_pipeline.SpeakerDiarization"))
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DiarizerRefused, match="evil_pipeline"):
        find(str(tmp_path), None, Trust(allow_unknown=True))
    assert "evil_pipeline" not in sys.modules


def test_another_clustering_takes_none_of_the_parameters_of_the_first() -> None:
    found = parse_config(text(COMMUNITY)).changed(
        clustering="AgglomerativeClustering", parameters={"clustering.threshold": 0.7}, segmentation_step=0.5
    )
    assert dict(found.params) == {"segmentation.min_duration_off": 0.0, "clustering.threshold": 0.7}
    assert found.segmentation_step == 0.5
    with pytest.raises(DiarizerRefused):
        found.changed(clustering="KMeansClustering")
