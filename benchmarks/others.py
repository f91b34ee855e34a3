"""How others embed the speakers of a recording: pyannote's own stage, turn by turn, and the five longest turns.

Each does what its users do with the same model and the same turns. What would make one of them slower than it must be is
left out, and said: the stage of pyannote gets its sound decoded, and the five longest are decoded in threads where no
`ffmpeg` is installed, whose start as a program would cost more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.talk import Talk
from speakerdb.core.selection import select
from speakerdb.media import decode_all, decode_spans
from speakerdb.types import FloatArray, Recipe, Span, Turn, Unembeddable

RATE = 16_000
CHUNK_SECONDS, STEP_SECONDS, FRAMES = 10.0, 1.0, 589
"""Of a pyannote segmentation model: the length and step of its chunks, and its frames a chunk."""
SLOTS = 3
"""Speakers that a chunk has room for, talking or not."""
SHORTEST_SECONDS = 0.5
GAP_SECONDS, LONGEST = 0.5, 5
"""The reference product's recipe: turns of a speaker less than this apart are one; so many of the longest are embedded."""
DECODERS = 16


@dataclass(frozen=True, slots=True)
class Effort:
    """What one way of doing it takes for a whole recording.

    `seconds` of time, `forwards` through the network and `speech` seconds that pass it; `measured` is the share of the
    recording's work that was done, 1 for all of it: the rest is scaled.
    """

    seconds: float
    forwards: int
    speech: float
    measured: float = 1.0


class Others:
    """The same checkpoint in pyannote's own classes, on `device` (``cpu`` or ``cuda``)."""

    def __init__(self, checkpoint: Path, device: str) -> None:
        os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
            from pyannote.audio import Audio, Inference, Model
            from pyannote.audio.pipelines.speaker_diarization import SpeakerDiarization
            from pyannote.audio.pipelines.speaker_verification import PyannoteAudioPretrainedSpeakerEmbedding

            where = torch.device(device)
            self._inference: Any = Inference(Model.from_pretrained(checkpoint), window="whole", device=where)
            embedding = PyannoteAudioPretrainedSpeakerEmbedding(str(checkpoint), device=where)
        self._torch = torch
        self._get_embeddings = SpeakerDiarization.get_embeddings
        # The pipeline's method asks its object for nothing else, so the other models of a pipeline are not needed.
        self._stage: Any = SimpleNamespace(
            training=False,
            embedding_batch_size=1,
            _audio=Audio(sample_rate=RATE, mono="downmix"),
            _embedding=embedding,
        )

    def stage(self, talk: Talk, seconds: float) -> Effort:
        """`SpeakerDiarization.get_embeddings` at batch 1 on the first `seconds`, scaled to the whole by its forwards."""
        samples = decode_all(talk.path, RATE, seconds)
        file = {"waveform": self._torch.from_numpy(samples)[None], "sample_rate": RATE}
        active = _active(talk.turns, len(samples) / RATE)
        self._forward(samples[:RATE])  # the first call of a process is no measure
        begun = time.perf_counter()
        found = self._get_embeddings(self._stage, file, active, exclude_overlap=True)
        taken = time.perf_counter() - begun
        done = found.shape[0] * found.shape[1]
        wanted = _chunks(talk.seconds) * SLOTS
        return Effort(taken * wanted / done, wanted, wanted * CHUNK_SECONDS, done / wanted)

    def turn_by_turn(self, talk: Talk, sample: int) -> Effort:
        """Each turn through `Inference`, its sound decoded from the file: measured on `sample` turns all over it."""
        turns = [turn for turn in talk.turns if turn.end - turn.start >= SHORTEST_SECONDS]
        chosen = [turns[n] for n in np.linspace(0, len(turns) - 1, min(sample, len(turns))).astype(int)]
        self._turn(talk, chosen[0])
        begun = time.perf_counter()
        for turn in chosen:
            self._turn(talk, turn)
        taken = time.perf_counter() - begun
        share = len(chosen) / len(turns)
        return Effort(taken / share, len(turns), sum(turn.end - turn.start for turn in turns), share)

    def five_longest(self, talk: Talk) -> tuple[Effort, dict[str, FloatArray]]:
        """The reference product's recipe, all of it, and the centroid of each speaker.

        All segments are decoded at once, each from a file that is opened for it; they pass the network one by one as they
        come; the centroid is the mean of their unit vectors, whatever their length.
        """
        segments = longest(talk.turns)
        begun = time.perf_counter()
        rows: defaultdict[str, list[FloatArray]] = defaultdict(list)
        with ThreadPoolExecutor(DECODERS) as decoders:
            coming = [
                (speaker, decoders.submit(_decoded, talk.path, span))
                for speaker, spans in segments.items()
                for span in spans
            ]
            for speaker, sound in coming:
                row = self._forward(sound.result())
                rows[speaker].append(row / np.linalg.norm(row))
        centroids = {}
        for speaker, found in rows.items():
            mean = np.mean(found, axis=0)
            centroids[speaker] = np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)
        taken = time.perf_counter() - begun
        return Effort(taken, len(coming), sum(span.seconds for spans in segments.values() for span in spans)), centroids

    def one_at_a_time(self, talk: Talk, recipe: Recipe) -> Effort:
        """The segments that speakerdb chooses, decoded from one open file, and through torch one after the other."""
        begun = time.perf_counter()
        chosen = select(talk.turns, recipe, duration=talk.seconds)
        spans = sorted(span for each in chosen.values() if not isinstance(each, Unembeddable) for span in each)
        for sound in decode_spans(talk.path, spans, RATE):
            self._forward(sound)
        return Effort(time.perf_counter() - begun, len(spans), sum(span.seconds for span in spans))

    def _turn(self, talk: Talk, turn: Turn) -> None:
        (sound,) = decode_spans(talk.path, [Span(turn.start, turn.end)], RATE)
        self._forward(sound)

    def _forward(self, sound: FloatArray) -> FloatArray:
        row: FloatArray = self._inference({"waveform": self._torch.from_numpy(sound)[None], "sample_rate": RATE})
        return row


