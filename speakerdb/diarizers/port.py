"""The port every diarizer implements. Its contract suite is `speakerdb.testing.diarizer_contract`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from speakerdb.core.overlap import OverlapScores
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import InvalidInput
from speakerdb.types import FloatArray, Turn

MOST_SPEAKERS = 100
"""Nobody may ask for more: labels have two digits, and pyannote counts clusters in 8 bits."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known of the number of speakers. `InvalidInput` where the numbers contradict each other, or cannot be."""

    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("num_speakers", "min_speakers", "max_speakers")}
        for name, number in given.items():
            if number is None:
                continue
            if type(number) is not int or not 1 <= number <= MOST_SPEAKERS:
                raise InvalidInput(
                    f"`{name}` is {number!r}; it is a whole number from 1 to {MOST_SPEAKERS}.",
                    hint="Correct it, or leave the number of speakers to the diarizer.",
                )
        low, number, high = self.min_speakers, self.num_speakers, self.max_speakers
        order = [each for each in (low, number, high) if each is not None]
        if order != sorted(order):
            said = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
            raise InvalidInput(
                f"The numbers of speakers contradict each other: {said}.",
                hint="The smallest number goes into min_speakers, the largest into max_speakers.",
            )

    @property
    def least(self) -> int:
        """So many speakers at least."""
        return self.num_speakers or self.min_speakers or 1

    @property
    def most(self) -> int | None:
        """So many at the most; None where nobody knows."""
        return self.num_speakers or self.max_speakers


NO_HINTS = Hints()


@dataclass(frozen=True, slots=True)
class DiarizationProgress:
    """How far a recording is: `completed` of `total` of a step, in window number `window` (from 1). `windows` is how many
    there are, where that is known already."""

    step: str
    completed: int = 0
    total: int = 0
    window: int = 1
    windows: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """What a step of a pipeline made. Row i of `values` lies at ``start + i * step`` seconds of the recording and is
    `duration` seconds long; `step` is None for what has no place in time."""

    step_name: str
    window: int
    values: npt.NDArray[Any]
    start: float = 0.0
    step: float | None = None
    duration: float | None = None


OnDiarization = Callable[[DiarizationProgress], None]
OnArtifact = Callable[[Artifact], None]


@dataclass(frozen=True, slots=True, eq=False)
class Diarization:
    """Who speaks when in one recording.

    `turns` may overlap, `exclusive` do not: at each moment at most one speaker. Both are in order of time. `seconds` is the
    length of the sound. `overlap_scores` are there where the diarizer has some. `embeddings` are the diarizer's own, unit
    vectors by label, None for a speaker of whom it has none that can be used; they are of the space `embedding_recipe`, which
    is no generation's, and are never compared with a generation's. `timing` is in seconds by step, in the order of the steps.
    """

    turns: tuple[Turn, ...]
    exclusive: tuple[Turn, ...]
    seconds: float
    diarizer: str
    overlap_scores: OverlapScores | None = None
    embeddings: Mapping[str, FloatArray | None] = field(default_factory=dict)
    embedding_recipe: str | None = None
    timing: Mapping[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    windows: int = 1

    @property
    def speakers(self) -> tuple[str, ...]:
        """Labels in order."""
        return tuple(sorted({turn.speaker for turn in self.turns}))


class Diarizer(Protocol):
    """Finds out who speaks when."""

    @property
    def name(self) -> str:
        """What it is, for a person."""

    def diarize(
        self,
        sound: Sound,
        hints: Hints = NO_HINTS,
        *,
        on_progress: OnDiarization | None = None,
        on_artifact: OnArtifact | None = None,
    ) -> Diarization:
        """The turns of a recording. Silence has none, which is no error.

        `MediaError` where the sound cannot be read; `TooFewVoices` where the hints cannot be met; `DiarizationFailed`.
        """
