"""What a batch did."""

from __future__ import annotations

from dataclasses import dataclass, field

from speakerdb.errors import SpeakerDBError
from speakerdb.reports import ItemError
from speakerdb.reports.work import Work


@dataclass(slots=True)
class StepReport:
    """What one step did."""

    taken: int = 0
    running: int = 0
    """What is being worked on when it ends."""
    finished: int = 0
    """Items that came to an end, or are tried again."""
    done: int = 0
    diarized: int = 0
    failed: int = 0
    embedded: int = 0
    unembeddable: int = 0
    audio_seconds: float = 0.0
    speech_seconds: float = 0.0
    work: Work = field(default_factory=Work)
    models: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    errors: list[ItemError] = field(default_factory=list)
    unavailable: dict[str, SpeakerDBError] = field(default_factory=dict)
    """Lanes whose model cannot be loaded; their items stay queued."""

    def add(self, other: StepReport) -> None:
        """Count another report into this one."""
        for name in (
            "taken",
            "finished",
            "done",
            "diarized",
            "failed",
            "embedded",
            "unembeddable",
            "audio_seconds",
            "speech_seconds",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.running = other.running
        self.work += other.work
        self.models |= other.models
        self.notices += [notice for notice in other.notices if notice not in self.notices]
        self.errors += other.errors
        self.unavailable |= other.unavailable

    @property
    def over(self) -> bool:
        """Whether the queue holds nothing that can be worked on, and nothing is being worked on. What was tried before comes
        one after the other, so a step that finished something may not have seen the next one."""
        return not (self.taken or self.running or self.finished)
