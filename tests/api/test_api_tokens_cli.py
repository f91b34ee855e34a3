"""`speakerdb token`: what it prints, and that the events say from where it was done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from speakerdb.cli.main import main
from speakerdb.reports.access import Role
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings


class Shell:
    """The command line on a library of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings = fake_settings(folder)
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        code = main(list(words))
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *words: str) -> Any:
        code, out, err = self.run(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    def library(self) -> SpeakerDB:
        return SpeakerDB.open(self.settings, executor=FakeExecutor())


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    shell = Shell(tmp_path, capsys)
    monkeypatch.setattr("speakerdb.cli.session.open_service", lambda _settings: shell.library())
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path))
    return shell


def test_a_token_is_made_listed_and_revoked(shell: Shell) -> None:
    code, out, _ = shell.run("token", "create", "uploader", "--role", "operator", "--days", "30", "--why", "to upload")
    assert code == 0
    told, secret = out.strip().splitlines()
    assert "operator, until 20" in told
    with shell.library() as db:
        found = db.access.check(secret)
        assert found is not None
        assert (found.name, found.role, found.who) == ("uploader", Role.OPERATOR, db.settings.actor)
    (listed,) = shell.json("token", "list")
    assert (listed["id"], listed["state"]) == (found.id, "valid")
    assert secret not in shell.run("token", "list")[1]
    assert shell.json("token", "revoke", found.id[:10], "--yes", "--why", "lost")["state"] == "revoked"
    with shell.library() as db:
        assert db.access.check(secret) is None
        events = [(e["kind"], e["why"], e["source"]) for e in db.events() if e["entity"] == found.id]
    assert events == [("token-revoked", "lost", "cli"), ("token-created", "to upload", "cli")]


def test_the_secret_is_in_no_log(shell: Shell, tmp_path: Path) -> None:
    secret = shell.json("token", "create", "ci")["secret"]
    assert secret not in (tmp_path / "speakerdb.log").read_text(encoding="utf-8")


def test_what_is_wrong_is_said(shell: Shell) -> None:
    for words, code in (
        (("token", "create", "ci", "--role", "king"), 2), (("token", "create", "ci", "--days", "0"), 2),
        (("token", "create", ""), 4), (("token", "revoke", "nobody", "--yes"), 3), (("token", "revoke", "nobody"), 12),
    ):  # fmt: skip
        assert shell.run(*words)[0] == code, words
    assert shell.json("token", "list") == []
