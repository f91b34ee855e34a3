"""Errors of diarization: a pipeline that is not taken, hints that cannot be met, a pipeline that failed."""

from __future__ import annotations

from typing import ClassVar

from speakerdb.errors.base import Scope
from speakerdb.errors.extraction import ExtractionError
from speakerdb.errors.given import ConfigurationError, InvalidInput


class DiarizerRefused(ConfigurationError):
    """A diarization pipeline is not taken: its `config.yaml` says something that is not allowed, or it sends sound away."""

    code = "diarizer-refused"
    scope: ClassVar[Scope] = "run"
    default_hint = (
        "A pipeline's config is a program. Take a folder with pyannote's SpeakerDiarization, as community-1 is one."
    )


class TooFewVoices(InvalidInput):
    """Fewer voices can be told apart in the sound than speakers were asked for."""

    code = "too-few-voices"
    default_hint = (
        "Ask for fewer speakers with `--num-speakers` or `--min-speakers`, or leave the number to the diarizer."
    )


class NamesUnmapped(InvalidInput):
    """A recording was diarized again, and somebody who has a name would be gone: the recording stays as it is."""

    code = "names-unmapped"
    default_hint = (
        "Look with `speakerdb rediarize RECORDING --dry-run`; where they may go, run it with `--accept-lost`"
        " (`assignments revert` brings them back); where not, `speakerdb assignments keep RECORDING`."
    )


class DiarizationFailed(ExtractionError):
    """The diarization pipeline failed on a recording."""

    code = "diarization"
    default_hint = "Run it again with `--verbose` (before the verb); if it stays so, report the message."