def longest(turns: Sequence[Turn]) -> Mapping[str, list[Span]]:
    """By speaker: turns merged over short gaps, the `LONGEST` longest of them, whole, overlapped or not."""
    merged: defaultdict[str, list[Span]] = defaultdict(list)
    for turn in sorted(turns, key=lambda turn: turn.start):
        spans = merged[turn.speaker]
        if spans and turn.start - spans[-1].end <= GAP_SECONDS:
            spans[-1] = Span(spans[-1].start, max(spans[-1].end, turn.end))
        else:
            spans.append(Span(turn.start, turn.end))
    found = {}
    for speaker, spans in merged.items():
        usable = sorted((span for span in spans if span.seconds >= SHORTEST_SECONDS), key=lambda span: -span.seconds)
        if usable:
            found[speaker] = usable[:LONGEST]
    return found


def decoder() -> str:
    """With what `five_longest` decodes, for the name of its row."""
    return "one ffmpeg process each" if shutil.which("ffmpeg") else "decoded by PyAV in threads, each anew"


def _decoded(path: Path, span: Span) -> FloatArray:
    program = shutil.which("ffmpeg")
    if program is None:
        (sound,) = decode_spans(path, [span], RATE)
        return sound
    command = [program, "-v", "error", "-ss", f"{span.start}", "-i", str(path), "-t", f"{span.seconds}"]
    done = subprocess.run([*command, "-f", "f32le", "-ac", "1", "-ar", str(RATE), "-"], check=True, capture_output=True)
    return np.frombuffer(done.stdout, dtype="<f4").copy()


def _chunks(seconds: float) -> int:
    return int((seconds - CHUNK_SECONDS) / STEP_SECONDS) + 1


def _active(turns: Sequence[Turn], seconds: float) -> Any:
    """Who talks in which frame of which chunk, as a segmentation model would say it: (chunks, FRAMES, SLOTS)."""
    from pyannote.core import SlidingWindow, SlidingWindowFeature

    speakers = sorted({turn.speaker for turn in turns})[:SLOTS]
    data = np.zeros((_chunks(seconds), FRAMES, SLOTS), dtype=np.float32)
    for turn in turns:
        if turn.speaker in speakers and turn.start < seconds:
            for n in range(max(0, int(turn.start - CHUNK_SECONDS)), min(len(data), int(turn.end) + 1)):
                first, last = ((at - n * STEP_SECONDS) / CHUNK_SECONDS * FRAMES for at in (turn.start, turn.end))
                data[n, max(0, round(first)) : max(0, round(last)), speakers.index(turn.speaker)] = 1.0
    return SlidingWindowFeature(data, SlidingWindow(start=0.0, duration=CHUNK_SECONDS, step=STEP_SECONDS))
