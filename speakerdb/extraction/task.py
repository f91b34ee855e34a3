"""What is given to a worker, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from speakerdb.core.measures import Heard
from speakerdb.diarizers.asked import NOTHING_ASKED, Asked, Channels
from speakerdb.diarizers.port import Diarization, Diarizer
from speakerdb.errors import SpeakerDBError
from speakerdb.models.registry import LoadedModel
from speakerdb.reports.work import Work
from speakerdb.types import Embedding, Fingerprint, FloatArray, Generation, Turn, Unembeddable, Waveform

LoadEmbedder: TypeAlias = Callable[[Generation], LoadedModel]
LoadDiarizer: TypeAlias = Callable[[Channels], Diarizer]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One recording for one generation, as it was when it was read. The turns' speakers are speaker ids."""

    recording_id: str
    content_version: int
    generation: Generation
    turns: tuple[Turn, ...]
    seconds: float | None
    path: str | None
    fingerprint: Fingerprint | None
    media_roots: tuple[Path, ...]
    load: LoadEmbedder
    waveform: Waveform | None = None
    measure: bool = False
    """Whether its speakers' level and pitch are to be measured, too."""


@dataclass(frozen=True, slots=True, eq=False)
class DiarizeTask:
    """One recording that is to be diarized, as it was when it was read.

    `compare` is there where it has speakers already: the task of a generation, with whose model the new speakers' voices
    are made, so that they can be told from the old ones'. Its turns are the old ones.
    """

    recording_id: str
    content_version: int
    seconds: float | None
    path: str | None
    fingerprint: Fingerprint | None
    media_roots: tuple[Path, ...]
    load: LoadDiarizer
    asked: Asked = NOTHING_ASKED
    waveform: Waveform | None = None
    compare: Task | None = None
    measure: bool = False
    """Whether overlaps are to be stored."""

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Those that it has now."""
        return () if self.compare is None else self.compare.turns


@dataclass(frozen=True, slots=True, eq=False)
class Diarized:
    """What a diarizer found. `voices` are unit vectors of the new speakers, by label, in the space of the generation that
    was asked for; empty where none was, or nobody's could be made."""

    recording_id: str
    content_version: int
    found: Diarization
    voices: Mapping[str, FloatArray]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """One recording for several generations at once: their tasks, which differ in the generation only."""

    tasks: tuple[Task, ...]

    @property
    def recording_id(self) -> str:
        """The recording of them all."""
        return self.tasks[0].recording_id


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """What a recording gave: one result for each of its speakers.

    `model` says for a person what computed it (empty where no speech was usable and no model was needed), `checksum` is
    its checkpoint's. `speech_seconds` is what was pooled. `crowded` says that models of other generations had to be let go
    of for this one. `heard` is how the speakers sound whose clean speech was listened to; None where nobody asked, or
    another one of the same recording's has it.
    """

    recording_id: str
    content_version: int
    results: Mapping[str, Embedding | Unembeddable]
    speech_seconds: float
    model: str
    checksum: str | None
    notices: tuple[str, ...]
    work: Work = field(default_factory=Work)
    crowded: bool = False
    heard: Mapping[str, Heard] | None = None


Answer: TypeAlias = Extracted | SpeakerDBError | None
"""What became of one of several tasks; None: nothing yet, because its model does not fit beside another."""
