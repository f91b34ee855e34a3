"""`Diarizer` that takes turns which are there already, from a file or a list: other tools' diarization, or a person's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from speakerdb.core.exclusive import exclusive
from speakerdb.core.turns import validate
from speakerdb.diarizers.port import NO_HINTS, Diarization, DiarizationProgress, Hints, OnArtifact, OnDiarization
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import TooFewVoices
from speakerdb.types import Turn

TurnsOf = Callable[[Sound], Sequence[Turn]]


class TurnsFile:
    """Turns that somebody else made. The exclusive ones are cut from them: where several talk, the one with the longest turn
    keeps the floor."""

    name = "turns from a file"

    def __init__(self, turns_of: TurnsOf) -> None:
        """`turns_of` gives a recording's turns; it may raise `NeedsTurns` or `InvalidTurns`."""
        self._turns_of = turns_of

    def diarize(
        self,
        sound: Sound,
        hints: Hints = NO_HINTS,
        *,
        on_progress: OnDiarization | None = None,
        on_artifact: OnArtifact | None = None,  # noqa: ARG002 - there are none
    ) -> Diarization:
        """See the port. `InvalidTurns` where they do not fit the sound; `TooFewVoices` where they hold fewer speakers than
        the hints ask for."""
        begun = time.perf_counter()
        seconds = sound.seconds()
        given = tuple(self._turns_of(sound))
        turns = validate(given, seconds) if given else ()
        found = len({turn.speaker for turn in turns})
        if found and found < hints.least:
            raise TooFewVoices(
                f"The turns of {sound.name} hold {found} speakers, fewer than the {hints.least} that were asked for.",
                asked=hints.least,
                usable=found,
            )
        if on_progress is not None:
            on_progress(DiarizationProgress("reading turns", 1, 1, windows=1))
        notices = [] if turns else ["nobody talks in it"]
        if hints.most is not None and found > hints.most:
            notices.append(f"{found} speakers were found, which is not what was asked for")
        return Diarization(
            turns=turns,
            exclusive=exclusive(turns),
            seconds=seconds,
            diarizer=self.name,
            embeddings=dict.fromkeys(sorted({turn.speaker for turn in turns})),
            timing={"reading turns": time.perf_counter() - begun},
            notices=tuple(notices),
        )
