"""Swaps under load: threads ask all along who a voice is, while the alias goes there and back.

The two generations have vectors of the same length, so that nothing but care keeps their spaces apart. Each voice has one
other voice that is like it: in one generation the voice before it, in the other the voice after it. So an answer tells the
generation whose vectors were compared, and every score says whether the query and the hit came from the same space.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Row, median, row, say
from benchmarks.servers import Engines
from speakerdb.core.pooling import pool
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.reports import MatchResult
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FAKE_CHECKSUM, FakeExecutor, fake_settings, fake_vector, silence
from speakerdb.types import SERVING_ALIAS, AliasAction, FloatArray, Turn

GENERATIONS = ("v3", "v4")
DIMENSION = 256
K = 5
SECONDS = 20.0
OWN = 0.3
"""How much of a voice is its own: two voices that are alike have a cosine of about 0.92, others one around 0."""
TOLERANCE = 1e-4
THREADS = 4
PATIENCE_SECONDS = 300.0


@dataclass
class Load:
    """What the threads saw. `wrong` holds a sentence for each answer that mixed generations, or was no answer."""

    speakers: int
    swaps: int = 0
    queries: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    """Answers by generation."""
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """How long each query took."""
    requests: list[float] = field(default_factory=list)
    """How long each request took that moved the alias."""
    elapsed: float = 0.0


class Voices:
    """The voices of a library by generation, and what every answer about them must be."""

    def __init__(self, count: int) -> None:
        assert count % 2 == 0
        self.matrices: dict[str, FloatArray] = {}
        self.ids: list[str] = []
        self._places: dict[str, int] = {}
        for shift, generation in enumerate(GENERATIONS):
            shared = [fake_vector(f"{generation}/{n}", DIMENSION) for n in range(count // 2)]
            rows = [
                shared[(n + shift) % count // 2] + np.float32(OWN) * fake_vector(f"{generation}/own/{n}", DIMENSION)
                for n in range(count)
            ]
            matrix = np.stack(rows)
            self.matrices[generation] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.matrices[GENERATIONS[0]])

    def extracted(self, task: Task) -> Extracted:
        """What extraction finds in the recording ``NUMBER``."""
        vector = self.matrices[task.generation.name][int(task.recording_id)]
        results = {task.turns[0].speaker: pool(vector[np.newaxis], [SECONDS])}
        return Extracted(task.recording_id, task.content_version, results, SECONDS, "none", FAKE_CHECKSUM, ())

    def add_to(self, db: SpeakerDB) -> None:
        """A recording for each voice, extracted and projected."""
        for n in range(self.count):
            # Its file is never opened.
            added = db.add(None, (Turn(0.0, SECONDS, "SPEAKER_00"),), recording_id=f"{n}", waveform=silence(SECONDS))
            self.ids.append(added.speakers["SPEAKER_00"])
        self._places = {one: n for n, one in enumerate(self.ids)}
        db.work()

    def like(self, generation: str, n: int) -> int:
        """The voice that is like voice `n` in a generation."""
        shift = GENERATIONS.index(generation)
        return ((((n + shift) % self.count) ^ 1) - shift) % self.count

    def judged(self, n: int, found: MatchResult, indices: Mapping[str, str]) -> str | None:
        """What is wrong with an answer about voice `n`; None where nothing is. `indices` names each generation's index."""
        about = f"voice {n}, {found.generation} in {found.index} by {found.path}"
        if found.generation not in self.matrices or found.index != indices[found.generation]:
            return f"{about}: the index is another generation's"
        if found.path != "serving" or len(found.matches) != K:
            return f"{about}: {len(found.matches)} answers"
        matrix = self.matrices[found.generation]
        for match in found.matches:
            expected = float(matrix[n] @ matrix[self._places[match.id]])
            if abs(match.score - expected) > TOLERANCE:
                return f"{about}: a score of {match.score:.5f}, and in {found.generation} it is {expected:.5f}"
        best = self._places[found.matches[0].id]
        if best != self.like(found.generation, n):
            return f"{about}: voice {best} came first, not {self.like(found.generation, n)}"
        return None


