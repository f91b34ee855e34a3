"""A recording with one person a channel, as two-channel calls are: each channel's speech, by its level.

A frame is speech of a channel where it is loud for that channel, and not much quieter than the loudest one at that moment: what
is, comes over from the other telephone. Levels are in dB of full scale, of frames of `FRAME_SECONDS`. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speakerdb.core.turns import in_time
from speakerdb.types import FloatArray, Turn

FRAME_SECONDS = 0.02
LOWEST_DB = -100.0
QUIET_DB = -60.0
"""What is quieter is no speech, whatever else the channel holds."""
ABOVE_NOISE_DB = 8.0
"""So much louder than the channel's noise at least: the 10th percentile of its frames that hold any sound."""
RANGE_SHARE = 0.35
"""And so much of the way from its noise to its loud speech, the 95th percentile."""
CROSS_TALK_DB = 12.0
"""A channel that is so much quieter than another at that moment only repeats it."""
GAP_SECONDS, BURST_SECONDS = 0.3, 0.2
"""Shorter pauses are part of a turn, and shorter bursts are none."""
ALIKE_DB = 1.0
"""Two channels whose levels differ by less, at the median of their speech, are one sound twice."""

Levels = npt.NDArray[np.float32]


def levels(samples: FloatArray, sample_rate: int) -> Levels:
    """The level of each whole frame, shape (frames,)."""
    length = round(FRAME_SECONDS * sample_rate)
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    power = np.square(frames, dtype=np.float32).mean(axis=1)
    found: Levels = np.maximum(10 * np.log10(np.maximum(power, 1e-12)), LOWEST_DB).astype(np.float32)
    return found


def same_sound(channels: Sequence[Levels]) -> bool:
    """Whether two or more channels only repeat the first one."""
    first, *others = channels
    heard = first > QUIET_DB
    return bool(heard.any()) and all(float(np.median(np.abs(first - each)[heard])) < ALIKE_DB for each in others)


def channel_turns(channels: Sequence[Levels], labels: Sequence[str]) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """The turns of each channel, and those in which one speaks at a time (the louder one keeps the floor); both in order of
    time. All channels have the same number of frames."""
    own = np.array([_speech(each) for each in channels])
    loudest = np.array(channels).max(axis=0)
    own &= np.array(channels) >= loudest - CROSS_TALK_DB
    own = np.array([_smoothed(each) for each in own])
    floor = np.where(own, np.array(channels), -np.inf).argmax(axis=0)
    alone = own & (floor == np.arange(len(channels))[:, None])
    return _turns(own, labels), _turns(alone, labels)


def _speech(channel: Levels) -> npt.NDArray[np.bool_]:
    """Frames that are loud for their channel."""
    heard = channel[channel > LOWEST_DB + 5]
    if not heard.size:
        return np.zeros(channel.shape, bool)
    noise, loud = (float(np.percentile(heard, share)) for share in (10, 95))
    # The loudness of speech varies by far more; what goes on at one level is a hum, or the line's noise.
    threshold = max(QUIET_DB, noise + max(ABOVE_NOISE_DB, RANGE_SHARE * (loud - noise)))
    found: npt.NDArray[np.bool_] = channel >= threshold
    return found


def _smoothed(speech: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Without short pauses, and then without short bursts."""
    found = speech.copy()
    for value, least in ((False, GAP_SECONDS), (True, BURST_SECONDS)):
        for start, end in _runs(found == value):
            inside = start > 0 and end < len(found)
            if (end - start) * FRAME_SECONDS < least and (value or inside):
                found[start:end] = not value
    return found


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where a mask is true: first frame, and the one after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _turns(masks: npt.NDArray[np.bool_], labels: Sequence[str]) -> tuple[Turn, ...]:
    found = [
        Turn(round(start * FRAME_SECONDS, 3), round(end * FRAME_SECONDS, 3), label)
        for label, mask in zip(labels, masks, strict=True)
        for start, end in _runs(mask)
    ]
    return tuple(sorted(found, key=in_time))
