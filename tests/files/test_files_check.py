"""Looking at recordings' files: each state, what is said of it, and that nothing is changed by looking."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from typing import Any

import pytest

from speakerdb.errors import NotFound
from speakerdb.executors import ProcessExecutor
from speakerdb.files import files
from speakerdb.opener import Opener
from speakerdb.reports.files import FileProgress, FileState
from speakerdb.testing.factories import silence, two_voices
from tests.fault.fault_kit import everything
from tests.files.conftest import Shelf


def test_every_state_a_file_can_be_in(open_shelf: Callable[..., Shelf], tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    shelf = open_shelf(media_roots=(media,))
    names = [f"{n}.wav" for n in ("ok", "gone", "changed", "grown", "empty", "folder", "pipe", "link", "loop", "below")]
    shelf.add(*names)
    shelf.db.add(None, two_voices(), recording_id="memory", waveform=silence(20))
    for name in ("gone", "folder", "pipe", "link", "loop", "below"):
        (media / f"{name}.wav").unlink()
    shelf.write("changed.wav", number=7)
    with (media / "grown.wav").open("ab") as file:
        file.write(b"\0\0")
    (media / "empty.wav").write_bytes(b"")
    (media / "folder.wav").mkdir()
    os.mkfifo(media / "pipe.wav")
    outside = tmp_path / "outside.wav"
    outside.write_bytes((media / "ok.wav").read_bytes())
    (media / "link.wav").symlink_to(outside)
    (media / "loop.wav").symlink_to(media / "loop.wav")
    before = everything(shelf.db.settings.data_dir)
    told: list[FileProgress] = []
    found = shelf.found(on_progress=told.append)
    assert {name.removesuffix(".wav"): (f.state.value, f.code) for name, f in found.items()} == {
        "ok": ("ok", None),
        "gone": ("missing", "media-missing"),
        "below": ("missing", "media-missing"),
        "changed": ("changed", "media-changed"),
        "grown": ("changed", "media-changed"),
        "empty": ("changed", "media-changed"),
        "folder": ("unreadable", "media-unreadable"),
        "pipe": ("unreadable", "media-unreadable"),
        "loop": ("unreadable", "media-unreadable"),
        "link": ("forbidden", "media-forbidden"),
        "memory": ("in-memory", None),
    }
    assert told[-1] == FileProgress(11, 11, 9)
    report = shelf.db.files.check()
    assert not report.ok
    assert (report.checked, report.missing_below) == (11, str(media))
    assert report.states == {"ok": 1, "missing": 2, "changed": 3, "unreadable": 3, "forbidden": 1, "in-memory": 1}
    steps = " ".join(report.next_steps)
    for command in (f"speakerdb media relocate {media} NEW", "media accept", "speakerdb remove", "media_roots"):
        assert command in steps
    assert everything(shelf.db.settings.data_dir) == before


def test_all_is_well(shelf: Shelf) -> None:
    assert shelf.db.files.check().ok, "an empty library"
    shelf.add("a.wav", "b.wav")
    shelf.db.add(None, two_voices(), recording_id="memory", waveform=silence(20))
    report = shelf.db.files.check()
    assert (report.ok, report.next_steps, report.missing_below) == (True, (), None)


def test_a_library_is_walked_in_parts_and_each_recording_is_met_once(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PART", 2)
    shelf.add(*(f"{n}.wav" for n in range(7)))
    shelf.add("other.wav", library="other")
    (shelf.media / "3.wav").unlink()
    assert len(shelf.found()) == 8
    assert shelf.db.files.check().states == {"ok": 7, "missing": 1}
    assert list(shelf.found(library_name="other")) == ["other.wav"]
    assert shelf.db.files.check(library_name="default").checked == 7
    assert shelf.found(recording="3.wav")["3.wav"].state is FileState.MISSING
    for wrong in ({"library_name": "none"}, {"recording": "none"}):
        with pytest.raises(NotFound):
            shelf.db.files.check(**wrong)  # type: ignore[arg-type]


# Deep


def test_a_deep_look_opens_the_files_and_compares_their_lengths(shelf: Shelf) -> None:
    shelf.add("ok.wav", "longer.wav", "words.wav", "changed.wav", "gone.wav")
    shelf.sql("UPDATE recordings SET seconds = 9 WHERE id = 'longer.wav'")
    # The same fingerprint and no sound: only a deep look can tell.
    words = shelf.media / "words.wav"
    words.write_text("no sound at all\n" * 100)
    from speakerdb.media import fingerprint

    known = fingerprint(words)
    shelf.sql("UPDATE recordings SET media_size = ?, media_digest = ? WHERE id = 'words.wav'", known.size, known.digest)
    shelf.write("changed.wav", number=9, seconds=1.0)
    (shelf.media / "gone.wav").unlink()
    assert {f.state.value for f in shelf.found().values()} == {"ok", "changed", "missing"}
    found = {name.removesuffix(".wav"): f for name, f in shelf.found(deep=True).items()}
    assert {name: f.state.value for name, f in found.items()} == {
        "ok": "ok", "longer": "other-length", "words": "unreadable", "changed": "changed", "gone": "missing",
    }  # fmt: skip
    assert "It is 2.0 s long; 9.0 s are on record." in found["longer"].detail
    assert "It is 1.0 s long; 2.0 s are on record." in found["changed"].detail
    assert found["words"].code == "media-unreadable"
    assert not shelf.db.files.check(deep=True).ok


class Fragile:
    """An executor whose process dies, or never answers, when it is given certain files."""

    width = 1

    def __init__(self, *, deadly: str, endless: str) -> None:
        self.deadly, self.endless = deadly, endless
        self.given: list[int] = []
        self.closed = False

    def submit(self, function: Callable[[Any], Any], paths: Sequence[Path]) -> Future[Any]:
        self.given.append(len(paths))
        future: Future[Any] = Future()
        names = [path.name for path in paths]
        if self.deadly in names:
            future.set_exception(BrokenExecutor())
        elif self.endless not in names:
            future.set_result(function(paths))
        return future

    def restart(self) -> str:
        return "was killed by signal 11 (SIGSEGV)"

    def close(self) -> None:
        self.closed = True


def test_a_file_that_kills_or_hangs_whoever_opens_it_is_unreadable_and_the_others_are_looked_at(shelf: Shelf) -> None:
    shelf.add(*(f"{n}.wav" for n in range(20)), "deadly.wav", "endless.wav")
    fragile = Fragile(deadly="deadly.wav", endless="endless.wav")
    shelf.db.files._opener = lambda: Opener(lambda: fragile, 0.01)
    found = shelf.found(deep=True)
    wrong = {name: f.detail for name, f in found.items() if f.wrong}
    assert set(wrong) == {"deadly.wav", "endless.wav"}
    assert "the process that opened it was killed by signal 11 (SIGSEGV)" in wrong["deadly.wav"]
    assert "opening it took more than 0.01 s" in wrong["endless.wav"]
    assert len(found) == 22
    assert max(fragile.given) == 16
    assert fragile.closed


class Remembering(ProcessExecutor):
    """Knows which processes it had when it was closed."""

    def close(self) -> None:
        self.had = self.processes
        super().close()


def test_files_are_opened_in_a_process_of_their_own(shelf: Shelf) -> None:
    shelf.add("a.wav")
    made: list[Remembering] = []

    def make() -> ProcessExecutor:
        made.append(Remembering(1))
        return made[-1]

    shelf.db.files._opener = lambda: Opener(make, 60.0)
    assert shelf.db.files.check(deep=True).ok
    (executor,) = made
    assert len(executor.had) == 1
    assert not executor.had[0].is_alive()
