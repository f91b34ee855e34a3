"""Files that moved: whole path components only, each compared with its fingerprint, and nothing else touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from speakerdb.errors import InvalidInput, MediaMissing, NotFound
from speakerdb.extraction import Extracted, Task
from speakerdb.files import files
from speakerdb.reports import as_json
from speakerdb.testing.factories import fake_extract, two_voices
from tests.fault.fault_kit import everything
from tests.files.conftest import Changes, Shelf


def relocate(shelf: Shelf, old: str, new: str, **how: object) -> tuple[dict[str, object], Changes]:
    changes = Changes()
    report = shelf.db.files.relocate(
        str(shelf.folder / old),
        str(shelf.folder / new),
        on_change=changes.append,
        **how,  # type: ignore[arg-type]
    )
    return as_json(report), changes


def test_a_folder_moves_and_its_neighbours_do_not(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PART", 2)
    names = ["show/a.wav", "show/b.wav", "show/deep/er/c.wav", "show2/a.wav", "show.wav", "sho/a.wav", "Show/a.wav"]
    shelf.add(*names)
    shutil.move(shelf.media / "show", shelf.folder / "disk")
    report, changes = relocate(shelf, "media/show", "disk", why="a new disk")
    assert (report["matched"], report["relocated"], report["refused"]) == (3, 3, {})
    assert set(changes.codes().values()) == {"relocated"}
    assert shelf.paths() == {
        **{name: f"media/{name}" for name in names},
        "show/a.wav": "disk/a.wav",
        "show/b.wav": "disk/b.wav",
        "show/deep/er/c.wav": "disk/deep/er/c.wav",
    }
    events = [e for e in shelf.db.events() if e["kind"] == "recording-relocated"]
    assert {(e["entity"], e["why"]) for e in events} == {
        ("show/a.wav", "a new disk"), ("show/b.wav", "a new disk"), ("show/deep/er/c.wav", "a new disk"),
    }  # fmt: skip
    assert events[0]["data"].keys() == {"old", "new"}
    assert shelf.db.files.check().ok
    with pytest.raises(NotFound):
        relocate(shelf, "media/show", "disk")


@pytest.mark.parametrize("folder", ["100%", "a_b", "it's", "[x]*", "ü ñ", "back\\slash"])
def test_names_that_mean_something_elsewhere_are_only_names(shelf: Shelf, folder: str) -> None:
    shelf.add(f"{folder}/a.wav", "100 percent/a.wav", "aXb/a.wav")
    shutil.move(shelf.media / folder, shelf.folder / "disk")
    assert relocate(shelf, f"media/{folder}", "disk")[0]["relocated"] == 1


def test_a_single_file_moves_to_a_name_or_into_a_folder(shelf: Shelf) -> None:
    shelf.add("a.wav", "b.wav")
    (shelf.folder / "disk").mkdir()
    shutil.move(shelf.media / "a.wav", shelf.folder / "disk" / "renamed.wav")
    shutil.move(shelf.media / "b.wav", shelf.folder / "disk" / "b.wav")
    assert relocate(shelf, "media/a.wav", "disk/renamed.wav")[0]["relocated"] == 1
    assert relocate(shelf, "media/b.wav", "disk")[0]["relocated"] == 1
    assert shelf.paths() == {"a.wav": "disk/renamed.wav", "b.wav": "disk/b.wav"}


def test_what_is_missing_different_or_forbidden_there_stays_as_it_is(
    open_shelf: Callable[..., Shelf], tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    shelf = open_shelf(media_roots=(tmp_path / "media", tmp_path / "disk"))
    shelf.add("good.wav", "gone.wav", "other.wav", "link.wav", "folder.wav")
    disk = shelf.folder / "disk"
    shutil.copy(shelf.media / "good.wav", disk)
    shutil.copy(shelf.media / "good.wav", disk / "other.wav")
    (disk / "folder.wav").mkdir()
    shutil.copy(shelf.media / "link.wav", shelf.folder / "outside.wav")
    (disk / "link.wav").symlink_to(shelf.folder / "outside.wav")
    before = shelf.paths()
    report, changes = relocate(shelf, "media", "disk")
    assert changes.codes() == {
        "good.wav": "relocated",
        "gone.wav": "media-missing",
        "other.wav": "media-changed",
        "link.wav": "media-forbidden",
        "folder.wav": "media-unreadable",
    }
    assert report["refused"] == {
        "media-missing": 1, "media-changed": 1, "media-forbidden": 1, "media-unreadable": 1,
    }  # fmt: skip
    assert shelf.paths() == before | {"good.wav": "disk/good.wav"}
    # What was in the way is mended, and it is run again: only the rest is looked at.
    shutil.copy(shelf.media / "gone.wav", disk)
    assert relocate(shelf, "media", "disk")[0]["matched"] == 4
    assert shelf.paths()["gone.wav"] == "disk/gone.wav"


def test_a_dry_run_says_the_same_and_writes_nothing(shelf: Shelf) -> None:
    shelf.add("a.wav", "b.wav")
    (shelf.folder / "disk").mkdir()
    shutil.copy(shelf.media / "a.wav", shelf.folder / "disk")
    before = everything(shelf.db.settings.data_dir)
    report, changes = relocate(shelf, "media", "disk", dry_run=True)
    assert changes.codes() == {"a.wav": "relocated", "b.wav": "media-missing"}
    assert (report["dry_run"], report["relocated"], report["queued"]) == (True, 1, 0)
    assert everything(shelf.db.settings.data_dir) == before


def test_what_failed_because_it_was_missing_is_queued_again_and_nothing_else(shelf: Shelf) -> None:
    shelf.add("a.wav", "b.wav", "c.wav", "stays.wav")

    def answer(task: Task) -> Extracted:
        if task.recording_id == "b.wav":
            raise ZeroDivisionError("its own fault")
        raise MediaMissing("gone")

    shelf.executor.answer = answer
    shelf.db.work()
    shelf.sql("UPDATE work_items SET state = 'waived', waived_why = 'gone for good' WHERE recording_id = 'c.wav'")
    (shelf.folder / "disk").mkdir()
    for name in ("a", "b", "c"):
        shutil.move(shelf.media / f"{name}.wav", shelf.folder / "disk")
    report, _ = relocate(shelf, "media", "disk")
    assert (report["relocated"], report["queued"]) == (3, 1)
    assert {recording: state for (recording, _), state in shelf.items().items()} == {
        "a.wav": ("queued", None),
        "b.wav": ("failed", "extraction"),
        "c.wav": ("waived", "media-missing"),
        "stays.wav": ("failed", "media-missing"),
    }
    shelf.executor.answer = fake_extract
    assert shelf.db.work().recordings_done == 1


def test_moving_a_file_extracts_nothing_again(shelf: Shelf) -> None:
    shelf.add("a.wav")
    shelf.db.work()
    shutil.move(shelf.media, shelf.folder / "disk")
    relocate(shelf, "media", "disk")
    assert shelf.items() == {("a.wav", "v3"): ("done", None)}
    assert shelf.db.work().recordings_done == 0


def test_a_file_that_another_recording_has_already_is_not_given_to_a_second(shelf: Shelf) -> None:
    shelf.add("a.wav", "b.wav")
    shelf.add("other/a.wav", library="other")
    shutil.move(shelf.media, shelf.folder / "disk")
    shelf.db.add(shelf.folder / "disk" / "a.wav", two_voices(2.0), recording_id="again")
    _, changes = relocate(shelf, "media", "disk")
    assert changes.codes() == {"a.wav": "conflict", "b.wav": "relocated", "other/a.wav": "relocated"}
    shelf.db.remove("again")
    assert relocate(shelf, "media", "disk")[1].codes() == {"a.wav": "relocated"}


def test_into_a_folder_below_the_old_one_and_again(shelf: Shelf) -> None:
    shelf.add("a.wav", "b.wav")
    (shelf.media / "2024").mkdir()
    shutil.move(shelf.media / "a.wav", shelf.media / "2024")
    for wanted in ({"a.wav": "relocated", "b.wav": "media-missing"}, {"b.wav": "media-missing"}):
        report, changes = relocate(shelf, "media", "media/2024")
        assert (changes.codes(), report["matched"]) == (wanted, len(wanted))
        assert shelf.paths() == {"a.wav": "media/2024/a.wav", "b.wav": "media/b.wav"}


def test_recordings_that_share_a_file_move_together(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PART", 2)
    shelf.add("a.wav", "b.wav")
    for n in range(5):
        shelf.db.add(shelf.media / "a.wav", two_voices(2.0), recording_id=f"share{n}")
    shutil.move(shelf.media, shelf.folder / "disk")
    report, changes = relocate(shelf, "media", "disk")
    assert (report["matched"], report["relocated"], len(changes)) == (7, 7, 7)
    assert set(shelf.paths().values()) == {"disk/a.wav", "disk/b.wav"}


def test_links_and_relative_names_are_followed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add("a.wav")
    (shelf.folder / "linked").symlink_to(shelf.folder)
    shutil.move(shelf.media, shelf.folder / "disk")
    (shelf.folder / "media").mkdir()
    (shelf.folder / "new").symlink_to(shelf.folder / "disk")
    monkeypatch.chdir(shelf.folder)
    report = shelf.db.files.relocate("linked/media/", "./new")
    assert report.relocated == 1
    assert shelf.paths() == {"a.wav": "disk/a.wav"}, "a path on record has no links in it"


def test_only_of_one_library(shelf: Shelf) -> None:
    shelf.add("one/a.wav", library="one")
    shelf.add("two/a.wav", library="two")
    shutil.copytree(shelf.media, shelf.folder / "disk")
    assert relocate(shelf, "media", "disk", library_name="one")[0]["relocated"] == 1
    assert shelf.paths() == {"one/a.wav": "disk/one/a.wav", "two/a.wav": "media/two/a.wav"}


def test_nonsense_is_refused_and_the_places_that_exist_are_named(shelf: Shelf) -> None:
    def nowhere() -> str:
        with pytest.raises(NotFound) as caught:
            relocate(shelf, "nowhere", ".")
        return caught.value.hint

    assert nowhere() == "No recording has a file."
    shelf.add("tv/a.wav", "radio/b.wav", "tv/c/d.wav", "tv-old/e.wav")
    assert (
        nowhere()
        == f"The files of this library lie in {', '.join(f'{shelf.media}/{n}' for n in ('radio', 'tv-old', 'tv'))}."
    )
    shelf.add("loose.wav")
    assert nowhere() == f"The files of this library lie in {shelf.media}."
    for old, new in (("", "x"), ("x", " "), (str(shelf.media), str(shelf.media)), ("a\0b", "x"), ("\udcff", "x")):
        with pytest.raises(InvalidInput):
            shelf.db.files.relocate(old, new)
    with pytest.raises(NotFound):
        relocate(shelf, "media", "not-there")
    with pytest.raises(NotFound):
        relocate(shelf, "media", ".", library_name="none")
    assert shelf.db.files.check().ok
