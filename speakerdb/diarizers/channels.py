"""`Diarizer` of a recording with one person a channel: no network, only how loud each channel is (`core.channels`)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from speakerdb.core.channels import FRAME_SECONDS, Levels, channel_turns, levels, same_sound
from speakerdb.diarizers.port import NO_HINTS, Diarization, DiarizationProgress, Hints, OnArtifact, OnDiarization
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import InvalidInput, TooFewVoices

SAMPLE_RATE = 8000
"""Enough for levels of speech, and half the work."""
MOST_CHANNELS = 8


class ChannelsAsSpeakers:
    """Each channel is one speaker: the first one SPEAKER_00."""

    name = "channels as speakers"

    def diarize(
        self,
        sound: Sound,
        hints: Hints = NO_HINTS,
        *,
        on_progress: OnDiarization | None = None,
        on_artifact: OnArtifact | None = None,  # noqa: ARG002 - there are none
    ) -> Diarization:
        """See the port. `InvalidInput` for sound with one channel, with more than `MOST_CHANNELS`, with the same on all of
        them, or where the hints do not fit the number of channels."""
        begun = time.perf_counter()
        about = sound.info()
        count = 1 if about is None else about.channels
        if not 2 <= count <= MOST_CHANNELS:
            raise InvalidInput(
                f"{sound.name} has {count} channel{'' if count == 1 else 's'}; channels as speakers needs 2 to {MOST_CHANNELS}.",
                hint="Diarize it without `--channels as-speakers`.",
            )
        if hints.least > count:
            raise TooFewVoices(
                f"{hints.least} speakers were asked for, and {sound.name} has {count} channels.",
                asked=hints.least,
                usable=count,
            )
        if (hints.most or count) < count:
            raise InvalidInput(f"{sound.name} has {count} channels, which are more speakers than were asked for.")
        heard: list[Levels] = []
        seconds = 0.0
        for channel in range(count):
            parts = []
            for samples, of in _read(sound, channel):
                parts.append(levels(samples, SAMPLE_RATE))
                seconds = max(seconds, of)
            heard.append(np.concatenate(parts) if parts else np.zeros(0, np.float32))
            if on_progress is not None:
                on_progress(DiarizationProgress("channels", channel + 1, count, windows=1))
        frames = min(map(len, heard))
        heard = [each[:frames] for each in heard]
        if same_sound(heard):
            raise InvalidInput(
                f"The channels of {sound.name} hold the same sound.",
                hint="Diarize it without `--channels as-speakers`.",
            )
        labels = [f"SPEAKER_{channel:02d}" for channel in range(count)]
        turns, exclusive = channel_turns(heard, labels)
        silent = [label for label in labels if label not in {turn.speaker for turn in turns}]
        notices = [] if turns else ["nobody talks in it"]
        if turns and silent:
            notices.append(f"nobody talks in the channel of {', '.join(silent)}")
        return Diarization(
            turns=turns,
            exclusive=exclusive,
            seconds=seconds,
            diarizer=self.name,
            embeddings=dict.fromkeys(sorted({turn.speaker for turn in turns})),
            timing={"channels": time.perf_counter() - begun},
            notices=tuple(notices),
        )


def _read(sound: Sound, channel: int) -> Iterator[tuple[np.ndarray, float]]:
    """Blocks of a channel, and where each ends in seconds. Blocks hold whole frames, but for the last one."""
    read = 0
    for samples in sound.blocks(SAMPLE_RATE, channel):
        read += len(samples)
        yield samples, read / SAMPLE_RATE


assert round(FRAME_SECONDS * SAMPLE_RATE) == FRAME_SECONDS * SAMPLE_RATE, "a frame is a whole number of samples"
