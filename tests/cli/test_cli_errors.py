"""How commands end: exit codes, what is printed on errors, confirmations, stops."""

from __future__ import annotations

import errno
import io
import os
import signal
from dataclasses import replace
from typing import Any

import cli_fake
import pytest

from speakerdb import errors
from speakerdb.cli.output import exit_code_of
from tests.cli.conftest import CommandLine


def every_error(root: type[errors.SpeakerDBError] = errors.SpeakerDBError) -> list[type[errors.SpeakerDBError]]:
    return [
        root,
        *(e for c in root.__subclasses__() if c.__module__.startswith(errors.__name__) for e in every_error(c)),
    ]


@pytest.mark.parametrize("error", every_error())
def test_an_error_becomes_its_exit_code_message_and_hint(error: type[errors.SpeakerDBError], cli: CommandLine) -> None:
    cli.db.raises["status"] = error("It went wrong.", hint="Do this.", thing=3)
    ran = cli("status")
    assert ran.exit_code == error.exit_code
    assert ran.err == f"error[{error.code}]: It went wrong.\nnext: Do this.\n"
    assert ran.out == ""
    ran = cli("status", "--json")
    assert ran.exit_code == error.exit_code
    assert ran.json == {
        "error": {
            "code": error.code, "message": "It went wrong.", "hint": "Do this.", "details": {"thing": 3},
            "exit_code": error.exit_code,
        }
    }  # fmt: skip
    assert exit_code_of(error.code) == error.exit_code


def test_an_unknown_code_of_a_failed_item_is_still_a_failure() -> None:
    assert exit_code_of("from-the-future") == 1


def test_verbose_shows_the_chain(cli: CommandLine) -> None:
    failure = errors.IndexUnavailable("The index does not answer.")
    failure.__cause__ = ConnectionResetError("reset by peer")
    cli.db.raises["status"] = failure
    assert "reset by peer" not in cli("status").err
    shown = cli("--verbose", "status").err
    assert "reset by peer" in shown
    assert "Traceback" in shown


def test_an_unexpected_exception_is_internal(cli: CommandLine) -> None:
    cli.db.raises["status"] = ZeroDivisionError("oops")
    ran = cli("status")
    assert ran.exit_code == 70
    assert "error[internal]: ZeroDivisionError: oops" in ran.err
    assert "bug in speakerdb" in ran.err
    assert "Traceback" not in ran.err
    assert cli("status", "--json").json["error"]["code"] == "internal"


def test_interrupt_is_130(cli: CommandLine) -> None:
    cli.db.raises["status"] = KeyboardInterrupt()
    assert cli("status").exit_code == 130
    assert cli("status", "--json").json["error"]["exit_code"] == 130


@pytest.mark.parametrize(("number", "code", "exit_code"), [(errno.ENOSPC, "storage-full", 8), (errno.EACCES, "io", 74)])
def test_an_operating_system_error_is_no_bug(number: int, code: str, exit_code: int, cli: CommandLine) -> None:
    cli.db.raises["status"] = OSError(number, os.strerror(number), "/there")
    ran = cli("status", "--json")
    assert (ran.json["error"]["code"], ran.exit_code) == (code, exit_code)
    assert "/there" in ran.json["error"]["message"]


@pytest.mark.parametrize(
    "args", [["nonsense"], ["match", "-k", "0", "--speaker", "a"], ["remove"], ["status", "--nonsense"], ["migrate"]]
)
def test_usage_errors_exit_with_2(args: list[str], cli: CommandLine) -> None:
    ran = cli(*args)
    assert ran.exit_code == 2
    assert "Traceback" not in ran.err
    assert not cli.db.calls


def test_usage_errors_are_json_too(cli: CommandLine) -> None:
    ran = cli("remove", "--json")
    assert ran.json["error"]["code"] == "usage"
    assert "speakerdb remove --help" in ran.json["error"]["hint"]


def test_a_missing_settings_file_is_said(cli: CommandLine) -> None:
    ran = cli("--config", "nowhere.toml", "status")
    assert (ran.exit_code, "nowhere.toml" in ran.err) == (2, True)


def test_a_malformed_settings_file_is_said(cli: CommandLine, tmp_path: Any) -> None:
    (tmp_path / "bad.toml").write_text("serving = \n")
    ran = cli("--config", "bad.toml", "status")
    assert ran.exit_code == 2
    assert "error[configuration]" in ran.err


