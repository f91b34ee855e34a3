"""From one recording to its turns. Needs no database and no index, and runs in any process."""

from __future__ import annotations

from dataclasses import replace

from speakerdb.core.turns import in_time
from speakerdb.diarizers.port import Diarization
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import ExtractionError
from speakerdb.executors.telling import tell
from speakerdb.extraction import state
from speakerdb.extraction.extract import extract
from speakerdb.extraction.source import check_same, file_of
from speakerdb.extraction.task import Diarized, DiarizeTask
from speakerdb.types import Embedding, FloatArray, Turn


def diarize(task: DiarizeTask) -> Diarized:
    """Listen, and say who speaks when; and whose voices they are, where there are old ones to tell them from.

    Raises `MediaError` and `ExtractionError` classes, `TooFewVoices`, and what loading a diarizer raises.
    """
    if task.waveform is not None:
        path, sound = None, Sound.of_waveform(task.waveform, task.recording_id)
    else:
        path = file_of(task)
        sound = replace(Sound.of_file(path), name=task.recording_id)
    diarizer = task.load(task.asked.channels)
    # It takes all the cores, as a model does.
    with state.network.turn(state.network.ticket()):
        found = diarizer.diarize(sound, task.asked.hints, on_progress=tell)
    if path is not None:
        check_same(path, task.fingerprint, "was changed while it was read")
    found = _fitting(found, task.seconds)
    voices, notice = _voices(task, found)
    notices = tuple(f"{task.recording_id}: {each}" for each in (*found.notices, *notice))
    return Diarized(task.recording_id, task.content_version, found, voices, notices)


def _fitting(found: Diarization, seconds: float | None) -> Diarization:
    """The turns cut at the length that the recording's row has, which a decoder may see a few frames apart."""
    if seconds is None or found.seconds <= seconds:
        return found
    turns, exclusive = (
        tuple(
            Turn(turn.start, min(turn.end, seconds), turn.speaker)
            for turn in sorted(part, key=in_time)
            if turn.start < seconds
        )
        for part in (found.turns, found.exclusive)
    )
    return replace(found, turns=turns, exclusive=exclusive)


def _voices(task: DiarizeTask, found: Diarization) -> tuple[dict[str, FloatArray], tuple[str, ...]]:
    """The new speakers' voices, made as the old ones' were."""
    if task.compare is None or not found.turns:
        return {}, ()
    try:
        answer = extract(replace(task.compare, turns=found.turns, seconds=found.seconds))
    except ExtractionError as error:
        if error.scope == "run":
            raise
        return {}, (f"speakers were told apart by time alone: {error.message}",)
    return {label: one.vector for label, one in answer.results.items() if isinstance(one, Embedding)}, ()
