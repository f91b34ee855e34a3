"""Reports of diarization: what became of files, and how good turns are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class DiarizedSpeaker:
    """A speaker of a file: its label, its turns, the seconds of them, and the share of all speech."""

    speaker: str
    turns: int
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class DiarizedFile:
    """What became of one file. `error` is the inner document of an error, and then nothing was written. `overlap_seconds` is
    the time in which two or more talk; `timing` is in seconds by step."""

    file: str
    seconds: float = 0.0
    speakers: tuple[DiarizedSpeaker, ...] = ()
    turns: int = 0
    overlap_seconds: float = 0.0
    written: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    timing: Mapping[str, float] = field(default_factory=dict)
    took: float = 0.0
    windows: int = 1
    notices: tuple[str, ...] = ()
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class DiarizeReport:
    """A run over files. `diarizer` says what computed; empty where no file came so far."""

    diarizer: str
    files: tuple[DiarizedFile, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One recording against its reference. Parts are in seconds; `error_rate` is their sum over `total`, the time that is
    spoken in the reference; None where nobody speaks there."""

    recording: str
    error_rate: float | None
    total: float
    missed: float
    false_alarm: float
    confusion: float
    speakers: int
    speakers_found: int


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """All recordings, and the sum of them. `collar` is a total width in seconds."""

    recordings: tuple[Evaluation, ...]
    error_rate: float | None
    total: float
    missed: float
    false_alarm: float
    confusion: float
    collar: float
    skip_overlap: bool
    without_reference: tuple[str, ...] = ()
    without_hypothesis: tuple[str, ...] = ()
    compared_with: str | None = None
    """What the hypothesis calls the only recording, where both give a name to it and it is another one."""
