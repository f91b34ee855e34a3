"""The reference pages say everything that exists, and nothing that does not.

They are generated (`docs/generate.py`); what is asked of them here is asked without that module, of the code itself.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints
from xml.etree import ElementTree

import pytest
from pydantic import BaseModel
from typer.main import get_command

from speakerdb import errors, events, projector
from speakerdb.catalog.work import MAX_ATTEMPTS
from speakerdb.cli import main as door
from speakerdb.cli import output
from speakerdb.core.lifecycle import State
from speakerdb.core.manifest import MAX_LINE_BYTES, ManifestEntry, SpeakerEntry, manifest_schema
from speakerdb.core.selection import REASONS
from speakerdb.core.texts import MAX_ID_LENGTH, MAX_NAME_LENGTH
from speakerdb.core.turns import END_TOLERANCE_SECONDS
from speakerdb.errors import SpeakerDBError
from speakerdb.extraction.extract import NO_FINITE_VECTOR
from speakerdb.generations import V3, V4
from speakerdb.ingest.entries import MAX_SPEAKERS, MAX_TURNS
from speakerdb.ingest.turns_files import MAX_TURNS_FILE_BYTES
from speakerdb.matcher import CLIP_SECONDS
from speakerdb.models.sources import MAX_BYTES
from speakerdb.reports import MatchResult
from speakerdb.settings import TOKEN_VARIABLES, GenerationSettings, Settings
from speakerdb.transcripts import MAX_TRANSCRIPT_BYTES
from tests.docs.pages import ROOT, Page, page, pages

CLI, SETTINGS, ERRORS, EVENTS = (page(f"docs/reference/{name}.md") for name in ("cli", "settings", "errors", "events"))
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")
CODE = re.compile(r"`([^`\n]+)`")
GLOBAL = {"--help", "-h", "--json"}


def _commands() -> dict[str, Any]:
    """Every verb with its command, by name as it is typed; the program itself is ""."""

    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{path} {name}".strip())

    return dict(walk(get_command(door.app), ""))


COMMANDS = _commands()
VERBS = {name: command for name, command in COMMANDS.items() if not getattr(command, "commands", None)}


def _options(command: Any) -> set[str]:
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


# All of it


@pytest.fixture
def generator() -> ModuleType:
    found = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_gives_now(generator: ModuleType) -> None:
    wrong = [path.relative_to(ROOT).as_posix() for path in generator.outdated()]
    assert wrong == [], "run `make reference`, and look at what it changed"


def test_a_page_that_was_edited_by_hand_is_found(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reference").mkdir()
    monkeypatch.setattr(generator, "REFERENCE", tmp_path / "reference")
    for path, text in generator.pages().items():
        path.write_text(text, encoding="utf-8")
    assert generator.outdated() == []
    (tmp_path / "reference" / "more.md").write_text("Nobody generates this.\n", encoding="utf-8")
    with (tmp_path / "reference" / "errors.md").open("a", encoding="utf-8") as errors_page:
        errors_page.write("By hand.\n")
    (tmp_path / "reference" / "events.md").unlink()
    assert [path.name for path in generator.outdated()] == ["errors.md", "events.md", "more.md"]


# Commands


def test_everything_of_the_command_line_says_what_it_is() -> None:
    for name, command in COMMANDS.items():
        assert len(command.help or "") > 10, name
        silent = [p.name for p in command.params if len(p.help or "") < 5 and p.name != "help" and not p.hidden]
        assert silent == [], f"speakerdb {name}: {silent} have no help"


def test_every_verb_has_its_section_and_no_other() -> None:
    documented = {t.removeprefix("speakerdb ") for t in CLI.sections() if t.startswith("speakerdb ")}
    assert documented == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_section_names_every_option_and_argument_of_its_verb_and_no_other(verb: str) -> None:
    command = VERBS[verb]
    body = CLI.sections()[f"speakerdb {verb}"]
    listed = {
        name for line in body.splitlines() if line.startswith("| `-") for name in OPTION.findall(line.split("|")[1])
    }
    assert listed == _options(command) - GLOBAL
    named = {name for code in CODE.findall(body) for name in OPTION.findall(code) if not code.startswith("speakerdb ")}
    assert named <= _options(command) | _options(COMMANDS[""]) | GLOBAL
    usage = next(line for line in body.splitlines() if line.startswith("speakerdb "))
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            assert (parameter.metavar or parameter.name.upper()) in usage
        elif parameter.required:
            assert parameter.opts[0] in usage


def test_defaults_are_said() -> None:
    for verb, command in VERBS.items():
        body = CLI.sections()[f"speakerdb {verb}"]
        for parameter in command.params:
            default = getattr(parameter.default, "value", parameter.default)
            if parameter.param_type_name == "option" and not parameter.is_flag and default not in (None, ""):
                row = next(line for line in body.splitlines() if line.startswith("| `") and parameter.opts[-1] in line)
                assert f"Default: `{default}`." in row, f"{verb} {parameter.opts}"


def test_global_options_are_documented() -> None:
    body = CLI.sections()["For every command"]
    listed = {
        name for line in body.splitlines() if line.startswith("| `-") for name in OPTION.findall(line.split("|")[1])
    }
    assert listed == _options(COMMANDS[""]) | GLOBAL
    assert all("--json" in _options(command) for command in VERBS.values())


def _typed(text: str) -> Iterator[str]:
    """The command lines in code: what follows the program's name, up to where the shell ends it."""
    for found in re.finditer(r"(?<![\w/.-])speakerdb(?: [^\n`|;#)…]*)?", text):
        words = found.group().strip()
        if words != "speakerdb":
            yield words.removeprefix("speakerdb ").split(" and ")[0].strip(" .,")


