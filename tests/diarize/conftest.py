"""The stand-in pipeline, loaded once a process."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from diarize_kit import conversation, file_of, heard

from speakerdb.diarizers.loading import load_diarizer
from speakerdb.diarizers.port import Diarization
from speakerdb.diarizers.pyannote import PyannoteDiarizer
from speakerdb.settings import DiarizerSettings

PARTS = ("standin-diarization/segmentation/pytorch_model.bin", "standin-wespeaker-resnet34/pytorch_model.bin",
         "standin-diarization/plda/xvec_transform.npz", "standin-diarization/plda/plda.npz")  # fmt: skip


@pytest.fixture(scope="session")
def pipeline_folder(standin_models: Path) -> Path:
    return standin_models / "standin-diarization"


@pytest.fixture(scope="session")
def pins(standin_models: Path) -> tuple[str, ...]:
    """The checksums of the stand-in's files."""
    return tuple(hashlib.sha256((standin_models / part).read_bytes()).hexdigest() for part in PARTS)


@pytest.fixture(scope="session")
def load(pipeline_folder: Path, pins: tuple[str, ...]) -> Callable[..., PyannoteDiarizer]:
    """The stand-in as settings say. A step of 0.5 is cheap, and enough where accuracy is not the point."""

    def loaded(folder: Path | None = None, **more: object) -> PyannoteDiarizer:
        given = {"pipeline": str(pipeline_folder), "sha256": pins, "segmentation_step": 0.5, "backend": "torch"} | more
        found = load_diarizer(DiarizerSettings(**given), device="cpu", offline=True, folder=folder)  # type: ignore[arg-type]
        assert isinstance(found, PyannoteDiarizer)
        return found

    return loaded


@pytest.fixture(scope="session")
def shared(load: Callable[..., PyannoteDiarizer]) -> PyannoteDiarizer:
    """One pass a chunk, on torch."""
    return load()


@pytest.fixture
def copied(standin_models: Path, tmp_path: Path) -> Path:
    """A copy of the pipeline's folder that a test may change, with its embedding beside it."""
    for name in ("standin-diarization", "standin-wespeaker-resnet34"):
        shutil.copytree(standin_models / name, tmp_path / name)
    return tmp_path / "standin-diarization"


@pytest.fixture(scope="session")
def talked(shared: PyannoteDiarizer) -> Diarization:
    """Two made-up voices, diarized once."""
    return shared.diarize(heard([(1, 5), (2, 5), (1, 5)]))


@pytest.fixture
def sound_file(tmp_path: Path) -> Path:
    """A file of two seconds."""
    return file_of(tmp_path / "clip.wav", conversation([(1, 2)]))