def swapping(folder: Path, engines: Engines, *, speakers: int, queries: int, swaps: int) -> list[Row]:
    """Rows of a run on both servers."""
    with engines.library() as more:
        load = swaps_under_load(folder, speakers=speakers, queries=queries, swaps=swaps, **more)
    for sentence in (load.failed + load.wrong)[:10]:
        say(f"swaps under load: {sentence}")
    say(f"swaps under load: {load.answers} answers, requests of {[round(each, 3) for each in load.requests]} s")
    name = f"swaps under load ({load.swaps} swaps, {THREADS} threads, {speakers:,} speakers)"
    return [
        row(f"{name}, queries", load.queries, "queries", at_least=queries),
        row(f"{name}, queries that failed", len(load.failed), "queries", at_most=0),
        row(f"{name}, answers that mixed generations or were wrong", len(load.wrong), "queries", at_most=0),
        row(f"{name}, rate", load.queries / load.elapsed, "queries/s"),
        row(f"{name}, query, median", median(load.seconds) * 1e3, "ms"),
        row(f"{name}, query, 99th of 100", float(np.quantile(load.seconds, 0.99)) * 1e3, "ms"),
        row(f"{name}, request that moves the alias, median", median(load.requests) * 1e3, "ms"),
        row(f"{name}, request that moves the alias, slowest", max(load.requests) * 1e3, "ms"),
    ]


def swaps_under_load(folder: Path, *, speakers: int, queries: int, swaps: int, **more: Any) -> Load:
    """At least so many queries by four threads, over so many swaps: finalize, roll back, finalize and so on.

    Half of the threads ask the object that swaps, the others another one of the same library, as in another process.
    """
    voices = Voices(speakers)
    load = Load(speakers)
    settings = fake_settings(folder, dimensions=dict.fromkeys(GENERATIONS, DIMENSION), **more)
    with ExitStack() as stack:
        db, other = (
            stack.enter_context(SpeakerDB.open(settings, executor=FakeExecutor(voices.extracted))) for _ in range(2)
        )
        voices.add_to(db)
        _watch(db, load.requests)
        begun = time.perf_counter()
        with _asking((db, other), voices, load):
            for swap in range(swaps):
                if swap % 2 == 0:
                    db.start_migration(GENERATIONS[1], force=True)  # there is no sound to open
                    db.work()
                _wait_for(load, queries * (2 * swap + 1) // (2 * swaps))
                db.finalize() if swap % 2 == 0 else db.rollback()
                load.swaps += 1
                _wait_for(load, queries * (2 * swap + 2) // (2 * swaps))
        load.elapsed = time.perf_counter() - begun
    return load


@contextmanager
def _asking(dbs: Sequence[SpeakerDB], voices: Voices, load: Load) -> Iterator[None]:
    """Threads that ask until the end of the block."""
    over = threading.Event()
    lock = threading.Lock()
    indices = {generation: dbs[0].generations[generation].index_name for generation in GENERATIONS}

    def ask(number: int) -> None:
        db, chosen = dbs[number % len(dbs)], random.Random(number)  # noqa: S311
        while not over.is_set():
            n = chosen.randrange(voices.count)
            begun = time.perf_counter()
            try:
                found: MatchResult | str = db.match(speaker=voices.ids[n], k=K)
            except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
                found = f"voice {n}: {type(error).__name__}: {error}"
            seconds = time.perf_counter() - begun
            wrong = None if isinstance(found, str) else voices.judged(n, found, indices)
            with lock:
                load.queries += 1
                load.seconds.append(seconds)
                if isinstance(found, str):
                    load.failed.append(found)
                else:
                    load.answers[found.generation] = load.answers.get(found.generation, 0) + 1
                if wrong is not None:
                    load.wrong.append(wrong)

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


def _wait_for(load: Load, queries: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while load.queries < queries:
        assert time.monotonic() < deadline, f"{load.queries} queries in {PATIENCE_SECONDS:g} s, not {queries}"
        time.sleep(0.01)


def _watch(db: SpeakerDB, requests: list[float]) -> None:
    """Have the time of each request noted that moves the serving alias."""
    update: Callable[[Sequence[AliasAction]], None] = db.index.update_aliases

    def timed(actions: Sequence[AliasAction]) -> None:
        begun = time.perf_counter()
        update(actions)
        if any(action.alias == SERVING_ALIAS for action in actions):
            requests.append(time.perf_counter() - begun)

    db.index.update_aliases = timed  # type: ignore[method-assign]
