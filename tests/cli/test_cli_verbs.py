"""Every verb: it parses, it asks the service what was meant, and with --json it prints one document."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

from speakerdb.cli.main import app
from speakerdb.people.splitting import Choice
from speakerdb.reports.seeing import EventFilter
from speakerdb.types import Kind
from tests.cli.conftest import CommandLine

# What each verb needs beside --json; a verb that is missing here fails `test_every_verb_is_listed`.
VERBS: dict[str, list[str]] = {
    "add": ["one.wav", "--turns", "turns.rttm"],
    "remove": ["rec-1", "--yes"],
    "work": [],
    "match": ["--speaker", "spk-1"],
    "status": [],
    "events": [],
    "explain": ["spk-1"],
    "plot": ["speech"],
    "migrate start": ["--to", "v4"],
    "migrate status": [],
    "migrate finalize": ["--yes"],
    "migrate rollback": ["--yes"],
    "migrate pause": ["--why", "lunch"],
    "migrate resume": [],
    "migrate retry": ["--code", "media-missing"],
    "migrate waive": ["--why", "lost for good", "--code", "media-missing"],
    "migrate cancel": ["--yes"],
    "migrate retire": ["--purge", "--yes"],
    "speakers list": [],
    "speakers show": ["spk-1"],
    "speakers rename": ["spk-1", "Ada"],
    "speakers assign": ["spk-1", "pro-1"],
    "speakers unassign": ["spk-1"],
    "speakers split": ["spk-1", "--turns", "1"],
    "profiles list": [],
    "profiles show": ["pro-1"],
    "profiles delete": ["pro-1", "--yes"],
    "profiles create": ["Ada"],
    "profiles rename": ["pro-1", "Ada"],
    "profiles merge": ["pro-1", "pro-2"],
    "undo": ["--yes"],
    "recordings list": [],
    "db upgrade": [],
    "index rebuild": ["v4"],
}


def commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All verbs of the Typer app with their commands."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


@pytest.fixture(autouse=True)
def _turns(rttm: Any) -> None:
    rttm("one")


def test_every_verb_is_listed() -> None:
    assert set(VERBS) <= {name for name, _ in commands()}, "and test_every_verb.py runs all of them"


@pytest.mark.parametrize("verb", [name for name, _ in commands()])
def test_every_verb_takes_json_and_explains_itself(verb: str, cli: CommandLine) -> None:
    command = dict(commands())[verb]
    assert any("--json" in p.opts for p in command.params)
    for parameter in command.params:
        assert parameter.name == "help" or parameter.help, f"{verb}: {parameter.name} has no help"
    shown = cli(*verb.split(), "--help")
    assert shown.exit_code == 0
    assert "--json" in shown.out


@pytest.mark.parametrize("verb", VERBS)
def test_json_is_one_document(verb: str, cli: CommandLine) -> None:
    ran = cli(*verb.split(), *VERBS[verb], "--json")
    assert ran.exit_code == 0, ran.err
    json.loads(ran.out)


@pytest.mark.parametrize("verb", VERBS)
def test_text_says_something(verb: str, cli: CommandLine) -> None:
    ran = cli(*verb.split(), *VERBS[verb])
    assert ran.exit_code == 0, ran.err
    assert ran.out.strip()
    assert not ran.out.startswith("{")


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_library_prints_does_not_spoil_the_document(
    verb: str, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speakerdb.cli import session

    real = session.open_service

    def noisy(settings: Any) -> Any:
        print("loading")
        return real(settings)

    monkeypatch.setattr(session, "open_service", noisy)
    ran = cli(*verb.split(), *VERBS[verb], "--json")
    json.loads(ran.out)
    assert verb == "db upgrade" or "loading" in ran.err


def test_the_service_is_closed(cli: CommandLine) -> None:
    cli("status")
    assert cli.db.named("close")


def test_global_options_reach_the_settings(cli: CommandLine, tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('serving = "v3"\n')
    assert cli("--data-dir", tmp_path / "elsewhere", "--config", config, "status").exit_code == 0
    assert cli.settings[0].data_dir == tmp_path / "elsewhere"
    assert cli.settings[0].serving == "v3"


@pytest.mark.parametrize(
    ("verb", "call", "args", "kwargs"),
    [
        ("work --limit 3 --retry", "work", (), {"limit": 3, "forever": False, "retry": True}),
        ("work --forever", "work", (), {"limit": None, "forever": True, "retry": False}),
        ("migrate rollback --now --yes", "rollback", (), {"now": True}),
        ("migrate retire --yes", "retire", (), {"purge": False}),
        ("migrate retry --recording r1 --library tv", "retry", (),
         {"code": None, "recording": "r1", "library": "tv", "listed": None, "why": None}),
        ("migrate waive --why gone --recording r1", "waive", (),
         {"why": "gone", "code": None, "recording": "r1", "library": None, "listed": None}),
        ("migrate pause --why lunch", "pause", ("lunch",), {}),
        ("speakers rename spk-1 --clear", "rename_speaker", ("spk-1", None), {"why": None}),
        ("speakers assign spk-1 pro-1", "assign", ("spk-1", "pro-1"), {"why": None}),
        ("speakers assign spk-1 --name Ada --create --why so", "assign_by_name", ("spk-1", "Ada"),
         {"create": True, "why": "so"}),
        ("speakers unassign spk-1", "assign", ("spk-1", None), {"why": None}),
        ("speakers show spk-1 --turns 5", "speaker", ("spk-1",), {"turns": 5}),
        ("speakers split spk-1 --from 2 --to 9 --label B --dry-run", "split", ("spk-1", Choice(None, 2.0, 9.0)),
         {"label": "B", "why": None, "dry_run": True}),
        ("speakers list --recording r1 --limit 2", "speakers", (),
         {"recording": "r1", "profile": None, "library_name": None, "unnamed": False, "name": None, "limit": 2}),
        ("profiles create Ada --library tv", "create_profile", ("Ada",), {"library_name": "tv", "why": None}),
        ("profiles show p1 --rows 3", "profile", ("p1",), {"rows": 3}),
        ("profiles delete p1 --yes --why gone", "delete_profile", ("p1",), {"why": "gone"}),
        ("undo --event 7 --yes", "undo", (7,), {"why": None, "dry_run": False}),
        ("profiles merge a b", "merge_profiles", ("a", "b"), {"why": None}),
        ("recordings list --library tv", "recordings", (), {"library": "tv", "limit": None}),
        ("events --limit 5", "events", (EventFilter(),), {"limit": 5}),
        ("index rebuild v4", "rebuild_index", ("v4",), {"serve": False}),
    ],
)  # fmt: skip
def test_the_service_is_asked_for_what_was_meant(
    verb: str, call: str, args: tuple[Any, ...], kwargs: dict[str, Any], cli: CommandLine
) -> None:
    assert cli(*verb.split()).exit_code == 0
    assert cli.db.named(call) == [(args, kwargs)]


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_match_reads_a_vector(suffix: str, cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / f"voice{suffix}"
    if suffix == ".npy":
        np.save(path, np.array([0.6, 0.8]))
    else:
        path.write_text("[0.6, 0.8]")
    assert cli("match", "--vector", path, "-k", 3, "--kind", "profile", "--same-recording").exit_code == 0
    ((_, asked),) = cli.db.named("match")
    np.testing.assert_allclose(asked["vector"], np.array([0.6, 0.8], dtype=np.float32))
    assert (asked["k"], asked["kind"], asked["same_recording"]) == (3, Kind.PROFILE, True)


@pytest.mark.parametrize("content", ["[[1, 2]]", '["a"]', "{}", "nothing", "[NaN]"])
def test_match_refuses_what_is_no_vector(content: str, cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "voice.json"
    path.write_text(content)
    ran = cli("match", "--vector", path, "--json")
    assert ran.exit_code == 4
    assert ran.json["error"]["code"] == "invalid-input"


def test_match_refuses_a_pickle(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "voice.npy"
    np.save(path, np.array([object()], dtype=object), allow_pickle=True)
    assert cli("match", "--vector", path).exit_code == 4


@pytest.mark.parametrize("args", [[], ["--speaker", "a", "--profile", "b"]])
def test_match_asks_about_one_thing(args: list[str], cli: CommandLine) -> None:
    assert cli("match", *args).exit_code == 4
    assert not cli.db.calls


def test_match_shows_how_it_was_decided(cli: CommandLine) -> None:
    out = cli("match", "--speaker", "spk-1").out
    for word in ("v3", "serving", "accept", "far above the runner-up", "Ada", "two.wav", "SPEAKER_01", "spk-9", "0.91"):
        assert word in out


def test_names_are_text_and_never_markup(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    import cli_fake

    hostile = replace(cli_fake.SPEAKER, name="[red]Ada[/red] \x1b[31m")
    monkeypatch.setattr(cli_fake, "SPEAKER", hostile)
    out = cli("speakers", "list").out
    assert "[red]Ada[/red]" in out
    assert "\x1b" not in out


def test_help_imports_neither_torch_nor_sqlalchemy() -> None:
    import subprocess

    verbs = [[], *(name.split() for name, _ in commands()), ["migrate"], ["--version"]]
    code = (
        "import sys, speakerdb.cli.main as m\n"
        f"for verb in {verbs!r}: assert m.main([*verb, '--help']) == 0\n"
        "heavy = {'torch', 'sqlalchemy', 'alembic', 'pyannote', 'av', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
