"""Overlaps and statistics on the command line and over HTTP: the same answers, with the roles and refusals of all others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from speakerdb.api.app import create_app
from speakerdb.catalog import talk
from speakerdb.cli import session
from speakerdb.cli.main import main
from speakerdb.core.measures import Heard
from speakerdb.reports import as_json
from speakerdb.reports.access import Role
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence
from speakerdb.types import Turn

TURNS = (
    Turn(0.0, 8.0, "A"), Turn(6.0, 20.0, "B"), Turn(10.0, 11.0, "A"), Turn(12.0, 12.5, "A"), Turn(25.0, 26.0, "A"),
)  # fmt: skip


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SpeakerDB]:
    """Ada and Bob in two recordings, of which one is measured; her names hold what a terminal or an address trips over."""
    with SpeakerDB.open(fake_settings(tmp_path / "library"), executor=FakeExecutor()) as opened:
        people = [opened.create_profile(name).id for name in ("Ada [x]", "Bob")]
        for name in ("one", "two/2"):
            ids = opened.add(None, TURNS, recording_id=name, waveform=silence(30)).speakers
            for label, person in zip("AB", people, strict=True):
                opened.assign(ids[label], person)
            if name == "one":
                own = [Turn(turn.start, turn.end, ids[turn.speaker]) for turn in TURNS]
                heard = {ids["A"]: Heard(-20.0, 120.0, 100.0, 150.0)}
                with opened.catalog.change() as tx:
                    talk.write(tx, name, 1, own, heard=heard, now=opened.catalog.now())
        opened.work()
        yield opened


@pytest.fixture
def run(db: SpeakerDB, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    class Lent:
        def __enter__(self) -> SpeakerDB:
            return db

        def __exit__(self, *_: object) -> None:
            """It is the test's."""

    monkeypatch.setattr(session, "open_service", lambda _: Lent())

    def ran(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(list(args))
        return code, capsys.readouterr().out

    return ran


@pytest.fixture
def client(db: SpeakerDB) -> Iterator[TestClient]:
    with TestClient(create_app(db), base_url="http://localhost", client=("127.0.0.1", 50000)) as made:
        yield made


def who(db: SpeakerDB) -> tuple[str, str]:
    """Ada's profile, and her voice in the measured recording."""
    return (
        next(each.id for each in db.profiles() if each.name == "Ada [x]"),
        next(each.id for each in db.speakers(recording="one") if each.label == "A"),
    )


def test_both_doors_say_the_same(db: SpeakerDB, run: Any, client: TestClient) -> None:
    profile, speaker = who(db)
    for words, address in (
        (("statistics", "speaker", speaker), f"/v1/speakers/{speaker}/statistics"),
        (("statistics", "profile", profile, "--rows", "1"), f"/v1/profiles/{profile}/statistics?rows=1"),
        (("statistics", "library", "default"), "/v1/libraries/default/statistics"),
    ):
        code, out = run(*words, "--json")
        assert code == 0, out
        assert client.get(address).json() == json.loads(out)
    for words, address in (
        (("--recording", "one"), "/v1/recordings/one/overlaps"),
        (("--recording", "two/2", "--least-seconds", "1"), "/v1/recordings/two%2F2/overlaps?least_seconds=1"),
        (("--speaker", speaker), f"/v1/speakers/{speaker}/overlaps"),
    ):
        code, out = run("overlaps", "list", *words, "--json")
        assert code == 0, out
        told, answer = json.loads(out), client.get(address).json()
        assert answer["items"] == told["overlaps"]
        assert {name: answer[name] for name in ("recording_id", "stored", "total", "total_seconds")} == {
            name: told[name] for name in ("recording_id", "stored", "total", "total_seconds")
        }
        assert told["stored"] == ("two/2" not in words)


def test_pages_hold_every_overlap_once(db: SpeakerDB, client: TestClient) -> None:
    found, cursor = [], ""
    for _ in range(10):
        page = client.get(f"/v1/recordings/one/overlaps?limit=2{cursor}").json()
        found += page["items"]
        assert page["total"] == 3
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == as_json(db.statistics.overlaps(recording="one").overlaps)
    assert len(found) == 3


def test_what_a_person_reads(db: SpeakerDB, run: Any) -> None:
    profile, speaker = who(db)
    _, said = run("statistics", "speaker", speaker)
    for part in ("Ada [x]", "120 Hz (100 to 150)", "-20.0 dBFS", "10.5 s"):
        assert part in said
    assert "Nothing is measured" not in said
    _, said = run("statistics", "profile", profile)
    for part in ("2 in 2 recordings", "beside its first appearance", "Of 1 of 2 recordings nothing is measured yet"):
        assert part in said
    _, said = run("statistics", "library")
    for part in ("two or more talk", "Ada [x]", "Bob", "10 to 20 %", "Of 1 of 2 recordings nothing is measured yet"):
        assert part in said
    _, said = run("overlaps", "list", "--recording", "one")
    for part in ("3 overlaps, 3.5 s together.", "duration", "Bob"):
        assert part in said
    _, said = run("overlaps", "list", "--recording", "two/2")
    assert "Nothing is measured yet of this recording" in said
    _, said = run("overlaps", "list", "--recording", "one", "--least-seconds", "100")
    assert "0 overlaps, 0.0 s together." in said


def test_what_is_refused(db: SpeakerDB, run: Any, client: TestClient) -> None:
    for words, code in (
        (("statistics", "speaker", "nobody"), "not-found"),
        (("statistics", "library", "no such"), "not-found"),
        (("overlaps", "list"), "invalid-input"),
        (("overlaps", "list", "--recording", "one", "--speaker", "x"), "invalid-input"),
        (("overlaps", "list", "--recording", "one", "--least-seconds", "-1"), "usage"),
        (("overlaps", "list", "--recording", "one", "--least-seconds", "nan"), "usage"),
    ):
        exit_code, out = run(*words, "--json")
        assert exit_code == json.loads(out)["error"]["exit_code"] != 0
        assert json.loads(out)["error"]["code"] == code
    for address, status in (
        ("/v1/speakers/nobody/statistics", 404),
        ("/v1/libraries/nobody/statistics", 404),
        ("/v1/recordings/nothing/overlaps", 404),
        ("/v1/recordings/one/overlaps?least_seconds=nan", 422),
        ("/v1/recordings/one/overlaps?least_seconds=-1", 422),
        ("/v1/recordings/one/overlaps?cursor=nonsense", 422),
        ("/v1/recordings/one/overlaps?speaker=x", 422),
    ):
        answer = client.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text


def test_a_reader_may_ask_and_a_stranger_may_not(db: SpeakerDB, client: TestClient) -> None:
    secret = db.access.create("reader", Role.READER).secret
    profile, speaker = who(db)
    for address in (
        f"/v1/speakers/{speaker}/statistics", f"/v1/profiles/{profile}/statistics", "/v1/libraries/default/statistics",
        "/v1/recordings/one/overlaps", f"/v1/speakers/{speaker}/overlaps",
    ):  # fmt: skip
        assert client.get(address).status_code == 401
        assert client.get(address, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
