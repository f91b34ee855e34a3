"""Whose voice is better told: by the diarizer's own embeddings, or by the recipe's, made again from its turns?

`python -m benchmarks.own_voices FOLDER` writes `benchmarks/results/own-voices.json`. `FOLDER` is described in
`benchmarks/voices.py`. Every two readers talk in turn in a recording of their own, with utterances that are in no other. Each
is diarized; a speaker that was found is the reader whose turns it shares most time with. The same network makes both vectors,
so what differs is which speech it hears: ten seconds at a time with the others masked, or segments in which one speaks alone.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, say, write
from benchmarks.voices import RATE, Sound, readers
from speakerdb.core.agreement import equal_error_rate
from speakerdb.core.remapping import remap
from speakerdb.diarizers.loading import load_diarizer
from speakerdb.diarizers.port import Diarizer, Hints
from speakerdb.diarizers.sound import Sound as Heard
from speakerdb.extraction import Loader, Task, extract
from speakerdb.generations import V4
from speakerdb.settings import DiarizerSettings, GenerationSettings
from speakerdb.types import Embedding, FloatArray, Generation, Turn, Waveform

MODELS = Path(__file__).resolve().parent.parent / "tests" / "assets" / "models"
PIPELINE, CHECKPOINT = MODELS / "standin-diarization", MODELS / "standin-wespeaker-resnet34"
RESULTS = Path(__file__).resolve().parent / "results" / "own-voices.json"
PAUSE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker that was found: who it is, where, and its two vectors."""

    reader: str
    recording: str
    own: FloatArray | None
    recipe: FloatArray | None


def measure(folder: Path) -> dict[str, Any]:
    """Everything that is kept in the results file."""
    generation = GenerationSettings(
        model="speakerdb/standin-wespeaker-resnet34", sources=(str(CHECKPOINT),)
    ).applied_to(V4, "v4")
    diarizer, load = _diarizer(), Loader("cpu", allow_unknown=True)
    voices: list[Voice] = []
    for name, samples, turns in conversations(readers(folder)):
        voices += _voices(name, samples, turns, diarizer, generation, load)
    return {
        "machine": {key: value for key, value in machine().items() if key in ("cpu", "cores", "python", "day")},
        "pipeline": "stand-in of this repository, for tests only",
        "recordings": len({voice.recording for voice in voices}),
        "speakers": len(voices),
        "without_own": sum(voice.own is None for voice in voices),
        "without_recipe": sum(voice.recipe is None for voice in voices),
        "own": _separation([(voice, voice.own) for voice in voices if voice.recipe is not None]),
        "recipe": _separation([(voice, voice.recipe) for voice in voices if voice.own is not None]),
    }


def conversations(people: Mapping[str, Sequence[Sound]]) -> list[tuple[str, FloatArray, tuple[Turn, ...]]]:
    """One recording of every two readers, with two utterances of each, by turns; no utterance is in two of them."""
    left = {name: list(sounds) for name, sounds in people.items()}
    found = []
    pause = np.zeros(round(PAUSE_SECONDS * RATE), np.float32)
    for one, other in combinations(sorted(people), 2):
        parts, turns, at = [], [], 0.0
        for name in (one, other, one, other):
            sound = left[name].pop(0)
            turns.append(Turn(at, at + sound.seconds, name))
            at += sound.seconds + PAUSE_SECONDS
            parts += [sound.samples, pause]
        found.append((f"{one}-{other}", np.concatenate(parts), tuple(turns)))
    return found


def _voices(
    name: str, samples: FloatArray, turns: Sequence[Turn], diarizer: Diarizer, generation: Generation, load: Loader
) -> list[Voice]:
    sound = Waveform(samples, RATE)
    found = diarizer.diarize(Heard.of_waveform(sound, name), Hints(2))
    task = Task(name, 1, generation, found.turns, found.seconds, None, None, (), load, sound)
    again = extract(task).results
    say(f"{name}: {len(samples) / RATE:.0f} s, {len(found.speakers)} speakers")
    return [
        Voice(reader, name, found.embeddings.get(label), _vector(again.get(label)))
        for label, reader in remap(turns, found.turns).by_new.items()
    ]


def _vector(found: object) -> FloatArray | None:
    return found.vector if isinstance(found, Embedding) else None


def _separation(found: Sequence[tuple[Voice, FloatArray | None]]) -> dict[str, Any]:
    """Cosines of all pairs in different recordings. Only speakers count of whom there are both vectors."""
    known = [(voice, vector) for voice, vector in found if vector is not None]
    same: list[float] = []
    different: list[float] = []
    for (one, mine), (other, theirs) in combinations(known, 2):
        if one.recording != other.recording:
            (same if one.reader == other.reader else different).append(float(mine @ theirs))
    return {
        "voices": len(known),
        "same": round(float(np.mean(same)), 4),
        "different": round(float(np.mean(different)), 4),
        "eer": round(equal_error_rate(np.array(same), np.array(different)), 4),
        "pairs": [len(same), len(different)],
    }


def _diarizer() -> Diarizer:
    files = [path for folder in (PIPELINE, CHECKPOINT) for end in ("bin", "npz") for path in folder.rglob(f"*.{end}")]
    pins = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    settings = DiarizerSettings(pipeline=str(PIPELINE), sha256=pins, backend="torch")
    return load_diarizer(settings, device="cpu", offline=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_voices", description=__doc__)
    parser.add_argument("folder", type=Path, help="speech, as benchmarks/voices.py describes it")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    write(given.out, measure(given.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
