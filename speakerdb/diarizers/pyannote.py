"""`Diarizer` around pyannote's `SpeakerDiarization` pipeline. Made by `loading.load_diarizer`.

The pipeline gets the sound as a waveform with a name, never a path, so nothing of pyannote opens a file. It is the unchanged
class; with `shared` its embeddings come from one pass a chunk (`shared.py`). What it prints and warns of is kept from standard
output. Longer sound than a window is diarized window by window, and the speakers are joined (`core.joining`).
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
import threading
import time
import warnings
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from speakerdb.core.joining import Heard, Joined
from speakerdb.core.overlap import OverlapScores
from speakerdb.core.texts import first_line
from speakerdb.core.turns import in_time
from speakerdb.diarizers.frames import Frames, TorchFrames
from speakerdb.diarizers.port import (
    NO_HINTS,
    Diarization,
    DiarizationProgress,
    Hints,
    OnArtifact,
    OnDiarization,
)
from speakerdb.diarizers.shared import shared_embeddings
from speakerdb.diarizers.sound import Sound
from speakerdb.diarizers.watching import Watch
from speakerdb.diarizers.windows import Window, windows
from speakerdb.errors import DiarizationFailed, SpeakerDBError
from speakerdb.types import FloatArray, Turn

logger = logging.getLogger(__name__)

DECODING = "decoding"
JOINING = "joining"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds of a window, and seconds that two have in common."""

    window_seconds: float = 3600.0
    overlap_seconds: float = 300.0


@dataclass(slots=True)
class Running:
    """A pipeline on a device. `frames` is what computes shared embeddings; None: the pipeline does it itself."""

    pipeline: Any
    device: str = "cpu"
    frames: Frames | None = None

    def __post_init__(self) -> None:
        if self.frames is not None:
            # Around pyannote's own way of setting attributes, which keeps models and parameters apart.
            object.__setattr__(
                self.pipeline, "get_embeddings", functools.partial(shared_embeddings, self.pipeline, self.frames)
            )


