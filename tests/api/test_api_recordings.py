"""Recordings over HTTP: added by path and by upload, safe to repeat, changed as they were read, removed."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from api_kit import TURNS, Api

from speakerdb.testing import invariants


def given(path: Path | None = None, **more: Any) -> dict[str, Any]:
    return {"turns": TURNS} | ({} if path is None else {"path": str(path)}) | more


def test_a_recording_is_added_once_for_an_id(api: Api) -> None:
    body = given(api.file("talk"), id="2024/05/talk", speakers={"A": {"name": "Ada", "profile": "Ada L."}}, why="new")
    first = api.client.post("/v1/recordings", json=body)
    assert first.status_code == 201
    made = first.json()
    assert (made["id"], made["library"], made["turns"], made["speakers"]) == ("2024/05/talk", "default", 2, 2)
    assert set(made["labels"]) == {"A", "B"}
    again = api.client.post("/v1/recordings", json=body)
    assert (again.status_code, again.json(), again.headers["etag"]) == (200, made, first.headers["etag"])
    assert [event["why"] for event in api.events("recording-added")] == ["new"]
    assert api.ok("GET", "/v1/recordings/2024%2F05%2Ftalk") == made
    for other in (
        given(api.file("other"), id="2024/05/talk"),
        body | {"turns": TURNS[:1], "speakers": {}},
        body | {"library": "radio"},
    ):
        api.refused("POST", "/v1/recordings", 409, "already-exists", json=other)
    invariants.check(api.db)


def test_a_repeated_creation_takes_nothing_back(api: Api) -> None:
    body = given(api.file("talk"), speakers={"A": {"name": "Ada"}})
    made = api.ok("POST", "/v1/recordings", json=body)
    ada = made["labels"]["A"]
    api.ok("PUT", f"/v1/speakers/{ada}/name", json={"name": "Ada Lovelace"})
    assert api.ok("POST", "/v1/recordings", json=body)["id"] == made["id"]  # known by its path
    assert api.ok("GET", f"/v1/speakers/{ada}")["name"] == "Ada Lovelace"


def test_a_path_is_taken_below_a_media_root_only(api: Api, tmp_path: Path) -> None:
    outside = tmp_path / "secret.wav"
    outside.write_bytes(api.file("talk").read_bytes())
    (api.media / "link.wav").symlink_to(outside)
    for path in (
        outside, api.media / ".." / "secret.wav", api.media / "link.wav", Path("/etc/passwd"), Path("/proc/self/environ"),
        tmp_path / "nowhere.wav", tmp_path / "library" / "catalog.db",
    ):  # fmt: skip
        api.refused("POST", "/v1/recordings", 403, "media-forbidden", json=given(path))
    api.refused("POST", "/v1/recordings", 422, "invalid-input", json=given(Path("talk.wav")))
    api.refused("POST", "/v1/recordings", 422, "media-missing", json=given(api.media / "gone.wav"))
    api.refused("POST", "/v1/recordings", 422, "invalid-input", json=given(Path("a\0b")))
    assert api.ok("GET", "/v1/recordings")["items"] == []


def test_without_media_roots_no_path_is_taken(make_api: Callable[..., Api]) -> None:
    api = make_api(settings={"media_roots": ()})
    problem = api.refused("POST", "/v1/recordings", 403, "media-forbidden", json=given(api.file("talk")))
    assert "upload" in problem["hint"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"turns": []}, "invalid-input"),
    ({"turns": [{"start": 0, "end": 9000, "speaker": "A"}]}, "invalid-turns"),
    ({"turns": [{"start": 2, "end": 1, "speaker": "A"}]}, "invalid-turns"),
    ({"turns": [{"start": 0, "end": 1, "speaker": "\ud800"}]}, "invalid-input"),
    ({"turns": [{"start": 0, "end": 1, "speaker": "A", "more": 1}]}, "invalid-input"),
    ({"turns": [{"start": "NaN", "end": 1, "speaker": "A"}]}, "invalid-input"),
    ({"speakers": {"C": {"name": "Ada"}}}, "invalid-input"),
    ({"speakers": {"A": {"name": "a\nb"}}}, "invalid-input"),
    ({"id": "x" * 300}, "invalid-input"),
    ({"id": "a\nb"}, "invalid-input"),
    ({"upload": "talk.wav"}, "invalid-input"),
    ({"libary": "radio"}, "invalid-input"),
    ({"recorded_at": 2**70}, "invalid-input"),
]


def test_what_does_not_fit_is_refused_and_nothing_is_written(api: Api) -> None:
    talk = api.file("talk")
    for wrong, code in WRONG:
        body = json.dumps(given(talk) | wrong).encode()
        api.refused("POST", "/v1/recordings", 422, code, content=body, headers={"Content-Type": "application/json"})
    assert api.ok("GET", "/v1/recordings")["items"] == []
    assert api.events() == []


def test_sound_that_cannot_be_read_is_refused(api: Api) -> None:
    for name, content in (("noise.wav", b"RIFF" + b"\xff" * 5000), ("empty.mp3", b""), ("text.flac", b"hello")):
        (api.media / name).write_bytes(content)
        api.refused("POST", "/v1/recordings", 422, "media-unreadable", json=given(api.media / name))


def test_turns_are_read_in_pages_and_replaced(api: Api) -> None:
    turns = [{"start": n * 0.1, "end": n * 0.1 + 0.1, "speaker": "AB"[n % 2]} for n in range(30)]
    made = api.ok("POST", "/v1/recordings", json=given(api.file("talk"), turns=turns))
    where, found, cursor = f"/v1/recordings/{made['id']}/turns", [], None
    while True:
        page = api.ok("GET", where, params={"limit": 7} | ({} if cursor is None else {"cursor": cursor}))
        found += page["items"]
        if (cursor := page["next"]) is None:
            break
    assert [(t["number"], t["speaker"]) for t in found] == [(n, "AB"[n % 2]) for n in range(30)]
    version = api.client.get(where).headers["etag"]
    changed = api.client.put(where, json={"turns": TURNS[:1]}, headers={"If-Match": version})
    assert changed.json()["labels"] == {"A": made["labels"]["A"]}
    assert changed.json()["content_version"] == 2
    assert changed.headers["etag"] != version
    api.refused("PUT", where, 412, "version-conflict", json={"turns": TURNS}, headers={"If-Match": version})
    assert len(api.ok("GET", where)["items"]) == 1


def test_a_recording_gets_another_file_and_a_date(api: Api) -> None:
    made = api.ok("POST", "/v1/recordings", json=given(api.file("talk")))
    where = f"/v1/recordings/{made['id']}"
    dated = api.ok("PATCH", where, json={"recorded_at": 1_700_000_000_000_000, "why": "it stands on the tape"})
    assert (dated["recorded_at"], dated["content_version"]) == (1_700_000_000_000_000, 1)
    other = api.file("better", (1, 2))
    moved = api.ok("PATCH", where, json={"path": str(other)})
    assert (moved["path"], moved["recorded_at"]) == (str(other), dated["recorded_at"])
    assert moved["labels"] == made["labels"]
    api.refused("PATCH", where, 422, "invalid-input", json={})
    api.refused("PATCH", "/v1/recordings/nobody", 404, "not-found", json={"recorded_at": 1})
    api.add("memory")
    api.refused("PATCH", "/v1/recordings/memory", 422, "invalid-input", json={"turns": TURNS})


def test_of_two_who_change_what_they_read_one_wins(api: Api) -> None:
    made = api.ok("POST", "/v1/recordings", json=given(api.file("talk")))
    where = f"/v1/recordings/{made['id']}/turns"
    version = api.client.get(where).headers["etag"]
    barrier = threading.Barrier(6)
    answers: list[int] = []

    def change(number: int) -> None:
        turns = [{"start": 0, "end": 1 + number / 10, "speaker": "A"}]
        barrier.wait()
        answers.append(api.client.put(where, json={"turns": turns}, headers={"If-Match": version}).status_code)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [412] * 5
    assert len(api.events("recording-changed")) == 1


def test_a_recording_is_removed_with_its_voices(api: Api) -> None:
    made = api.ok("POST", "/v1/recordings", json=given(api.file("talk")))
    api.db.work()
    where = f"/v1/recordings/{made['id']}"
    would = api.ok("DELETE", where, params={"dry_run": True})
    assert would == {"removed": False, "id": made["id"], "speakers": 2, "upload_removed": False}
    api.refused("DELETE", where, 412, "version-conflict", headers={"If-Match": '"1-1"'})
    assert api.ok("DELETE", where, params={"why": "asked for"})["removed"] is True
    api.refused("GET", where, 404, "not-found")
    api.refused("DELETE", where, 404, "not-found")
    assert Path(made["path"]).exists()
    assert [(e["kind"], e["why"]) for e in api.events()] == [("recording-removed", "asked for")]
    api.db.work()
    invariants.check(api.db)


class TestUploads:
    def test_a_file_is_sent_and_becomes_a_recording(self, api: Api) -> None:
        sound = api.file("talk").read_bytes()
        sent = api.client.put("/v1/uploads/talk.wav", content=sound)
        digest = hashlib.sha256(sound).hexdigest()
        expected = {"name": "talk.wav", "size": len(sound), "sha256": digest, "used": False}
        assert (sent.status_code, sent.json()) == (201, expected)
        assert api.client.put("/v1/uploads/talk.wav", content=sound).status_code == 200
        api.refused("PUT", "/v1/uploads/talk.wav", 409, "already-exists", content=sound + b"x")
        made = api.ok("POST", "/v1/recordings", json=given(upload="talk.wav", id="talk"))
        assert made["path"] == str(api.db.settings.uploads_folder.resolve() / "talk.wav")
        assert api.ok("GET", "/v1/uploads")["items"] == [expected | {"sha256": None, "used": True}]
        api.refused("DELETE", "/v1/uploads/talk.wav", 409, "conflict")
        api.db.work()
        assert api.ok("DELETE", "/v1/recordings/talk")["upload_removed"] is True
        assert api.ok("GET", "/v1/uploads")["items"] == []
        assert list(api.db.settings.uploads_folder.iterdir()) == []

    def test_a_file_that_two_recordings_have_stays_for_the_other(self, api: Api) -> None:
        api.client.put("/v1/uploads/talk.wav", content=api.file("talk").read_bytes())
        for name in ("one", "two"):
            api.ok("POST", "/v1/recordings", json=given(upload="talk.wav", id=name))
        assert api.ok("DELETE", "/v1/recordings/one")["upload_removed"] is False
        assert api.ok("DELETE", "/v1/recordings/two")["upload_removed"] is True

    def test_an_unused_one_is_removed_and_lists_come_in_pages(self, api: Api) -> None:
        for number in range(5):
            assert api.client.put(f"/v1/uploads/f{number}.bin", content=b"x" * (number + 1)).status_code == 201
        first = api.ok("GET", "/v1/uploads", params={"limit": 3})
        rest = api.ok("GET", "/v1/uploads", params={"limit": 3, "cursor": first["next"]})
        assert [each["name"] for each in first["items"] + rest["items"]] == [f"f{n}.bin" for n in range(5)]
        assert rest["next"] is None
        assert api.ok("DELETE", "/v1/uploads/f0.bin")["size"] == 1
        api.refused("DELETE", "/v1/uploads/f0.bin", 404, "not-found")

    def test_a_name_brings_no_path_with_it(self, api: Api) -> None:
        for name in (
            "..", "../x", "..%2Fx", "%2e%2e%2fx", "a%2Fb", ".hidden", ".partial-x", "a b", "a%00b", "ä", "x" * 201,
            "a\\b", "%5c",
        ):  # fmt: skip
            answer = api.client.put(f"/v1/uploads/{name}", content=b"x")
            assert answer.status_code in (400, 404, 405, 422), (name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert api.client.post("/v1/recordings", json=given(upload=name)).status_code in (404, 422)
        folder = api.db.settings.uploads_folder
        assert not folder.exists() or list(folder.iterdir()) == []

    def test_a_large_and_an_empty_one_leave_nothing(self, make_api: Callable[..., Api]) -> None:
        api = make_api(upload_mb=0.1)
        api.refused("PUT", "/v1/uploads/a.wav", 413, "too-large", content=b"x" * 200_000)
        api.refused("PUT", "/v1/uploads/a.wav", 413, "too-large", content=_pieces(b"x" * 1000, 200))
        api.refused("PUT", "/v1/uploads/a.wav", 422, "invalid-input", content=b"")
        assert list(api.db.settings.uploads_folder.iterdir()) == []

    def test_a_full_disk_is_told_before_anything_comes(self, make_api: Callable[..., Api]) -> None:
        api = make_api(settings={"disk_floor_mb": 10**9})
        api.refused("PUT", "/v1/uploads/a.wav", 503, "storage-full", content=b"x")
        assert list(api.db.settings.uploads_folder.iterdir()) == []

    def test_what_a_dead_process_left_is_cleared(self, make_api: Callable[..., Api], tmp_path: Path) -> None:
        folder = tmp_path / "library" / "uploads"
        folder.mkdir(parents=True)
        for name, age in (("old", 3 * 86400), ("fresh", 0)):
            (folder / f".partial-{name}").write_bytes(b"x")
            then = (folder / f".partial-{name}").stat().st_mtime - age
            os.utime(folder / f".partial-{name}", (then, then))
        make_api()
        assert [each.name for each in folder.iterdir()] == [".partial-fresh"]


def _pieces(piece: bytes, count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield piece


def test_a_creation_that_asks_the_diarizer_for_something_else_is_another_one(api: Api) -> None:
    body = {"id": "talk", "path": str(api.file("talk")), "diarize": {"num_speakers": 2}}
    assert api.client.post("/v1/recordings", json=body).status_code == 201
    assert api.client.post("/v1/recordings", json=body | {"why": "again"}).status_code == 200
    for other in ({"num_speakers": 3}, {}, {"num_speakers": 2, "channels": "as-speakers"}):
        api.refused("POST", "/v1/recordings", 409, "already-exists", json=body | {"diarize": other})


def test_a_date_is_given_without_looking_at_the_file(api: Api) -> None:
    file = api.file("talk")
    made = api.ok("POST", "/v1/recordings", json=given(file, id="talk"))
    api.db.work()
    file.write_bytes(api.file("other", (3, 4)).read_bytes())  # nobody has accepted that yet
    told = api.ok("PATCH", "/v1/recordings/talk", json={"recorded_at": 7, "why": "from the label"})
    assert (told["recorded_at"], told["content_version"]) == (7, made["content_version"])
    assert api.ok("POST", "/v1/media/check", json={})["report"]["states"] == {"changed": 1}
    file.unlink()
    assert api.ok("PATCH", "/v1/recordings/talk", json={"recorded_at": 8})["recorded_at"] == 8
    (first, second) = api.events("recording-changed")
    assert (first["data"]["recorded_at"], first["why"], second["data"]["recorded_at"]) == (7, "from the label", 8)


def test_turns_alone_do_not_accept_another_file(api: Api) -> None:
    file = api.file("talk")
    api.ok("POST", "/v1/recordings", json=given(file, id="talk"))
    file.write_bytes(api.file("other", (3, 4)).read_bytes())
    turns = {"turns": [TURNS[0], TURNS[1] | {"end": 3.5}]}
    api.refused("PUT", "/v1/recordings/talk/turns", 422, "media-changed", json=turns)
    assert api.ok("GET", "/v1/recordings/talk")["content_version"] == 1
    assert api.ok("PATCH", "/v1/recordings/talk", json=turns | {"path": str(file)})["content_version"] == 2
