"""Workers that die or hang: their recording fails by its code, the others finish, and nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from fault_kit import rows
from synthetic_voices import RATE, make_library, voice, write_wav

from speakerdb.errors import ModelUnavailable
from speakerdb.executors import Executor, InlineExecutor, ProcessExecutor
from speakerdb.extraction import Extracted, Task, extract
from speakerdb.extraction.drain import Extraction
from speakerdb.extraction.extract import Loader
from speakerdb.media.reader import Reader
from speakerdb.models.registry import LoadedModel
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import fake_settings
from speakerdb.types import FloatArray, Generation, Turn

LOUD, FAINT = 0.95, 0.01
PATIENCE = 60.0


@dataclass(frozen=True)
class TouchyLoader:
    """A model whose process dies at loud sound and hangs at faint sound: what a broken decoder does to it."""

    inner: Loader = field(default_factory=Loader)

    def __call__(self, generation: Generation) -> LoadedModel:
        loaded = self.inner(generation)
        return LoadedModel(Touchy(loaded.embedder), loaded.checksum, loaded.source, (), loaded.description)


class Touchy:
    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        for segment in segments:
            if np.abs(segment).max() > LOUD:
                os.kill(os.getpid(), signal.SIGKILL)
            if np.abs(segment).max() < FAINT:
                time.sleep(3600)
        return self._inner.embed(segments)  # type: ignore[attr-defined, no-any-return]


def library(folder: Path, *loudness: float) -> tuple[SpeakerDB, list[str]]:
    """Recordings of one voice each, at a peak of 0.5 or as given."""
    (folder / "media").mkdir(exist_ok=True)
    db = SpeakerDB.open(settings(folder), load_embedder=TouchyLoader())
    ids = []
    for number, peak in enumerate(loudness):
        path = write_wav(folder / "media" / f"{number}.wav", voice(number, 3.0) * np.float32(2 * peak))
        ids.append(db.add(path, [Turn(0, 3, "A")]).recording_id)
    return db, ids


def settings(folder: Path) -> Settings:
    return fake_settings(
        folder / "data",
        dimensions={"v3": 64, "v4": 48},
        executor="process",
        batch_recordings=16,
        recording_timeout=12.0,
    )


def states(db: SpeakerDB) -> dict[str, tuple[str, int, str | None]]:
    found = rows(db.settings.data_dir, "SELECT recording_id, state, attempts, error_code FROM work_items")
    return {r[0]: r[1:] for r in found}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_recording_that_kills_its_worker_fails_after_three_attempts_and_stops_nobody(tmp_path: Path) -> None:
    db, (first, deadly, last) = library(tmp_path, 0.5, 1.0, 0.5)
    with db:
        report = db.work()
        assert (report.recordings_done, report.recordings_failed, report.stopped) == (2, 1, "drained")
        assert [(e.recording_id, e.code, e.attempts) for e in report.errors] == [(deadly, "worker-died", 3)]
        assert report.errors[0].message.count("killed by signal 9 (SIGKILL)") == 3
        assert states(db)[deadly] == ("failed", 3, "worker-died")
        assert states(db)[first][0] == states(db)[last][0] == "done"
        assert [s.generations for s in db.speakers(recording=deadly)] == [{"v3": "failed"}]

        # What killed it was mended: the same item, from its first attempt on.
        path = write_wav(tmp_path / "media" / "1.wav", voice(1, 3.0))
        db.add(path, [Turn(0, 3, "A")])
        assert db.work().recordings_done == 1


def test_a_recording_that_hangs_is_ended_after_its_time(tmp_path: Path) -> None:
    db, (hanging, other) = library(tmp_path, 0.005, 0.5)
    with db:
        # Two attempts are behind it, so that the test need not wait for them.
        rows(db.settings.data_dir, "UPDATE work_items SET attempts = 2 WHERE recording_id = ?", hanging)
        report = db.work()
        assert (report.recordings_done, report.recordings_failed) == (1, 1)
        assert states(db)[hanging] == ("failed", 3, "worker-died")
        assert "Attempt 3: it took more than 12 s and was ended." in report.errors[0].message
        assert states(db)[other][0] == "done"


HANGING_PARENT = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {fault!r}]
from test_fault_workers import TouchyLoader, settings
from speakerdb.service import SpeakerDB

if __name__ == "__main__":
    with SpeakerDB.open(settings(Path(sys.argv[1])), load_embedder=TouchyLoader()) as db:
        db.work()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_killed_parent_leaves_no_worker_however_busy(tmp_path: Path) -> None:
    db, (hanging,) = library(tmp_path, 0.005)
    db.close()
    here = Path(__file__).parent
    script = tmp_path / "parent.py"
    script.write_text(HANGING_PARENT.format(tests=str(here.parent), fault=str(here)))
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    try:
        wait_for(lambda: rows(tmp_path / "data", "SELECT state FROM work_items") == [("taken",)])
        wait_for(lambda: bool(children(parent.pid)))
        workers = children(parent.pid)
        time.sleep(1.0)  # it is asleep in its recording by now, or soon
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(alive(pid) for pid in workers))
    # The next process takes over at once: it sees that the holder of the lease is dead.
    with SpeakerDB.open(settings(tmp_path), load_embedder=TouchyLoader()) as db:
        write_wav(tmp_path / "media" / "0.wav", voice(0, 3.0))
        db.add(tmp_path / "media" / "0.wav", [Turn(0, 3, "A")])
        assert db.work().recordings_done == 1
        assert states(db)[hanging][0] == "done"


def children(pid: int) -> set[int]:
    """Worker processes that `pid` started (the resource tracker ends with its parent by itself)."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in command:
            found.add(int(entry.name))
    return found


