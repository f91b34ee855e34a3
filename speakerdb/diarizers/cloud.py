"""A pipeline that sends the sound to pyannoteAI's servers: only where `diarizer.allow_cloud` is on, and never by itself.

It needs the package `pyannoteai-sdk`, which speakerdb does not install, and a key of theirs in PYANNOTEAI_API_KEY.
"""

from __future__ import annotations

import os
import time
from typing import Any

from speakerdb.core.exclusive import exclusive
from speakerdb.core.turns import in_time
from speakerdb.diarizers.finding import CloudPipeline
from speakerdb.diarizers.port import NO_HINTS, Diarization, DiarizationProgress, Hints, OnArtifact, OnDiarization
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import ConfigurationError, DiarizationFailed, InvalidInput
from speakerdb.models import pyannote as embedders
from speakerdb.types import Turn

KEY_VARIABLE = "PYANNOTEAI_API_KEY"


class CloudDiarizer:
    """`Diarizer` that hands a file to a pipeline of pyannote's which sends it away."""

    def __init__(self, pipeline: Any, name: str) -> None:
        self.name = name
        self._pipeline = pipeline

    def diarize(
        self,
        sound: Sound,
        hints: Hints = NO_HINTS,
        *,
        on_progress: OnDiarization | None = None,
        on_artifact: OnArtifact | None = None,  # noqa: ARG002 - there are none
    ) -> Diarization:
        """See the port. `InvalidInput` for sound that is no file; `DiarizationFailed` where the service does not answer."""
        if sound.path is None:
            raise InvalidInput(f"{self.name} takes files only.")
        begun = time.perf_counter()
        seconds = sound.seconds()  # what cannot be read is not sent
        if on_progress is not None:
            on_progress(DiarizationProgress("sent away", 0, 1, windows=1))
        try:
            output = self._pipeline(
                {"audio": str(sound.path), "uri": sound.name},
                num_speakers=hints.num_speakers,
                min_speakers=hints.min_speakers,
                max_speakers=hints.max_speakers,
            )
        except Exception as error:  # noqa: BLE001
            # Their client's errors are its own classes; its text may hold the key's request.
            raise DiarizationFailed(f"{self.name} failed on {sound.name} ({type(error).__name__}).") from None
        turns = _turns(output.speaker_diarization)
        only = output.exclusive_speaker_diarization
        return Diarization(
            turns=turns,
            exclusive=exclusive(turns) if only is None else _turns(only),
            seconds=seconds,
            diarizer=self.name,
            embeddings=dict.fromkeys(sorted({turn.speaker for turn in turns})),
            timing={"sent away": time.perf_counter() - begun},
            notices=("the sound was sent to pyannoteAI's servers",),
        )


def load_cloud(found: CloudPipeline, *, telemetry: bool) -> CloudDiarizer:
    """The diarizer of a pipeline that was allowed. `ConfigurationError` without its package or a key."""
    if not os.environ.get(KEY_VARIABLE, "").strip():
        raise ConfigurationError(f"{found.name} needs a key of pyannoteAI's.", hint=f"Set {KEY_VARIABLE}.")
    embedders.import_model_class(telemetry=telemetry)
    try:
        from pyannote.audio.pipelines.pyannoteai.sdk import SDK
    except ImportError as error:
        raise ConfigurationError(
            f"{found.name} needs the package pyannoteai-sdk, which is not installed.",
            hint="Install it beside speakerdb: `pip install pyannoteai-sdk`.",
        ) from error
    return CloudDiarizer(SDK(model=found.model), found.name)


def _turns(annotation: Any) -> tuple[Turn, ...]:
    found = (
        Turn(float(segment.start), float(segment.end), str(label))
        for segment, _, label in annotation.itertracks(yield_label=True)
    )
    return tuple(sorted(found, key=in_time))