DESTRUCTIVE = ["migrate finalize", "migrate rollback", "migrate cancel", "migrate retire"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends that a person at a terminal answers."""

    def say(text: str) -> Terminal:
        shown = Terminal()
        monkeypatch.setattr("sys.stdin", Terminal(text))
        monkeypatch.setattr("sys.stderr", shown)
        return shown

    return say


@pytest.mark.parametrize("verb", DESTRUCTIVE)
def test_without_a_terminal_nothing_is_done(verb: str, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    cli.db.current = cli_fake.MIGRATION
    ran = cli(*verb.split())
    assert ran.exit_code == 12
    assert "--yes" in ran.err
    assert not cli.db.named(verb.split()[1])


@pytest.mark.parametrize("verb", DESTRUCTIVE)
@pytest.mark.parametrize(("text", "done"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_a_person_is_asked(verb: str, text: str, done: bool, cli: CommandLine, answer: Any) -> None:
    cli.db.current = cli_fake.MIGRATION
    shown = answer(text)
    ran = cli(*verb.split())
    assert "[y/N]" in shown.getvalue()
    assert bool(cli.db.named(verb.split()[1])) is done
    assert ran.exit_code == (0 if done else 12)


@pytest.mark.parametrize("verb", DESTRUCTIVE)
def test_asking_about_no_migration(verb: str, cli: CommandLine) -> None:
    ran = cli(*verb.split(), "--json")
    assert ran.json["error"]["code"] == "no-migration"


def test_gates_are_shown_before_the_question(cli: CommandLine, answer: Any) -> None:
    cli.db.current, cli.db.gates = cli_fake.MIGRATION, cli_fake.REFUSED
    shown = answer("n\n")
    out = cli("migrate", "finalize").out
    assert "5 of 6" in out
    assert "Not all gates pass" in shown.getvalue()


def test_a_refused_finalize_prints_the_gates(cli: CommandLine) -> None:
    cli.db.raises["finalize"] = errors.GateFailed("coverage does not pass.", report=cli_fake.REFUSED)
    ran = cli("migrate", "finalize", "--yes")
    assert ran.exit_code == 10
    for word in ("coverage", "5 of 6", "fail", "migrate retry"):
        assert word in ran.out
    assert "error[gate-failed]" in ran.err
    ran = cli("migrate", "finalize", "--yes", "--json")
    assert ran.json["error"]["details"]["report"]["checks"][0]["verdict"] == "fail"


def test_a_failed_preflight_starts_nothing(cli: CommandLine) -> None:
    checks = (replace(cli_fake.PREFLIGHT.checks[0], verdict="fail"),)
    cli.db.ready = replace(cli_fake.PREFLIGHT, checks=checks)
    ran = cli("migrate", "start", "--to", "v4")
    assert ran.exit_code == 11
    assert "2.00 hours" in ran.out
    assert not cli.db.named("start_migration")
    assert cli("migrate", "start", "--to", "v4", "--dry-run").exit_code == 11
    assert cli("migrate", "start", "--to", "v4", "--force").exit_code == 12
    assert cli("migrate", "start", "--to", "v4", "--force", "--yes").exit_code == 0
    assert cli.db.named("start_migration") == [(("v4",), {"force": True})]


def test_a_dry_run_only_looks(cli: CommandLine) -> None:
    ran = cli("migrate", "start", "--to", "v4", "--dry-run", "--json")
    assert ran.json["preflight"]["recordings"] == 4
    assert not cli.db.named("start_migration")
    assert not cli.db.named("work")


def test_detach_leaves_the_work(cli: CommandLine) -> None:
    ran = cli("migrate", "start", "--to", "v4", "--detach", "--json")
    assert ran.json["work"] is None
    assert ran.json["migration"]["id"] == 7
    assert cli.db.named("start_migration")
    assert not cli.db.named("work")


def test_start_continues_a_running_migration(cli: CommandLine) -> None:
    cli.db.current = cli_fake.MIGRATION
    ran = cli("migrate", "start", "--to", "v4")
    assert ran.exit_code == 0
    assert "continues" in ran.err
    assert "migrate finalize" in ran.out
    assert not cli.db.named("start_migration")
    assert cli.db.named("work")


def test_start_to_another_target_is_left_to_the_service(cli: CommandLine) -> None:
    cli.db.current = cli_fake.MIGRATION
    cli.db.raises["start_migration"] = errors.MigrationActive("v3 to v4 is running.")
    assert cli("migrate", "start", "--to", "v5").exit_code == 5


def test_failed_recordings_give_their_exit_code(cli: CommandLine) -> None:
    cli.db.report = replace(cli_fake.WORK, recordings_failed=1, errors=(cli_fake.FAILED,))
    ran = cli("work")
    assert ran.exit_code == errors.MediaMissing.exit_code
    assert "media-missing" in ran.out
    assert cli("work", "--json").json["errors"][0]["recording_id"] == "rec-4"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_after_the_step(name: str, cli: CommandLine) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    cli.db.during_work = lambda: signal.raise_signal(number)
    ran = cli("migrate", "start", "--to", "v4", "--json")
    assert ran.exit_code == 128 + number
    assert ran.json["work"]["stopped"] == "stopped"
    assert "speakerdb migrate start --to v4" in ran.err
    assert signal.getsignal(number) is before


def test_a_second_interrupt_does_not_wait(cli: CommandLine) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    cli.db.during_work = twice
    assert cli("work").exit_code == 130