@pytest.mark.parametrize("shown", pages(), ids=lambda shown: shown.name)
def test_every_command_line_that_is_shown_exists(shown: Page) -> None:
    spans = [b.code for b in shown.blocks() if b.info == "bash"] + CODE.findall(shown.prose)
    for line in (line for span in spans for line in _typed(span)):
        words = line.split()
        if words[0] == "VERB" or words[0] in _options(COMMANDS[""]) | GLOBAL:
            continue
        verb = next((" ".join(words[:n]) for n in (3, 2, 1) if " ".join(words[:n]) in VERBS), None)
        assert verb is not None, f"{shown.name}: there is no command `speakerdb {line}`"
        assert set(OPTION.findall(line)) <= _options(VERBS[verb]) | GLOBAL, f"{shown.name}: `speakerdb {line}`"


# Settings


def _cells(body: str) -> dict[str, list[str]]:
    rows = [[c.strip() for c in line.strip()[1:-1].split("|")] for line in body.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row for row in rows}


def _fields(model: type[BaseModel] = Settings, above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{name}.")
        else:
            yield above + name, field


FIELDS = dict(_fields())


def _shown_default(name: str) -> str:
    if name == "data_dir":
        return "`~/.local/share/speakerdb`"
    value = FIELDS[name].get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return {(): "`[]`", "": "empty"}.get(value, f"`{value}`") if not isinstance(value, dict) else "`{}`"


def _variable(name: str) -> str:
    return f"SPEAKERDB_{name.upper().replace('.', '__')}"


def test_every_setting_is_documented_with_its_variable_and_default() -> None:
    rows = _cells(SETTINGS.sections()["All settings"])
    assert set(rows) == set(FIELDS)
    for name, row in rows.items():
        assert row[1].strip("`").startswith(_variable(name))
        assert row[2] == _shown_default(name), name
        assert len(row[3]) > 20
        assert len(FIELDS[name].description or "") > 20, name


def test_every_field_of_a_generation_is_documented_with_its_built_in_values() -> None:
    rows = _cells(SETTINGS.sections()["Generations"])
    assert set(rows) == set(GenerationSettings.model_fields)
    assert all(len(field.description or "") > 10 for field in GenerationSettings.model_fields.values())
    for column, generation in ((1, V3), (2, V4)):
        for name in ("family", "architecture", "dimension"):
            assert rows[name][column] == f"`{getattr(generation.model, name)}`"
        assert rows["model"][column] == f"`{generation.model.id}`"
        assert rows["sha256"][column] == ("none" if generation.model.sha256 is None else "pinned")
        for name in ("accept", "candidate", "margin"):
            assert rows[name][column] == f"`{getattr(generation.operating_point, name):.2f}`"
        assert rows["recipe"][column] == f"`{generation.recipe.name}`"
        assert rows["budget_seconds"][column] == f"`{generation.recipe.budget_seconds:g}`"


def test_every_variable_that_a_page_names_exists() -> None:
    known = {_variable(name) for name in FIELDS} | {"SPEAKERDB_CONFIG"}
    fields = "|".join(name.upper() for name in GenerationSettings.model_fields)
    nested = re.compile(rf"SPEAKERDB_GENERATIONS__[A-Z0-9]+__({fields}|FIELD)")
    for shown in pages():
        for name in re.findall(r"SPEAKERDB_[A-Z0-9_]*[A-Z0-9]", shown.text):
            assert name in known or nested.fullmatch(name), f"{shown.name}: {name}"
    assert all(name in SETTINGS.text for name in TOKEN_VARIABLES)


# Errors


def _classes() -> Iterator[type[SpeakerDBError]]:
    waiting: list[type[SpeakerDBError]] = [SpeakerDBError]
    while waiting:
        kind = waiting.pop()
        yield kind
        waiting.extend(k for k in kind.__subclasses__() if k.__module__.startswith(errors.__name__))


def test_every_error_code_is_documented_as_it_is() -> None:
    rows = _cells(ERRORS.sections()["All codes"])
    classes = {kind.code: kind for kind in _classes()}
    assert set(rows) == set(classes)
    for code, kind in classes.items():
        again = "yes" if kind.transient else "no"
        assert rows[code][1:5] == [str(kind.exit_code), str(kind.http_status), again, kind.scope], code
        assert all(len(text) > 10 for text in rows[code][5:7]), code
        assert kind.default_hint, f"{code}: say what to do where nobody knows better"


def test_codes_of_the_command_line_alone_are_documented() -> None:
    rows = _cells(ERRORS.sections()["Codes of the command line alone"])
    exits = {"usage": door.USAGE_EXIT, "internal": output.INTERNAL_EXIT, "io": door.IO_EXIT}
    exits["interrupted"] = door.INTERRUPTED_EXIT
    assert {code: int(row[1]) for code, row in rows.items()} == exits


def test_every_exit_status_is_in_the_table_of_the_commands() -> None:
    lines = CLI.sections()["Exit status"].splitlines()
    listed = {int(line.split("|")[1]) for line in lines if re.match(r"\| \d+ \|", line)}
    own = {door.USAGE_EXIT, output.INTERNAL_EXIT, door.IO_EXIT, door.INTERRUPTED_EXIT}
    assert listed == {0} | own | {kind.exit_code for kind in _classes()}


def test_every_reason_without_an_embedding_is_documented() -> None:
    rows = _cells(ERRORS.sections()["Unembeddable: a result and not an error"])
    known = {*REASONS, NO_FINITE_VECTOR, projector.NO_MEMBERS, projector.MEMBERS_CANCEL}
    assert set(rows) == known


# Events


def test_every_kind_of_event_is_documented() -> None:
    rows = _cells(EVENTS.sections()["Kinds"])
    assert set(rows) == set(events.KINDS)
    assert all(len(row[1]) > 15 for row in rows.values())


def test_every_event_that_is_written_is_a_registered_kind() -> None:
    written = set()
    for path in (ROOT / "speakerdb").rglob("*.py"):
        written |= set(re.findall(r'journal\.record\(\s*\w+,\s*"([a-z-]+)"', path.read_text(encoding="utf-8")))
    assert len(written) > 5
    assert written <= set(events.KINDS)


# Manifests


def test_every_column_of_a_manifest_is_documented() -> None:
    body = page("docs/reference/manifest.md").sections()
    assert set(_cells(body["Columns"])) == set(ManifestEntry.model_fields)
    assert set(_cells(body["Speakers"])) == set(SpeakerEntry.model_fields)
    schema = json.loads((ROOT / "docs" / "reference" / "manifest.schema.json").read_text(encoding="utf-8"))
    assert {name: schema[name] for name in manifest_schema()} == manifest_schema()


# Concepts and pictures


def _bold(picture: str) -> list[tuple[float, str]]:
    root = ElementTree.fromstring((ROOT / "docs" / "images" / picture).read_text(encoding="utf-8"))  # noqa: S314
    return [
        (float(text.get("y", "0")), text.text or "")
        for text in root.iter("{http://www.w3.org/2000/svg}text")
        if text.get("font-weight") == "bold"
    ]


def _modules() -> set[str]:
    found = {
        p.stem if p.suffix else p.name for p in (ROOT / "speakerdb").iterdir() if not p.name.startswith(("_", "."))
    }
    return found - {"py"}


def test_the_house_shows_every_module_on_its_storey() -> None:
    drawn = _bold("house.svg")
    assert {name for _, name in drawn} == _modules()
    storeys: dict[float, set[str]] = {}
    for height, name in drawn:
        if name != "testing":  # stands beside the house
            storeys.setdefault(height, set()).add(name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    there = [{n.strip(" ()") for n in layer.split("|")} & _modules() for layer in layers]
    assert [storeys[height] for height in sorted(storeys)] == [
        layer for layer in there if layer and layer != {"testing"}
    ]


def test_the_picture_of_a_migration_shows_every_state() -> None:
    assert {name for _, name in _bold("migration.svg")} == {state.value for state in State}


def test_every_field_and_decision_of_an_answer_is_explained() -> None:
    body = page("docs/concepts.md").sections()["What an answer means"]
    hints = get_type_hints(MatchResult)
    for literal in ("decision", "path"):
        words = get_args(hints[literal])
        assert words
        assert all(f"`{word}`" in body for word in words)
    for name in ("decision", "reason", "margin", "generation", "index", "path", "speech_seconds"):
        assert name in hints
        assert f"`{name}`" in body


def test_the_gates_that_are_explained_are_those_that_are_measured() -> None:
    source = (ROOT / "speakerdb" / "migrator" / "gates.py").read_text(encoding="utf-8")
    measured = set(re.findall(r'Check\(\s*"([a-z-]+)"', source))
    explained = set(re.findall(r"- \*([a-z-]+)\*:", page("docs/concepts.md").text))
    assert explained == measured


def test_the_limits_in_the_fine_print_are_those_of_the_code() -> None:
    rows = [line.split("|")[1:4] for line in page("docs/fine-print.md").sections()["Limits"].splitlines()]
    said = {
        what.strip(): (limit.strip(), beyond.strip()) for what, limit, beyond in (row for row in rows if len(row) == 3)
    }
    mebi = 1024**2
    limits = {
        "an id of yours": f"{MAX_ID_LENGTH} ",
        "a name": f"{MAX_NAME_LENGTH:,} ",
        "turns in one recording": f"{MAX_TURNS:,}",
        "speakers in one recording": f"{MAX_SPEAKERS:,}",
        "a file of turns": f"{MAX_TURNS_FILE_BYTES // mebi} MiB",
        "a transcript": f"{MAX_TRANSCRIPT_BYTES // mebi} MiB",
        "a line of a manifest": f"{MAX_LINE_BYTES // mebi} MiB",
        "a turn that ends after its recording": f"{END_TOLERANCE_SECONDS:g} s ",
        "speech used of a speaker, for each recording and generation": f"{V4.recipe.budget_seconds:g} s ",
        "a clip that is asked about": f"its first {CLIP_SECONDS / 60:g} minutes",
        "time for one recording": f"{Settings.model_fields['recording_timeout'].default:g} s ",
        "attempts, where trying again can help": f"{MAX_ATTEMPTS}",
        "a checkpoint": f"{MAX_BYTES // 1024**3} GiB",
    }
    for what, limit in limits.items():
        assert said[what][0].startswith(limit), what
    codes = {kind.code for kind in _classes()}
    beyond = {code for _, text in said.values() for code in CODE.findall(text)}
    assert len(beyond) > 5
    assert beyond <= codes