def decode_slowly(task: Task) -> Extracted:
    """Extracts; the first time, it writes down its process after the first sound was decoded, and decodes no further."""
    note = Path(os.environ["DECODING"])
    keep = Reader._keep

    def decoded(reader: Reader, frame: object) -> None:
        keep(reader, frame)
        if not note.exists() and reader.next and reader.next > RATE:
            written = note.with_suffix(".new")
            written.write_text(str(os.getpid()))
            written.rename(note)
            time.sleep(3600)

    Reader._keep = decoded  # type: ignore[method-assign]
    try:
        return extract(task)
    finally:
        Reader._keep = keep  # type: ignore[method-assign]


def test_kill_9_in_the_middle_of_a_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recording comes through at the second attempt, and everything is as if nothing had happened."""
    note = tmp_path / "decoding"
    monkeypatch.setenv("DECODING", str(note))
    made = make_library(tmp_path / "media", 3, seconds=3.0)
    found: dict[str, dict[str, bytes]] = {}
    killed: list[int] = []

    def kill() -> None:
        wait_for(note.exists)
        killed.append(int(note.read_text()))
        os.kill(killed[0], signal.SIGKILL)

    for how in ("undisturbed", "killed"):
        executor: Executor = ProcessExecutor(1) if how == "killed" else InlineExecutor()
        with SpeakerDB.open(fake_settings(tmp_path / how, dimensions={"v3": 64}), executor=executor) as db:
            for one in made:
                db.add(one.path, one.turns, recording_id=one.stem)
            function = decode_slowly if how == "killed" else extract
            extraction = Extraction(db.catalog, executor, db.generations, load=Loader(), function=function)
            killer = threading.Thread(target=kill)
            if how == "killed":
                killer.start()
            with db.catalog.holding("work") as lease:
                while not extraction.step(lease).over:
                    pass
            if how == "killed":
                killer.join()
            sql = "SELECT s.recording_id || s.label, e.vector FROM speakers s JOIN embeddings e ON e.entity_id = s.id"
            found[how] = dict(rows(db.settings.data_dir, sql))
            attempts = [item[:2] for item in states(db).values()]
    assert killed
    assert sorted(attempts) == [("done", 1), ("done", 1), ("done", 2)]
    assert len(found["killed"]) == 6
    assert found["killed"] == found["undisturbed"]


@dataclass(frozen=True)
class Absent:
    """A model that cannot be loaded, for one generation; the other's is there."""

    generation: str = "v4"

    def __call__(self, generation: Generation) -> LoadedModel:
        if generation.name == self.generation:
            raise ModelUnavailable("None of the sources could be loaded.", hint="Put a file there.")
        return Loader()(generation)


def test_a_model_that_cannot_be_loaded_leaves_its_items_queued_and_the_other_generation_goes_on(
    tmp_path: Path,
) -> None:
    given = fake_settings(tmp_path / "data", dimensions={"v3": 64, "v4": 48})
    path = write_wav(tmp_path / "0.wav", voice(0, 3.0))
    with SpeakerDB.open(given, load_embedder=Absent()) as db:
        db.add(path, [Turn(0, 3, "A")])
        db.work()
        refused = db.preflight("v4")
        assert {c.name: c.verdict for c in refused.checks}["target model"] == "fail"
        db.start_migration("v4", force=True)
        with pytest.raises(ModelUnavailable):
            db.work()
        db.add(write_wav(tmp_path / "1.wav", voice(1, 3.0)), [Turn(0, 3, "A")])
        report = db.work()
        assert (report.recordings_done, report.recordings_failed) == (1, 0)
        found = rows(db.settings.data_dir, "SELECT generation, state, attempts FROM work_items ORDER BY id")
        assert found == [("v3", "done", 1), ("v4", "queued", 0), ("v3", "done", 1), ("v4", "queued", 0)]
    with SpeakerDB.open(given) as db:
        assert db.work().recordings_done == 2
        assert db.finalize().serving == "v4"
