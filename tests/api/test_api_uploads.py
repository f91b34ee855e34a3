"""Uploaded files: who sent and removed them is told, and none is taken from under a recording."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from api_kit import TURNS, Api, tokens

from speakerdb.api import uploads
from speakerdb.errors import DatabaseUnavailable
from speakerdb.reports.access import Role


def test_who_sent_and_removed_a_file_is_in_the_trail_and_its_name_is_not(api: Api) -> None:
    key = tokens(api)[Role.OPERATOR] | {"X-Why": "by mistake"}
    for _ in range(2):
        assert api.client.put("/v1/uploads/ada.wav", content=b"four", headers=key).status_code < 300
    assert api.client.delete("/v1/uploads/ada.wav", headers=key).status_code == 200
    found = api.events("file-uploaded", "upload-removed")
    assert [(e["kind"], e["who"], e["why"], e["data"]["size"]) for e in found] == [
        ("file-uploaded", "operator-1", "by mistake", 4), ("upload-removed", "operator-1", "by mistake", 4),
    ]  # fmt: skip
    assert all(str(event["source"]).startswith("api ") for event in found)
    assert "ada" not in str(found)


def test_a_file_that_is_removed_while_it_is_looked_at_becomes_no_recording(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.client.put("/v1/uploads/talk.wav", content=api.file("talk").read_bytes())
    plain = api.db.ingest._look

    def looked(*given: Any) -> Any:
        found = plain(*given)
        assert uploads.remove_unused(api.db, "talk.wav")
        return found

    monkeypatch.setattr(api.db.ingest, "_look", looked)
    body = {"id": "talk", "upload": "talk.wav", "turns": TURNS}
    api.refused("POST", "/v1/recordings", 404, "not-found", json=body)
    api.refused("GET", "/v1/recordings/talk", 404, "not-found")


def test_a_disk_that_fills_up_at_the_end_is_told_as_one(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = uploads._begin

    class Full:
        def __init__(self, file: Any) -> None:
            self.file, self.name = file, file.name

        def write(self, piece: bytes) -> None:
            """It fits into the buffer."""

        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self) -> None:
            self.file.close()

    monkeypatch.setattr(uploads, "_begin", lambda *given: Full(begin(*given)))
    api.refused("PUT", "/v1/uploads/talk.wav", 503, "storage-full", content=b"x")
    assert list(api.db.settings.uploads_folder.iterdir()) == []


def test_a_file_that_goes_while_they_are_listed_is_left_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        api.client.put(f"/v1/uploads/{name}", content=b"x")
    plain = uploads._size

    def size(path: Path) -> int:
        if path.name == "a":
            path.unlink()
        return plain(path)

    monkeypatch.setattr(uploads, "_size", size)
    assert [each["name"] for each in api.ok("GET", "/v1/uploads")["items"]] == ["b"]


def _uploaded(api: Api, name: str, recording: str) -> Path:
    """A file that was sent, and a recording that has it; where it lies."""
    file = api.file(name)
    assert api.client.put(f"/v1/uploads/{name}.wav", content=file.read_bytes()).status_code == 201
    api.ok("POST", "/v1/recordings", json={"id": recording, "upload": f"{name}.wav", "turns": TURNS})
    return api.db.settings.uploads_folder / f"{name}.wav"


def test_an_uploaded_file_goes_with_its_last_recording_by_any_door(api: Api) -> None:
    file = _uploaded(api, "talk", "talk")
    api.ok("POST", "/v1/recordings", json={"id": "again", "library": "b", "upload": "talk.wav", "turns": TURNS})
    api.db.remove("talk")
    assert file.exists()
    api.db.remove("again")
    assert not file.exists()


def test_the_file_that_a_recording_has_when_it_is_removed_goes_with_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    _uploaded(api, "talk", "talk")
    other = api.file("other", (3, 4))
    api.client.put("/v1/uploads/other.wav", content=other.read_bytes())
    plain = api.db.ingest.recording

    def found(given: str) -> Any:
        seen = plain(given)
        monkeypatch.setattr(api.db.ingest, "recording", plain)
        api.ok("PATCH", "/v1/recordings/talk", json={"upload": "other.wav"})
        return seen

    monkeypatch.setattr(api.db.ingest, "recording", found)
    assert api.ok("DELETE", "/v1/recordings/talk")["upload_removed"] is True
    assert not (api.db.settings.uploads_folder / "other.wav").exists()


def test_a_file_whose_event_cannot_be_written_is_not_taken(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = uploads.journal.record

    def away(*given: Any, **more: Any) -> None:
        raise DatabaseUnavailable("The database does not answer.")

    monkeypatch.setattr(uploads.journal, "record", away)
    api.refused("PUT", "/v1/uploads/talk.wav", 503, "database-unavailable", content=b"four")
    monkeypatch.setattr(uploads.journal, "record", plain)
    assert api.client.put("/v1/uploads/talk.wav", content=b"four").status_code == 201
    (event,) = api.events("file-uploaded")
    assert event["data"]["size"] == 4


def test_a_file_that_goes_while_it_is_compared_is_taken_anew(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sent", "removed"):
        api.client.put(f"/v1/uploads/{name}.wav", content=b"four")
    plain = uploads._size

    def gone(path: Path) -> int:
        monkeypatch.setattr(uploads, "_size", plain)
        path.unlink()  # as another client removes it
        return plain(path)

    monkeypatch.setattr(uploads, "_size", gone)
    assert api.client.put("/v1/uploads/sent.wav", content=b"four").status_code == 201
    assert (api.db.settings.uploads_folder / "sent.wav").read_bytes() == b"four"
    monkeypatch.setattr(uploads, "_size", gone)
    api.refused("DELETE", "/v1/uploads/removed.wav", 404, "not-found")
