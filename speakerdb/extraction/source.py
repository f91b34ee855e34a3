"""A recording's sound, as long as it is the one that its row tells of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from speakerdb import media
from speakerdb.errors import MediaChanged, MediaError, MediaMissing
from speakerdb.extraction.task import DiarizeTask, Task
from speakerdb.types import Fingerprint, FloatArray, Span


def opened(task: Task) -> Callable[[Sequence[Span], int], Iterator[FloatArray]]:
    """What reads spans of a recording's sound at a sample rate. `MediaMissing`, `MediaForbidden`, `MediaChanged`."""
    if task.waveform is not None:
        waveform = task.waveform
        return lambda spans, rate: media.waveform_spans(waveform, spans, rate)
    path = file_of(task)
    wanted = task.fingerprint
    return lambda spans, rate: _unchanged_spans(path, wanted, media.decode_spans(path, spans, rate))


def file_of(task: Task | DiarizeTask) -> Path:
    """The file of a recording, which is the one that it was. Raises as `opened` does."""
    if task.path is None:
        raise MediaMissing(
            "The sound of this recording was given in memory and is not there any more.",
            hint="Add the recording again with its file or its waveform.",
        )
    path = media.check_allowed(Path(task.path), task.media_roots)
    check_same(path, task.fingerprint, "is not the file its turns were made from")
    return path


def _unchanged_spans(path: Path, wanted: Fingerprint | None, sounds: Iterator[FloatArray]) -> Iterator[FloatArray]:
    """The spans, and at their end `MediaChanged` where the file was replaced or written to while it was read."""
    try:
        yield from sounds
    except MediaError as error:
        try:
            check_same(path, wanted, "was changed while it was read")
        except MediaError as changed:  # which explains why it could not be read
            raise changed from error
        raise
    check_same(path, wanted, "was changed while it was read")


def check_same(path: Path, wanted: Fingerprint | None, what: str) -> None:
    """`MediaChanged`, which says `what` the file is, for another one than is `wanted`."""
    if wanted is not None and media.fingerprint(path) != wanted:
        raise MediaChanged(f"{path} {what}.")
