"""`speakerdb serve` as a command: what it refuses, where it listens, what it writes."""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from serve_kit import Place, wait_for

from speakerdb.cli import serve, session
from speakerdb.cli.logs import JsonLines, TextLines
from speakerdb.cli.main import main
from speakerdb.errors import ConfigurationError
from speakerdb.reports.access import Role
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings
from tests.synthetic_voices import make_recording


@pytest.fixture
def db(tmp_path: Path) -> Any:
    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor()) as opened:
        yield opened


def test_without_jobs_and_api_nothing_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--no-jobs", "--no-api", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "invalid-input"


def test_without_a_token_it_listens_on_this_machine_only_and_says_so(
    db: SpeakerDB, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    with serve._listen(db, said.append, "0.0.0.0", 0) as listener:  # noqa: S104  what is tested
        assert listener.getsockname()[0] == "127.0.0.1"
    assert "speakerdb token create" in said[0]
    assert "loopback-only" in caplog.text
    db.access.create("a", Role.READER)
    said.clear()
    with serve._listen(db, said.append, "0.0.0.0", 0) as listener:  # noqa: S104
        assert listener.getsockname()[0] == "0.0.0.0"  # noqa: S104
    assert said == []


def test_a_port_that_is_taken_is_told_before_anything_begins(db: SpeakerDB) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1, port {port}") as refused:
            serve._listen(db, lambda _text: None, None, port)
    assert "--port" in refused.value.hint


def test_it_says_what_it_does_and_where(db: SpeakerDB) -> None:
    said: list[str] = []
    with serve._listen(db, said.append, None, 0) as listener:
        serve._introduce(db, said.append, jobs=False, listener=listener)
        port = listener.getsockname()[1]
    assert "only answers" in said[0]
    assert f"http://127.0.0.1:{port}/v1" in said[1]
    said.clear()
    serve._introduce(db, said.append, jobs=True, listener=None)
    assert "extracts" in said[0]
    assert said[1] == "It listens nowhere: it only works."


def test_it_waits_for_a_server_that_is_not_there_yet_and_can_be_told_to_end(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    place.more["database_url"] = f"postgresql+psycopg://nobody@127.0.0.1:{port}/nothing"
    process = place.start()
    process.until("waits-to-start", code="database-unavailable")
    wait_for(lambda: process.poll() is None, "that it waits")
    assert process.stop() == 128 + signal.SIGTERM


def test_it_can_be_told_to_end_while_a_server_does_not_answer_at_its_start(place: Place) -> None:
    """Its database or index may answer after minutes, or never: nothing of that is waited for."""
    process = place.start(play="shut")
    wait_for(lambda: (place.folder / "opening").exists(), "that it opens the library")
    assert process.stop() == 128 + signal.SIGTERM
    assert process.logged("opening-left-behind")


def test_a_library_that_is_opened_soon_after_the_signal_is_closed_again(place: Place) -> None:
    process = place.start(play="shut")
    wait_for(lambda: (place.folder / "opening").exists(), "that it opens the library")
    process.send(signal.SIGTERM)
    place.go_on()
    assert process.ended() == 128 + signal.SIGTERM
    assert process.logged("serve-began") is None


def record(template: str, *args: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("speakerdb.test", level, __file__, 1, template, args, None)


def test_a_line_of_json_has_the_event_and_its_fields() -> None:
    line = json.loads(
        JsonLines().format(record("job-failed job=%s code=%s seconds=%.1f ok=%s", "work", "x", 1.25, True))
    )
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "logger": "speakerdb.test", "event": "job-failed", "job": "work", "code": "x", "seconds": 1.25,
        "ok": True,
    }  # fmt: skip


def test_what_is_no_event_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "abcdefghijkl")
    line = json.loads(JsonLines().format(record("Retrying %s with abcdefghijkl", "this")))
    assert line["event"] == "message"
    assert line["text"].startswith("Retrying this with ")
    assert "abcdefghijkl" not in json.dumps(line)
    assert "abcdefghijkl" not in JsonLines().format(record("asked url=%s", "https://a?token=abcdefghijkl"))


def test_a_line_of_text_is_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "abcdefghijkl")
    text = TextLines().format(record("a-thing why=%s", "one\ntwo abcdefghijkl"))
    assert "\n" not in text
    assert "abcdefghijkl" not in text
    assert text.endswith("INFO speakerdb.test a-thing why=one two …") or "a-thing why=one two" in text


def test_every_line_that_the_service_logs_is_an_event_with_fields(repository: Path) -> None:
    """So that no line of JSON needs to be taken apart."""
    import ast

    from speakerdb.cli.logs import _TEMPLATE

    for path in [
        *(repository / "speakerdb" / "scheduler").glob("*.py"),
        *(repository / "speakerdb" / "api").glob("*.py"),
    ] + [repository / "speakerdb" / name for name in ("hooks.py", "metrics.py", "cli/serve.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if getattr(node.func.value, "id", "") == "logger" and node.func.attr != "setLevel":
                template = node.args[1 if node.func.attr == "log" else 0]
                assert isinstance(template, ast.Constant), f"{path.name}:{node.lineno}"
                assert _TEMPLATE.fullmatch(template.value), f"{path.name}:{node.lineno}: {template.value}"
                fields = set(re.findall(r" (\w+)=", template.value))
                assert not fields & {"time", "level", "logger", "event"}, "every line of JSON has these by itself"


def test_verbs_that_queue_something_leave_the_work_to_a_service_that_works(
    db: SpeakerDB, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def open_service(settings: Settings, *, start: bool = True) -> SpeakerDB:
        return SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor(), start=start)

    monkeypatch.setattr(session, "open_service", open_service)
    made = make_recording(tmp_path, "talk", [("A", 1, 2.0), ("B", 2, 2.0)])
    with db.catalog.holding("work"):
        assert main(["add", str(made.path), "--now", "--id", "talk"]) == 0
        assert main(["migrate", "start", "--to", "v4", "--force", "--yes", "--json"]) == 0
        out, err = capsys.readouterr()
        assert "works on the queue, and does this too" in err
        assert json.loads(out[out.index("{") :])["migration"]["state"] == "running"
        assert main(["work"]) == 5, "whoever wants to work himself is told"
    with db.catalog.holding("migration"):
        assert main(["migrate", "finalize", "--yes"]) == 5