class PyannoteDiarizer:
    """One recording at a time; others wait."""

    def __init__(
        self,
        running: Running,
        *,
        name: str,
        embedding_recipe: str,
        on_cpu: Callable[[], Running],
        limits: Limits = Limits(),
        notices: tuple[str, ...] = (),
    ) -> None:
        """`on_cpu` makes the same pipeline on the processor: after an error of CUDA nothing can be copied from the device."""
        self.name = name
        self.embedding_recipe = embedding_recipe
        self.limits = limits
        self.notices = notices
        self._running, self._on_cpu = running, on_cpu
        self._lock = threading.Lock()

    @property
    def device(self) -> str:
        """Where it computes now."""
        return self._running.device

    @property
    def told(self) -> str:
        """How it computes, for a person."""
        frames = self._running.frames
        shared = "one pass a slot" if frames is None else f"one pass a chunk, {frames.told}"
        return f"{self.name} on {self._running.device} ({shared})"

    @property
    def sample_rate(self) -> int:
        """Samples a second that the pipeline takes."""
        return int(self._running.pipeline._audio.sample_rate)

    def diarize(
        self,
        sound: Sound,
        hints: Hints = NO_HINTS,
        *,
        on_progress: OnDiarization | None = None,
        on_artifact: OnArtifact | None = None,
    ) -> Diarization:
        """See the port. Hints that are about the whole recording bind the windows of a long one only from above."""
        with self._lock:
            whole = _Whole(Joined(hints.most))
            parts = self._timed(sound, whole.timing, on_progress)
            for window in parts:
                alone = window.last and window.number == 1
                watch = functools.partial(
                    Watch,
                    hints if alone else Hints(max_speakers=hints.most),
                    window=window.number,
                    windows=window.number if window.last else None,
                    start=window.start,
                    on_progress=on_progress,
                    on_artifact=on_artifact,
                )
                whole.add(window, self._listen(window, sound.name, watch), self.sample_rate)
                del window  # before the next one is made
            return whole.diarization(self, hints)

    def _timed(self, sound: Sound, timing: dict[str, float], on_progress: OnDiarization | None) -> Iterator[Window]:
        """The windows of the sound; the time that reading it takes goes into `timing`."""
        limits, rate = self.limits, self.sample_rate
        parts = windows(sound.blocks(rate), rate, limits.window_seconds, limits.overlap_seconds)
        number = 1
        while True:
            begun = time.perf_counter()
            if on_progress is not None:
                on_progress(DiarizationProgress(DECODING, 0, 1, number))
            window = next(parts, None)
            timing[DECODING] = timing.get(DECODING, 0.0) + time.perf_counter() - begun
            if window is None:
                return
            last = window.last
            yield window
            if last:
                return
            number += 1
            del window  # before the next one is made

    def _listen(self, window: Window, name: str, watch: Callable[[], Watch]) -> _Listened:
        """One window through the pipeline; what fails on a GPU with smaller batches, then on the processor."""
        import torch

        file = {
            "waveform": torch.from_numpy(np.ascontiguousarray(window.samples))[None],
            "sample_rate": self.sample_rate,
            "uri": name,
        }
        while True:
            watching = watch()
            try:
                return _run(self._running.pipeline, file, watching)
            except (RuntimeError, MemoryError) as error:
                if self._running.device == "cpu":
                    if isinstance(error, MemoryError):
                        raise  # it says nothing about the recording
                    raise DiarizationFailed(f"{self.name} failed on {name} ({first_line(error)}).") from error
                full = isinstance(error, MemoryError | torch.OutOfMemoryError)
                if not (full and self._smaller()):
                    self._notice(
                        f"{self._running.device} failed ({first_line(error)}); {self.name} goes on with the CPU."
                    )
                    self._running = self._on_cpu()
            except SpeakerDBError:
                raise
            except Exception as error:
                # The pipeline is other people's code over NumPy, SciPy and scikit-learn, which may raise anything.
                raise DiarizationFailed(
                    f"{self.name} failed on {name} ({type(error).__name__}: {first_line(error)})."
                ) from error

    def _smaller(self) -> bool:
        """Halve the batches. False where they are single already."""
        pipeline, frames = self._running.pipeline, self._running.frames
        sizes = [pipeline.segmentation_batch_size, pipeline.embedding_batch_size]
        if isinstance(frames, TorchFrames):
            sizes.append(frames.batch)
            frames.batch = max(1, frames.batch // 2)
        pipeline.segmentation_batch_size = max(1, pipeline.segmentation_batch_size // 2)
        pipeline.embedding_batch_size = max(1, pipeline.embedding_batch_size // 2)
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        logger.info("diarizer-batches-halved")
        return bool(max(sizes) > 1)

    def _notice(self, text: str) -> None:
        self.notices = (*self.notices, text)
        logger.warning("cuda-not-used: %s", text)


@dataclass(slots=True)
class _Listened:
    """What a pipeline gave for a window, in seconds of the window."""

    turns: tuple[Turn, ...]
    exclusive: tuple[Turn, ...]
    voices: dict[str, FloatArray | None]
    scores: OverlapScores | None
    timing: dict[str, float]


@dataclass(slots=True)
class _Whole:
    """A recording, window by window."""

    joined: Joined
    timing: dict[str, float] = field(default_factory=dict)
    _last: _Listened | None = None
    _scores: list[OverlapScores] = field(default_factory=list)
    _end: float = 0.0
    _windows: int = 0

    def add(self, window: Window, listened: _Listened, sample_rate: int) -> None:
        """The next window."""
        begun = time.perf_counter()
        start, end = window.start, window.start + len(window.samples) / sample_rate
        self._windows, self._last = window.number, listened
        if not (window.last and window.number == 1):
            turns, only = (
                tuple(Turn(start + turn.start, start + turn.end, turn.speaker) for turn in each)
                for each in (listened.turns, listened.exclusive)
            )
            cut = (start + self._end) / 2 if self._scores else start
            self.joined.add(Heard(start, end, turns, only, listened.voices))
            if listened.scores is not None:
                own = listened.scores
                own = OverlapScores(start + own.start, own.step, own.values)
                self._scores = [*(_until(each, cut) for each in self._scores), _from(own, cut)]
        self._end = end
        for step, seconds in listened.timing.items():
            self.timing[step] = self.timing.get(step, 0.0) + seconds
        if window.number > 1:
            self.timing[JOINING] = self.timing.get(JOINING, 0.0) + time.perf_counter() - begun

    def diarization(self, diarizer: PyannoteDiarizer, hints: Hints) -> Diarization:
        """All of it."""
        assert self._last is not None, "the sound has a last window"
        turns, exclusive, voices = self._last.turns, self._last.exclusive, self._last.voices
        scores = self._last.scores
        if self._windows > 1:
            turns = tuple(sorted(self.joined.turns, key=in_time))
            exclusive = tuple(sorted(self.joined.exclusive, key=in_time))
            spoken = {turn.speaker for turn in turns}
            voices = {name: voice for name, voice in self.joined.voices.items() if name in spoken}
            scores = _together(self._scores)
        end = self._end
        return Diarization(
            turns=tuple(_clipped(turns, end)),
            exclusive=tuple(_clipped(exclusive, end)),
            seconds=end,
            diarizer=diarizer.name,
            overlap_scores=scores,
            embeddings=voices,
            embedding_recipe=diarizer.embedding_recipe,
            timing=self.timing,
            notices=(*diarizer.notices, *self._notices(voices, hints)),
            windows=self._windows,
        )

    def _notices(self, voices: dict[str, FloatArray | None], hints: Hints) -> Iterator[str]:
        found = len(voices)
        if not found:
            yield "nobody talks in it"
        elif found < hints.least or found > (hints.most or found):
            yield f"{found} speakers were found, which is not what was asked for"
        if self._windows > 1:
            yield f"diarized in {self._windows} windows, whose speakers were joined by time and voice"
        if self.joined.forced:
            yield f"{self.joined.forced} speakers of windows were given to the voice most like theirs, to keep to the number"
        without = sorted(name for name, voice in voices.items() if voice is None)
        if without:
            yield f"too little clean speech for an embedding of the diarizer's own: {', '.join(without)}"


def _run(pipeline: Any, file: dict[str, Any], watch: Watch) -> _Listened:
    """A window through the pipeline, with what it prints and warns of kept away."""
    hints, printed = watch.hints, io.StringIO()
    # NumPy and pyannote warn of what is looked at here anyway: means of nothing, rows that are not finite.
    with (
        watch.on(pipeline),
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("ignore")
        output = pipeline(
            file,
            num_speakers=hints.num_speakers,
            min_speakers=hints.min_speakers,
            max_speakers=hints.max_speakers,
            hook=watch.hook,
        )
        scores = watch.scores(pipeline)
    if printed.getvalue().strip():
        logger.debug("diarizer-printed: %s", printed.getvalue().strip())
    turns, exclusive = (
        tuple(
            Turn(float(segment.start), float(segment.end), str(label))
            for segment, _, label in found.itertracks(yield_label=True)
        )
        for found in (output.speaker_diarization, output.exclusive_speaker_diarization)
    )
    labels = [str(label) for label in output.speaker_diarization.labels()]
    rows = output.speaker_embeddings
    voices = dict.fromkeys(labels) if rows is None else {n: _voice(r) for n, r in zip(labels, rows, strict=True)}
    watch.finished()
    return _Listened(turns, exclusive, voices, scores, watch.timing)


def _voice(row: Any) -> FloatArray | None:
    """A unit vector; None for a row that is none: not finite where there was too little clean speech, zero for a speaker that
    the clustering did not have."""
    values = np.asarray(row, np.float64)
    length = float(np.linalg.norm(values))
    if not math.isfinite(length) or length == 0.0:
        return None
    return (values / length).astype(np.float32)


def _clipped(turns: tuple[Turn, ...], end: float) -> Iterator[Turn]:
    """The last chunk is filled up with silence, and a frame may reach into it."""
    for turn in turns:
        if turn.start < end and min(turn.end, end) > max(0.0, turn.start):
            yield Turn(max(0.0, turn.start), min(turn.end, end), turn.speaker)


def _until(scores: OverlapScores, end: float) -> OverlapScores:
    return OverlapScores(scores.start, scores.step, scores.values[: max(0, round((end - scores.start) / scores.step))])


def _from(scores: OverlapScores, start: float) -> OverlapScores:
    first = max(0, round((start - scores.start) / scores.step))
    return OverlapScores(scores.start + first * scores.step, scores.step, scores.values[first:])


def _together(scores: list[OverlapScores]) -> OverlapScores | None:
    """One after the other, on one grid: less than half a frame is lost at each change of windows."""
    if not scores:
        return None
    first = scores[0]
    ends = max(each.start + len(each.values) * each.step for each in scores)
    values = np.zeros(round((ends - first.start) / first.step), np.float32)
    filled = 0
    for each in scores:
        at = round((each.start - first.start) / first.step)
        part = np.asarray(each.values, np.float32)[: max(0, len(values) - at)]
        values[at : at + len(part)] = part
        if 0 < filled < at:  # a frame between the two, by rounding
            values[filled:at] = values[filled - 1]
        filled = at + len(part)
    return OverlapScores(first.start, first.step, array("f", values.tobytes()))
