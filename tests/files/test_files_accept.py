"""Files that were changed on purpose: taken as they are where the turns still fit, and extracted again for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from speakerdb.errors import InvalidInput, NotFound
from speakerdb.files import files
from speakerdb.reports import as_json
from speakerdb.testing.factories import silence, two_voices
from tests.fault.fault_kit import everything
from tests.files.conftest import Changes, Shelf


def accept(shelf: Shelf, *ids: str, **how: object) -> tuple[dict[str, object], Changes]:
    changes = Changes()
    report = shelf.db.files.accept(ids, on_change=changes.append, **how)  # type: ignore[arg-type]
    return as_json(report), changes


def recording(shelf: Shelf, name: str) -> tuple[object, ...]:
    (row,) = shelf.sql("SELECT seconds, content_version, media_size, media_digest FROM recordings WHERE id = ?", name)
    return row


def test_the_new_sound_is_taken_and_every_live_generation_extracts_it_again(shelf: Shelf) -> None:
    shelf.add("a.wav", "b.wav")
    shelf.db.work()
    shelf.db.start_migration("v4", force=True)
    shelf.db.work()
    shelf.write("a.wav", number=9, seconds=3.0)
    before = recording(shelf, "a.wav")
    report, changes = accept(shelf, "a.wav", why="a better microphone")
    assert report == {"dry_run": False, "accepted": 1, "unchanged": 0, "queued": ["v3", "v4"], "refused": {}}
    assert changes.codes() == {"a.wav": "accepted"}
    after = recording(shelf, "a.wav")
    assert after[:2] == (3.0, 2)
    assert after[3] != before[3]
    assert {key for key, item in shelf.items().items() if item[0] == "queued"} == {("a.wav", "v3"), ("a.wav", "v4")}
    event = shelf.db.events(limit=1)[0]
    assert (event["kind"], event["entity"], event["why"], event["data"]) == (
        "media-accepted", "a.wav", "a better microphone", {"seconds": 3.0},
    )  # fmt: skip
    assert shelf.db.files.check().ok
    assert shelf.db.work().recordings_done == 2
    assert accept(shelf, "a.wav")[0]["unchanged"] == 1, "again, there is nothing to accept"
    assert recording(shelf, "a.wav") == after


def test_names_and_profiles_stay_and_the_profile_is_pooled_again(shelf: Shelf) -> None:
    shelf.add("a.wav", "b.wav")
    speakers = [speaker.id for speaker in shelf.db.speakers(recording="a.wav")]
    ann = shelf.db.create_profile("Ann")
    shelf.db.assign(speakers[0], ann.id)
    shelf.db.work()
    pooled = "SELECT vector, content_version FROM embeddings WHERE kind = 'profile'"
    before = shelf.sql(pooled)
    dirty = "SELECT 1 FROM profiles p JOIN embeddings e ON e.entity_id = p.id WHERE content_version <> members_version"
    assert shelf.sql(dirty) == []
    shelf.write("a.wav", number=9)
    accept(shelf, "a.wav")
    assert shelf.sql(dirty), "at once, and not only when it is extracted again"
    shelf.db.work()
    assert shelf.db.speaker(speakers[0]).profile_name == "Ann"
    assert shelf.sql(pooled) != before


def test_turns_beyond_the_new_end_refuse_it_and_a_hair_beyond_is_cut(shelf: Shelf) -> None:
    shelf.add("short.wav", "hair.wav")
    shelf.write("short.wav", number=9, seconds=1.2)
    shelf.write("hair.wav", number=9, seconds=1.8)
    report, changes = accept(shelf, "short.wav", "hair.wav")
    assert changes.codes() == {"short.wav": "invalid-turns", "hair.wav": "accepted"}
    assert "beyond the end" in changes[0].detail
    assert report["refused"] == {"invalid-turns": 1}
    assert recording(shelf, "short.wav")[:2] == (2.0, 1)
    assert recording(shelf, "hair.wav")[:2] == (1.8, 2)
    assert shelf.sql("SELECT max(\"end\") FROM turns WHERE recording_id = 'hair.wav'") == [(1.8,)]
    assert shelf.found()["short.wav"].state.value == "changed"


def test_what_cannot_be_read_is_refused_each_by_its_code(open_shelf: Callable[..., Shelf], tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    shelf = open_shelf(media_roots=(tmp_path / "media",))
    shelf.add("gone.wav", "words.wav", "link.wav", "fine.wav", "good.wav")
    shelf.db.add(None, two_voices(), recording_id="memory", waveform=silence(20))
    (shelf.media / "gone.wav").unlink()
    (shelf.media / "words.wav").write_text("no sound\n" * 100)
    (shelf.media / "link.wav").rename(tmp_path / "outside.wav")
    (shelf.media / "link.wav").symlink_to(tmp_path / "outside.wav")
    shelf.write("good.wav", number=9)
    report, changes = accept(shelf, "gone.wav", "words.wav", "link.wav", "memory", "fine.wav", "good.wav")
    assert changes.codes() == {
        "gone.wav": "media-missing",
        "words.wav": "media-unreadable",
        "link.wav": "media-forbidden",
        "memory": "invalid-input",
        "fine.wav": "unchanged",
        "good.wav": "accepted",
    }
    assert report["accepted"] == 1


def test_all_changed_takes_the_changed_ones_of_a_library_and_says_nothing_of_the_others(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PART", 2)
    shelf.add(*(f"{n}.wav" for n in range(5)))
    shelf.add("other.wav", library="other")
    for name in ("0.wav", "3.wav", "4.wav", "other.wav"):
        shelf.write(name, number=99)
    (shelf.media / "1.wav").unlink()
    (shelf.media / "4.wav").write_bytes(b"")
    before = everything(shelf.db.settings.data_dir)
    report, changes = accept(shelf, all_changed=True, library_name="default", dry_run=True)
    assert changes.codes() == {"0.wav": "accepted", "3.wav": "accepted", "4.wav": "media-unreadable"}
    assert everything(shelf.db.settings.data_dir) == before
    again, _ = accept(shelf, all_changed=True, library_name="default")
    assert again == report | {"dry_run": False}
    assert shelf.db.files.check().states == {"ok": 3, "missing": 1, "changed": 2}


def test_a_recording_that_changes_while_its_file_is_looked_at_is_left_alone(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add("a.wav")
    shelf.write("a.wav", number=9)
    looked = shelf.db.files._look

    def meanwhile(row: object) -> object:
        found = looked(row)  # type: ignore[arg-type]
        shelf.add("a.wav")
        shelf.db.add(shelf.media / "a.wav", two_voices(2.0), recording_id="a.wav")
        return found

    monkeypatch.setattr(shelf.db.files, "_look", meanwhile)
    version = recording(shelf, "a.wav")[1]
    _, changes = accept(shelf, "a.wav")
    assert changes.codes() == {"a.wav": "conflict"}
    assert recording(shelf, "a.wav")[1] == version + 1, "by the one who changed it, and nobody else"


def test_nothing_or_too_much_chosen_and_what_does_not_exist(shelf: Shelf) -> None:
    shelf.add("a.wav")
    for ids, everything_changed in (((), False), (("a.wav",), True)):
        with pytest.raises(InvalidInput):
            accept(shelf, *ids, all_changed=everything_changed)
    with pytest.raises(NotFound):
        accept(shelf, "a.wav", "none")
    assert accept(shelf, "a.wav", "a.wav")[0]["unchanged"] == 1
