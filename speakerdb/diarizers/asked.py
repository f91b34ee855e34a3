"""What a person asks of a diarization that is done later: kept with its work item."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from speakerdb.diarizers.port import NO_HINTS, Hints

Channels = Literal["mix", "as-speakers"]


@dataclass(frozen=True, slots=True)
class Asked:
    """`channels`: all as one, or each of them one speaker. `accept_lost`: named speakers that no new one takes the place of may
    go; else the recording stays as it is. `who` asked, and `why`."""

    hints: Hints = NO_HINTS
    channels: Channels = "mix"
    accept_lost: bool = False
    who: str | None = None
    why: str | None = None

    def to_json(self) -> str | None:
        """One text; None where nothing is asked."""
        by = {key: value for key, value in (("who", self.who), ("why", self.why)) if value is not None}
        said = self.as_dict() | by
        return json.dumps(said) if said else None

    def as_dict(self) -> dict[str, Any]:
        """What is asked of the diarizer, and nothing else."""
        hints = self.hints
        said = {
            "num_speakers": hints.num_speakers,
            "min_speakers": hints.min_speakers,
            "max_speakers": hints.max_speakers,
            "channels": None if self.channels == "mix" else self.channels,
            "accept_lost": self.accept_lost or None,
        }
        return {key: value for key, value in said.items() if value is not None}

    @property
    def options(self) -> str:
        """What is asked of the diarizer, as the command line takes it; each option with a space before it."""
        said = {key: value for key, value in self.as_dict().items() if key != "accept_lost"}
        return "".join(f" --{key.replace('_', '-')} {value}" for key, value in said.items())

    @classmethod
    def from_json(cls, text: str | None) -> Asked:
        """What `to_json` wrote."""
        said = json.loads(text) if text else {}
        hints = Hints(said.get("num_speakers"), said.get("min_speakers"), said.get("max_speakers"))
        accept_lost = said.get("accept_lost", False)
        return cls(hints, said.get("channels", "mix"), accept_lost, said.get("who"), said.get("why"))


NOTHING_ASKED = Asked()
