"""torch and pyannote.audio that cannot be imported: one sentence with what to do, and no recording is blamed."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerdb.errors import ConfigurationError
from speakerdb.models.registry import load_embedder
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings, Settings
from speakerdb.testing.factories import two_voices
from speakerdb.types import ModelSpec
from tests.audio_files import write

FAULTS = [
    ModuleNotFoundError("No module named 'pyannote'"),
    ModuleNotFoundError("No module named 'torch'"),
    OSError("libtorch_cuda.so: cannot open shared object file: No such file or directory"),
    RuntimeError("Detected that PyTorch and TorchAudio were compiled with different CUDA versions."),
]
Break = Callable[[Exception], None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Makes importing pyannote.audio raise."""
    real = builtins.__import__

    def broken(error: Exception) -> None:
        def load(name: str, *rest: Any, **more: Any) -> Any:
            if name.partition(".")[0] == "pyannote":
                raise error
            return real(name, *rest, **more)

        monkeypatch.setattr(builtins, "__import__", load)

    return broken


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault)[:30])
def test_it_is_one_error_that_names_the_doctor(broken: Break, standin_v4: ModelSpec, fault: Exception) -> None:
    broken(fault)
    with pytest.raises(ConfigurationError) as caught:
        load_embedder(standin_v4, device="cpu")
    assert str(fault).partition(":")[0] in caught.value.message
    assert "speakerdb doctor" in caught.value.hint
    assert caught.value.scope == "run"


def test_the_recordings_stay_queued(broken: Break, standin_models: Path, standin_v4: ModelSpec, tmp_path: Path) -> None:
    sound = write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(16000 * 20) / 9), 16000, codec="pcm_s16le")
    sources = (str(standin_models / "standin-wespeaker-resnet34"),)
    settings = Settings(
        data_dir=tmp_path / "data",
        executor="inline",
        disk_floor_mb=0,
        generations={"v4": GenerationSettings(sha256=standin_v4.sha256, sources=sources)},
    )
    with SpeakerDB.open(settings) as db:
        db.add(sound, two_voices())
        broken(FAULTS[2])
        with pytest.raises(ConfigurationError, match="libtorch_cuda"):
            db.work()
        progress = db.progress()
        assert (progress.recordings_queued, progress.recordings_failed) == (1, 0)
