"""Which back end is the fastest on this machine: measured once, and remembered with what the answer depends on.

No back end and no precision is fastest by its name: bf16 is four times as fast as float32 on a processor with AMX, and thirty
times slower on one without half precision. So each is given a second of work, beside pyannote's own forward, whose vectors it
must give too. The answer lies in the folder of models, named by the checkpoint and by a digest of the processor, its features,
the number of threads and the versions: where any of them changes there is no answer, and it is measured again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from speakerdb.errors import ConfigurationError, ExtractionError
from speakerdb.models._probe import lowest_cosine, probe_voices
from speakerdb.models.networks import CONVERTER
from speakerdb.models.openvino import PARITY
from speakerdb.models.port import Embedder
from speakerdb.models.processor import Machine
from speakerdb.types import FloatArray

logger = logging.getLogger(__name__)

FOLDER = "choices"
ROUND_SECONDS = 0.3
ROUNDS = 3
"""Each back end works for so long, so often, in turn with the others; its fastest round counts. Others that use the machine
can only make it slower."""
LONGEST_SECONDS = 10.0
"""No round begins after so long: on a machine that is slow, or busy, one has to do."""
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to compute the vectors of a checkpoint: its back end, precision and streams, and what makes its embedder."""

    backend: str
    precision: str
    streams: int
    make: Callable[[], Embedder]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a candidate did. `speed` is in seconds of audio a second, `parity` the least cosine to pyannote's own forward;
    `fault` says why it could not be measured."""

    backend: str
    precision: str
    streams: int
    speed: float = 0.0
    parity: float = -1.0
    fault: str = ""

    @property
    def usable(self) -> bool:
        """Whether it may answer for a float generation."""
        return not self.fault and self.parity >= PARITY

    def __str__(self) -> str:
        name = f"{self.backend} {self.precision}" + (f" in {self.streams} streams" if self.streams > 1 else "")
        if self.fault:
            return f"{name} cannot be used: {self.fault}"
        if not self.usable:
            return f"{name} gives other vectors (cosine {self.parity:.5f})"
        return f"{name} {self.speed:.3g}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer: what was measured of one checkpoint on one machine, in the order of speed; the first usable one is it."""

    model: str
    checkpoint: str
    machine: Machine
    made_at: str
    measured: tuple[Measured, ...]

    @property
    def best(self) -> Measured:
        """The fastest of those that give the same vectors. torch always does."""
        return next(one for one in self.measured if one.usable)

    @property
    def why(self) -> str:
        """The reason, with its numbers, for a person."""
        said = ", ".join(str(one) for one in self.measured)
        return f"measured {self.made_at[:10]} on {self.machine}; seconds of audio a second: {said}"


class Choices:
    """The remembered answers of a folder of models."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def remembered(self, checkpoint: str, machine: Machine) -> Choice | None:
        """The answer for a checkpoint on a machine. None where there is none, or one that cannot be read: measure."""
        return _read(self._path(checkpoint, machine))

    def latest(self, model: str, checkpoint: str | None, machine: Machine) -> Choice | None:
        """The last answer on a machine like this one, with however many threads; of a model by its id where its checkpoint
        is not known. For whoever wants to tell of it."""
        found = [choice for path in self._folder.glob("*.json") if (choice := _read(path)) is not None]
        ours = [
            choice
            for choice in found
            if (choice.checkpoint == checkpoint if checkpoint is not None else choice.model == model)
            and (choice.machine.processor, choice.machine.features) == (machine.processor, machine.features)
            and choice.machine.versions == machine.versions
        ]
        return max(ours, key=lambda choice: choice.made_at, default=None)

    def keep(self, choice: Choice) -> None:
        """Remember an answer. `OSError` where the folder cannot be written."""
        path = self._path(choice.checkpoint, choice.machine)
        beside = path.with_name(f".{uuid.uuid4().hex}")
        beside.write_text(json.dumps(asdict(choice), indent=2) + "\n", encoding="utf-8")
        os.replace(beside, path)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process of this machine measures at a time. `OSError` where the folder cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, checkpoint: str, machine: Machine) -> Path:
        return self._folder / f"{checkpoint}-{CONVERTER}-{machine.digest}.json"


def measure(
    model: str, checkpoint: str, machine: Machine, reference: Embedder, candidates: Sequence[Candidate]
) -> Choice:
    """Give `reference` (torch, whose vectors are pyannote's own) and each candidate about a second of work; the answer."""
    voices = probe_voices(reference.sample_rate)
    seconds = sum(voice.size for voice in voices) / reference.sample_rate
    own = reference.embed(voices)
    running: list[tuple[Candidate, Embedder, float]] = [
        (Candidate("torch", "f32", 1, lambda: reference), reference, 1.0)
    ]
    failed: list[Measured] = []
    for candidate in candidates:
        try:
            embedder = candidate.make()
            running.append((candidate, embedder, lowest_cosine(embedder.embed(voices), own)))
        except (ExtractionError, ConfigurationError) as error:
            failed.append(Measured(candidate.backend, candidate.precision, candidate.streams, fault=error.message))
    speeds = _speeds([embedder for _, embedder, _ in running], voices, seconds)
    measured = [
        Measured(candidate.backend, candidate.precision, candidate.streams, speed, parity)
        for (candidate, _, parity), speed in zip(running, speeds, strict=True)
    ]
    measured.sort(key=lambda one: -one.speed)
    made_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    choice = Choice(model, checkpoint, machine, made_at, (*measured, *failed))
    logger.info("backend-measured: %s: %s", model, choice.why)
    return choice


def _speeds(embedders: Sequence[Embedder], voices: Sequence[FloatArray], seconds: float) -> list[float]:
    """Seconds of audio a second, of each, in its fastest round."""
    best = [0.0] * len(embedders)
    first = time.perf_counter()
    for number in range(ROUNDS):
        if number and time.perf_counter() - first > LONGEST_SECONDS:
            break
        for place, embedder in enumerate(embedders):
            begun, passes = time.perf_counter(), 0
            while passes == 0 or time.perf_counter() - begun < ROUND_SECONDS:
                embedder.embed(voices)
                passes += 1
            best[place] = max(best[place], passes * seconds / (time.perf_counter() - begun))
    return best


def _read(path: Path) -> Choice | None:
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        machine = given.pop("machine")
        versions = tuple((str(name), str(version)) for name, version in machine.pop("versions"))
        measured = tuple(Measured(**one) for one in given.pop("measured"))
        choice = Choice(
            machine=Machine(features=tuple(machine.pop("features")), versions=versions, **machine),
            measured=measured,
            **given,
        )
        return choice if any(one.usable for one in measured) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        logger.warning("choice-damaged: %s cannot be read, so it is measured again", path)
        return None
