"""What calibrating a quantised network tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["loading", "decoding", "quantising", "comparing"]


@dataclass(frozen=True, slots=True)
class CalibrationProgress:
    """What is being done, and how far it is: voices, of how many (0 where that is not known)."""

    stage: Stage
    done: int = 0
    of: int = 0


OnCalibration = Callable[[CalibrationProgress], None]


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A network that was quantised, and how close its vectors are to those of the float network.

    The comparison is of voices whose segments it was not calibrated with. `lowest_segment` and `median_segment` are cosines of
    single segments, `lowest_speaker` is that of a speaker's whole embedding.
    """

    generation: str
    model: str
    segments: int
    """It was calibrated with."""
    recordings: int
    """They come from."""
    compared_speakers: int
    compared_segments: int
    lowest_segment: float
    median_segment: float
    lowest_speaker: float
    folder: str
    """To be carried to every other machine that extracts for this generation."""
    checksum: str
    """Its vectors go by."""
    seconds: float
    skipped: tuple[str, ...] = ()
    """Recordings that could not be read, and why."""
    notices: tuple[str, ...] = ()
