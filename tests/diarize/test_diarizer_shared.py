"""One pass a chunk against pyannote's own pipeline, loaded as pyannote loads it: the oracle shares no code with the subject."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diarize_kit import RATE, SAMPLE, conversation, heard

from speakerdb import media
from speakerdb.diarizers.frames import OpenVinoFrames
from speakerdb.diarizers.port import Artifact, Diarization
from speakerdb.diarizers.pyannote import PyannoteDiarizer
from speakerdb.diarizers.shared import can_share
from speakerdb.diarizers.sound import Sound
from speakerdb.types import FloatArray, Turn, Waveform

pytestmark = pytest.mark.models

PARITY = 0.9999
Annotated = tuple[tuple[Turn, ...], tuple[Turn, ...], Any]


@pytest.fixture(scope="module")
def oracle(standin_models: Path, shared: PyannoteDiarizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The unchanged pipeline, at the step of the other tests. After `shared`, so that telemetry is off."""
    from pyannote.audio import Pipeline

    folder = tmp_path_factory.mktemp("oracle") / "standin-diarization"
    folder.mkdir()
    for name in ("segmentation", "plda"):
        (folder / name).symlink_to(standin_models / "standin-diarization" / name)
    (folder.parent / "standin-wespeaker-resnet34").symlink_to(standin_models / "standin-wespeaker-resnet34")
    config = (standin_models / "standin-diarization" / "config.yaml").read_text()
    # Batches of one: they give the same, and do not wait for memory.
    config = config.replace("segmentation_step: 0.2", "segmentation_step: 0.5")
    (folder / "config.yaml").write_text(config.replace("embedding_batch_size: 32", "embedding_batch_size: 1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Pipeline.from_pretrained(str(folder))


def unchanged(pipeline: Any, samples: FloatArray) -> Annotated:
    """Turns, exclusive turns and embeddings by label, of pyannote's own call. Turns end with the sound, as ours do."""
    file = {"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE, "uri": "talk"}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        output = pipeline(file)
    end = len(samples) / RATE
    found = []
    for annotation in (output.speaker_diarization, output.exclusive_speaker_diarization):
        tracks = annotation.itertracks(yield_label=True)
        found.append(tuple(Turn(max(0.0, s.start), min(s.end, end), label) for s, _, label in tracks if s.start < end))
    return found[0], found[1], dict(zip(output.speaker_diarization.labels(), output.speaker_embeddings, strict=True))


def assert_same(found: Diarization, expected: Annotated) -> None:
    turns, exclusive, embeddings = expected
    assert found.turns == turns
    assert found.exclusive == exclusive
    assert set(found.embeddings) == set(embeddings)
    for label, row in embeddings.items():
        ours = found.embeddings[label]
        if ours is None:
            assert not np.isfinite(row).all() or not row.any()
        else:
            assert float(ours @ row) / np.linalg.norm(row) >= PARITY


@pytest.fixture(scope="module")
def expected(oracle: Any) -> Annotated:
    return unchanged(oracle, conversation([(1, 5), (2, 5), (1, 5)]))


def test_shared_passes_give_what_the_pipeline_gives(talked: Diarization, expected: Annotated) -> None:
    assert len(talked.speakers) == 2
    assert_same(talked, expected)


def test_on_real_speech_a_speaker_without_clean_speech_has_no_embedding(oracle: Any, shared: PyannoteDiarizer) -> None:
    samples = media.decode_all(SAMPLE, RATE, 25.0)[10 * RATE :]
    found = shared.diarize(Sound.of_waveform(Waveform(samples, RATE), "sample"))
    assert_same(found, unchanged(oracle, samples))
    assert any(voice is None for voice in found.embeddings.values())
    assert any("too little clean speech" in notice for notice in found.notices)


def test_the_unchanged_pipeline_is_a_setting(load: Callable[..., PyannoteDiarizer], expected: Annotated) -> None:
    diarizer = load(embedding="unchanged", embedding_batch_size=1)
    assert "one pass a slot" in diarizer.told
    assert_same(diarizer.diarize(heard([(1, 5), (2, 5), (1, 5)])), expected)


def test_openvino_gives_the_same_from_a_network_that_is_kept(
    load: Callable[..., PyannoteDiarizer], expected: Annotated, tmp_path: Path
) -> None:
    diarizer = load(backend="openvino", folder=tmp_path)
    assert isinstance(diarizer._running.frames, OpenVinoFrames)
    assert "openvino" in diarizer.told
    assert_same(diarizer.diarize(heard([(1, 5), (2, 5), (1, 5)])), expected)
    kept = list((tmp_path / "diarizer" / "networks").rglob("network.xml"))
    assert len(kept) == 1


@contextlib.contextmanager
def _counted(diarizer: PyannoteDiarizer) -> Iterator[list[int]]:
    """Chunks that pass the network, by call."""
    passed: list[int] = []
    layer = diarizer._running.pipeline._embedding.model_.resnet.conv1
    handle = layer.register_forward_hook(lambda _module, inputs, _output: passed.append(len(inputs[0])))
    try:
        yield passed
    finally:
        handle.remove()


def test_each_chunk_passes_once_and_one_in_which_nobody_talks_not_at_all(shared: PyannoteDiarizer) -> None:
    made: dict[str, Artifact] = {}
    shared._running.pipeline._embedding.min_num_samples  # noqa: B018 - found out by passes of its own, once
    with _counted(shared) as passed:
        found = shared.diarize(
            heard([(1, 4), (0, 18), (2, 3)]), on_artifact=lambda each: made.update({each.step_name: each})
        )
    talks = made["segmentation"].values.sum(axis=(1, 2)) > 0
    assert len(talks) == 4, "chunks of 10 s every 5 s"
    assert 0 < talks.sum() < len(talks)
    assert sum(passed) == talks.sum()
    assert found.turns
    assert made["embeddings"].values.shape == (len(talks), 3, 256)


def test_what_nobody_says_has_the_row_that_the_network_gives_for_it(oracle: Any, shared: PyannoteDiarizer) -> None:
    samples = conversation([(1, 3), (0, 11), (2, 1)])
    file = {"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE, "uri": "talk"}
    binary = oracle.get_segmentations(file)
    theirs = oracle.get_embeddings(file, binary, exclude_overlap=True)
    ours = shared._running.pipeline.get_embeddings(file, binary, exclude_overlap=True)
    assert (binary.data.sum(axis=1) == 0).any()
    assert np.allclose(ours, theirs, atol=1e-4)


def test_a_network_that_cannot_be_cut_is_not_shared() -> None:
    assert not can_share(torch.nn.Linear(1, 1))
