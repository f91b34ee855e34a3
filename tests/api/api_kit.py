"""A library behind HTTP, in this process: without tokens as the user of this machine, or with a token of each role."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient
from synthetic_voices import make_recording

from speakerdb.reports.access import Role
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence, two_voices

LOCAL = ("127.0.0.1", 50000)
TURNS = [{"start": 0.0, "end": 2.0, "speaker": "A"}, {"start": 2.0, "end": 4.0, "speaker": "B"}]


@dataclass
class Api:
    """A library and what asks it."""

    db: SpeakerDB
    client: TestClient
    media: Path

    def ok(self, method: str, path: str, **given: Any) -> Any:
        """The JSON of an answer that is no error."""
        answer = self.client.request(method, path, **given)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        return answer.json()

    def refused(self, method: str, path: str, status: int, code: str, **given: Any) -> dict[str, Any]:
        """The problem of an answer that is one."""
        answer = self.client.request(method, path, **given)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), (method, path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == status
        assert problem["instance"] == answer.headers["x-request-id"]
        assert problem["title"]
        assert problem["hint"]
        return dict(problem)

    def add(self, name: str, **more: Any) -> str:
        """A recording in memory with two voices; its id."""
        return self.db.add(None, two_voices(), recording_id=name, waveform=silence(20), **more).recording_id

    def file(self, name: str, voices: tuple[int, int] = (1, 2)) -> Path:
        """A sound file of two voices below the media root, that fits `TURNS`."""
        made = make_recording(self.media, name, [("A", voices[0], 2.0), ("B", voices[1], 2.0)])
        made.path.with_suffix(".rttm").unlink(missing_ok=True)
        return made.path

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Events, the oldest first."""
        return [event for event in self.db.events(limit=10_000)[::-1] if not kinds or event["kind"] in kinds]


def tokens(api: Api) -> dict[Role, dict[str, str]]:
    """Headers with a token of each role; from now on nobody gets in without one."""
    made = {role: api.db.access.create(f"{role.value}-1", role) for role in Role}
    return {role: {"Authorization": f"Bearer {one.secret}"} for role, one in made.items()}
