"""What is given to a worker, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from speakerdb.errors import SpeakerDBError
from speakerdb.models.registry import LoadedModel
from speakerdb.reports.work import Work
from speakerdb.types import Embedding, Fingerprint, Generation, Turn, Unembeddable, Waveform

LoadEmbedder: TypeAlias = Callable[[Generation], LoadedModel]


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
    of for this one.
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


Answer: TypeAlias = Extracted | SpeakerDBError | None
"""What became of one of several tasks; None: nothing yet, because its model does not fit beside another."""
