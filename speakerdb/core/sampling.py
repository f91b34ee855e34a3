"""A random sample of a stream of unknown length; the same stream gives the same sample."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import groupby
from typing import Generic, TypeVar

from speakerdb.reports.recipes import Voice

T = TypeVar("T")

SEED = 20_260
VOICES = 5
"""So many voices of one profile at the most: five make ten pairs."""


class Reservoir(Generic[T]):
    """Keeps `size` of what it is offered, each with the same chance (Vitter 1985, algorithm R)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen = 0
        self._numbers = random.Random(SEED)  # noqa: S311
        self.kept: list[T] = []

    def offer(self, one: T) -> None:
        """Take it into the sample, or not."""
        self._seen += 1
        if len(self.kept) < self._size:
            self.kept.append(one)
        elif (slot := self._numbers.randrange(self._seen)) < self._size:
            self.kept[slot] = one


def some_voices(voices: Iterable[Voice], size: int) -> list[Voice]:
    """`size` voices (all, where there are fewer), by recording: up to half of them so that profiles can be compared (up to
    `VOICES` of a profile that is in several recordings), the others at random from all.

    `voices` come profile by profile. What is held in memory grows with `size` only.
    """
    anybody = Reservoir[Voice](size)
    people = Reservoir[list[Voice]](size // 2)
    for profile, group in groupby(voices, key=lambda voice: voice.profile_id):
        members = Reservoir[Voice](VOICES)
        for voice in group:
            anybody.offer(voice)
            if profile is not None:
                members.offer(voice)
        if len({voice.recording_id for voice in members.kept}) > 1:
            people.offer(members.kept)
    chosen = {voice.speaker_id: voice for members in people.kept for voice in members}
    chosen = dict(list(chosen.items())[: size // 2])
    for voice in anybody.kept:
        if len(chosen) == size:
            break
        chosen.setdefault(voice.speaker_id, voice)
    return sorted(chosen.values(), key=lambda voice: (voice.recording_id, voice.speaker_id))
