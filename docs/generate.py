"""Writes the pages of `docs/reference/` from the code: `make reference`. With `--check` it only says which are not current.

What the code knows (verbs, settings, errors, events, a manifest's fields) is never typed by hand. What a reader needs besides
stands in `docs/templates/`: one page each with a line `{{ name }}` where a generated part goes, and `verbs.md` with the notes
of single verbs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from typer.main import get_command

from speakerdb import errors, events
from speakerdb.api import app, health, problems, progress
from speakerdb.cli import main as door
from speakerdb.cli import output
from speakerdb.core.manifest import MAX_LINE_BYTES, SUFFIXES, manifest_schema
from speakerdb.errors import SpeakerDBError
from speakerdb.generations import V3, V4
from speakerdb.settings import TOKEN_VARIABLES, GenerationSettings, Settings
from speakerdb.types import Generation

DOCS = Path(__file__).resolve().parent
TEMPLATES = DOCS / "templates"
REFERENCE = DOCS / "reference"
_PLACE = re.compile(r"^\{\{ ([a-z_]+) \}\}$", re.MULTILINE)


def one_line(text: str) -> str:
    """Text for a table's cell."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(map(one_line, row))} |" for row in rows)])


# Commands


def verbs(command: Any | None = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every verb as it is typed, with its command."""
    for name, inner in (command or get_command(door.app)).commands.items():
        words = f"{path} {name}".strip()
        if getattr(inner, "commands", None):
            yield from verbs(inner, words)
        elif not inner.hidden:
            yield words, inner


def _metavar(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar).removeprefix("[").removesuffix("]")
    if parameter.param_type_name == "argument":
        return str(parameter.name.upper())
    names = {Path: "PATH", int: "N", float: "NUMBER"}
    return names.get(parameter.type_descriptor.annotation, parameter.name.upper().rpartition("_")[2])


def _names(parameter: Any) -> str:
    """`--long VALUE`, `-s`: the long name first."""
    first, *others = sorted((*parameter.opts, *parameter.secondary_opts), key=lambda name: not name.startswith("--"))
    shown = first if parameter.is_flag else f"{first} {_metavar(parameter)}"
    return ", ".join(f"`{name}`" for name in (shown, *others))


def _help(parameter: Any) -> str:
    """A parameter's help, with its choices where the help does not name them."""
    text = str(parameter.help or "")
    kind = parameter.type_descriptor.annotation
    choices = [str(member.value) for member in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []
    named = all(choice in text for choice in choices)
    return text if named else f"{text} One of {', '.join(f'`{choice}`' for choice in choices)}."


def _option(parameter: Any) -> tuple[str, str]:
    text = _help(parameter)
    default = getattr(parameter.default, "value", parameter.default)
    if parameter.required:
        text += " Required."
    elif not parameter.is_flag and default not in (None, "", (), []):
        text += f" Default: `{default}`."
    return _names(parameter), text


def _usage(words: str, command: Any) -> str:
    pieces = ["speakerdb", words]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = _metavar(parameter)
            name = name if parameter.nargs == 1 or name.endswith("...") else f"{name}..."
            pieces.append(name if parameter.required else f"[{name}]")
    options = [p for p in command.params if p.param_type_name == "option"]
    pieces += [f"{p.opts[0]} {_metavar(p)}" for p in options if p.required]
    if any(not p.required and p.name != "as_json" for p in options):
        pieces.append("[OPTIONS]")
    return " ".join(pieces)


def verb_notes() -> Mapping[str, str]:
    """What is said about a verb beyond its help, by verb."""
    pieces = re.split(r"^## (.+)\n", (TEMPLATES / "verbs.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {verb.strip(): text.strip() for verb, text in zip(pieces[::2], pieces[1::2], strict=True)}


def _paragraphs(text: str) -> str:
    """A help text as Markdown: lines of a paragraph are joined, lists stay."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(p if re.match(r"\s*[-*] ", p) else one_line(p).replace("\\|", "|") for p in paragraphs)


def render_verbs() -> str:
    notes, found = verb_notes(), dict(verbs())
    if unknown := set(notes) - set(found):
        raise SystemExit(f"docs/templates/verbs.md: there is no verb {', '.join(sorted(unknown))}")
    parts = []
    for words, command in found.items():
        parts += [f"## speakerdb {words}", _paragraphs(command.help or "")]
        parts.append(f"```text\n{_usage(words, command)}\n```")
        if words in notes:
            parts.append(notes[words])
        arguments = [p for p in command.params if p.param_type_name == "argument" and p.help]
        if arguments:
            parts.append(table(("argument", "meaning"), ((f"`{_metavar(p)}`", _help(p)) for p in arguments)))
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "as_json" and not p.hidden]
        if options:
            parts.append(table(("option", "meaning"), map(_option, options)))
    return "\n\n".join(parts)


def render_global_options() -> str:
    options = [_option(p) for p in get_command(door.app).params if p.param_type_name == "option"]
    verb = next(command for _, command in verbs())
    as_json = next(p for p in verb.params if p.name == "as_json")
    rows = [(names, f"{text} Stands before the verb.") for names, text in options if "--help" not in names]
    rows.append(("`--help`, `-h`", "Print the help, of the program or of a verb."))
    rows.append(
        (_names(as_json), f"{as_json.help} Progress and questions go to standard error. Stands after the verb.")
    )
    return table(("option", "meaning"), rows)


# Errors


def error_classes() -> list[type[SpeakerDBError]]:
    """The tree, each family after its head, in the order of the module."""
    found: list[type[SpeakerDBError]] = []

    def walk(cls: type[SpeakerDBError]) -> None:
        found.append(cls)
        for below in cls.__subclasses__():
            if below.__module__.startswith(errors.__name__):
                walk(below)

    walk(SpeakerDBError)
    return found


def _meaning(cls: type[SpeakerDBError]) -> str:
    """The first paragraph of a class's docstring, which is the error's explanation."""
    return (cls.__doc__ or "").partition("\n\n")[0].replace("``", "`")


def render_exit_status() -> str:
    statuses: dict[int, list[type[SpeakerDBError]]] = {}
    for cls in error_classes():
        statuses.setdefault(cls.exit_code, []).append(cls)
    rows = [("0", "Done.", "")]
    for status, classes in sorted(statuses.items()):
        rows.append((str(status), _meaning(classes[0]), ", ".join(f"`{cls.code}`" for cls in classes)))
    also = {
        door.USAGE_EXIT: "The command line itself is wrong.",
        output.INTERNAL_EXIT: "A bug in speakerdb.",
        door.IO_EXIT: "The system refused to read or write a file.",
        door.INTERRUPTED_EXIT: "Interrupted by Ctrl-C.",
    }
    names = {door.USAGE_EXIT: "usage", output.INTERNAL_EXIT: "internal", door.IO_EXIT: "io"}
    for status, text in also.items():
        code = f"`{names.get(status, 'interrupted')}`"
        known = next((n for n, row in enumerate(rows) if row[0] == str(status)), None)
        if known is None:
            rows.append((str(status), text, code))
        else:
            rows[known] = (rows[known][0], f"{one_line(rows[known][1])} Or: {text}", f"{rows[known][2]}, {code}")
    rows.append(("128 + N", "Stopped by signal N after the current step (143 for SIGTERM).", ""))
    return table(("status", "meaning", "codes"), rows)


def render_errors() -> str:
    rows = (
        (
            f"`{cls.code}`",
            str(cls.exit_code),
            str(cls.http_status),
            "yes" if cls.transient else "no",
            cls.scope,
            _meaning(cls),
            cls.default_hint,
        )
        for cls in error_classes()
    )
    return table(("code", "exit", "HTTP", "again", "reach", "what it means", "what to do"), rows)


# The HTTP API

NO_ROUTE: Mapping[str, str] = {
    "work": "`serve` does it by itself; a process without jobs leaves it to one that has them.",
    "serve": "It is what answers.",
    "plot": "A picture is a file on the machine of whoever looks at it; its numbers are in `/v1/status` and `/v1/profiles`.",
    "backup": "It writes a file on the machine of the database.",
    "restore": "It needs the library alone, and nobody may be answered meanwhile.",
    "doctor": "It looks at the machine; `/v1/ready` and `/v1/status` say how the service and the library are.",
    "support-bundle": "It collects what lies on the machine, to be looked at before it leaves it.",
    "demo": "It makes a library of its own.",
    "db upgrade": "The schema is brought up to date before anything answers.",
    "index import": "It is done once, by whoever knows the other application's index.",
    "index adopt": "It takes another application's index over, and asks on a terminal.",
    "diarize": "It reads files of a machine and writes beside them, without a library.",
    "diarize evaluate": "It compares two files of a machine, without a library.",
    "recipe list": "It shows settings, which a service reads when it starts.",
    "recipe show": "It shows settings, which a service reads when it starts.",
    "recipe try": "It embeds for minutes with a model of its own, for whoever decides about a generation, at the console.",
    "models list": "Models lie on a machine; each replica has its own.",
    "models fetch": "It downloads to a machine.",
    "models verify": "It reads files of a machine.",
    "models pack": "It writes files of a machine.",
    "models install": "It installs on a machine what was carried there: a model is a program.",
    "models calibrate": "It makes a file on a machine, with minutes of work, for whoever decides about a generation.",
    "models clear": "It removes files of a machine.",
}
"""Verbs that have no route, and why."""


def api_routes() -> list[tuple[str, Any]]:
    """Every route with its address."""
    return [(app.PREFIX + one.path, one) for noun in app.NOUNS for one in noun.declared] + [
        (one.path, one) for one in health.outside.declared
    ]


def _shown_route(path: str, route: Any) -> str:
    return f"`{route.method} {path}`"


def _answer(route: Any) -> str:
    """The status of success."""
    status = str(route.options.get("status_code") or 200)
    return f"{status}, 202" if 202 in route.options.get("responses", {}) else status


def render_routes() -> str:
    rows = []
    for words, _ in verbs():
        for path, route in api_routes():
            if words in route.options["openapi_extra"]["x-verbs"]:
                role = route.options["openapi_extra"]["x-role"]
                rows.append((f"`{words}`", _shown_route(path, route), role, _answer(route), _summary(route)))
    return table(("verb", "route", "role", "answer", "what it does"), rows)


def render_more_routes() -> str:
    rows = [
        (_shown_route(path, route), route.options["openapi_extra"]["x-role"], _answer(route), _summary(route))
        for path, route in api_routes()
        if not route.options["openapi_extra"]["x-verbs"]
    ]
    rows.append((f"`WebSocket {progress.SOCKET}`", "reader", "101", one_line(_first_sentence(progress.add_socket))))
    return table(("route", "role", "answer", "what it does"), rows)


def _summary(route: Any) -> str:
    return _first_sentence(route.endpoint)


def _first_sentence(function: Any) -> str:
    text = one_line(function.__doc__ or "").replace("\\|", "|")
    return re.split(r"(?<=[.?])\s", text)[0]


def render_verbs_without_route() -> str:
    return table(("verb", "why"), ((f"`{words}`", NO_ROUTE[words]) for words, _ in verbs() if words in NO_ROUTE))


def render_codes() -> str:
    rows = [(f"`{cls.code}`", str(cls.exit_code), str(cls.http_status)) for cls in error_classes()]
    own = {"usage": door.USAGE_EXIT, "internal": output.INTERNAL_EXIT, "io": door.IO_EXIT}
    own["interrupted"] = door.INTERRUPTED_EXIT
    rows += [(f"`{code}`", str(exit_), "500" if code == "internal" else "") for code, exit_ in own.items()]
    rows += [(f"`{code}`", "", str(one.status)) for code, one in problems.OWN.items() if code not in own]
    return table(("code", "exit status", "HTTP status"), rows)


def render_api_codes() -> str:
    rows = ((f"`{code}`", str(one.status), one.title, one.hint) for code, one in problems.OWN.items())
    return table(("code", "HTTP", "what it means", "what to do"), rows)


# Events


def render_events() -> str:
    return table(("kind", "what happened"), ((f"`{kind}`", text) for kind, text in events.KINDS.items()))


# Settings


def settings_fields(model: type[BaseModel] = Settings, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting by its dotted name; those of a table inside come one by one."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings_fields(kind, f"{above}{name}.")
        else:
            yield above + name, field


def variable(name: str) -> str:
    suffix = "__NAME__FIELD" if name == "generations" else ""
    return f"SPEAKERDB_{name.upper().replace('.', '__')}{suffix}"


def _default(name: str, field: FieldInfo) -> str:
    if name == "data_dir":
        return "`~/.local/share/speakerdb`"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    if value == "":
        return "empty"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value) if isinstance(value, bool | list | dict) else value}`"


def _limits(field: FieldInfo) -> str:
    """What a value must be, in words: its choices and its bounds."""
    choices = (
        [f"`{choice}`" for choice in get_args(field.annotation)] if get_origin(field.annotation) is Literal else []
    )
    named = all(choice in (field.description or "") for choice in choices)
    said = "" if named else f" One of {', '.join(choices)}."
    words = {"ge": "at least {:g}", "gt": "above {:g}", "le": "at most {:g}", "lt": "below {:g}"}
    bounds = [
        words[name].format(value)
        for rule in field.metadata
        for name in words
        if (value := getattr(rule, name, None)) is not None
    ]
    secret = SecretStr in (field.annotation, *get_args(field.annotation))
    said += " A secret: never printed or logged." if secret else ""
    return said + (f" {', '.join(bounds).capitalize()}." if bounds else "")


def render_settings() -> str:
    rows = (
        (f"`{name}`", f"`{variable(name)}`", _default(name, field), f"{field.description or ''}{_limits(field)}")
        for name, field in settings_fields()
    )
    return table(("setting", "variable", "default", "meaning"), rows)


def _built_in(generation: Generation, field: str) -> str:
    model, point, recipe = generation.model, generation.operating_point, generation.recipe
    if field in ("revision", "sha256"):
        return "none" if getattr(model, field) is None else "pinned"
    values: dict[str, object] = {
        "model": model.id,
        "recipe": recipe.name,
        "budget_seconds": f"{recipe.budget_seconds:g}",
        "sources": json.dumps(list(model.sources)),
    }
    if field in ("accept", "candidate", "margin"):
        values[field] = f"{getattr(point, field):.2f}"
    value = values.get(field, getattr(model, field, None))
    return "none" if value is None else f"`{value}`"


def render_generations() -> str:
    rows = (
        (f"`{name}`", _built_in(V3, name), _built_in(V4, name), field.description or "")
        for name, field in GenerationSettings.model_fields.items()
    )
    return table(("field", V3.name, V4.name, "meaning"), rows)


def render_token_variables() -> str:
    return ", ".join(f"`{name}`" for name in TOKEN_VARIABLES)


# Manifests


def _schema_type(field: Mapping[str, Any]) -> tuple[str, str]:
    """A column's type in words, and its limits."""
    inner = next((kind for kind in field.get("anyOf", []) if kind.get("type") != "null"), field)
    words = {"array": "list", "date-time": "time"}
    kind = str(inner.get("format") or inner.get("type"))
    limit = f" At most {inner['maxLength']:,} characters." if "maxLength" in inner else ""
    return words.get(kind, kind), limit


def _schema_table(schema: Mapping[str, Any], first: str) -> str:
    rows = []
    for name, field in schema["properties"].items():
        kind, limit = _schema_type(field)
        needed = "yes" if name in schema.get("required", []) else "no"
        rows.append((f"`{name}`", kind, needed, f"{field['description']}{limit}"))
    return table((first, "type", "required", "meaning"), rows)


def render_manifest() -> str:
    return _schema_table(manifest_schema(), "column")


def render_manifest_speaker() -> str:
    (speaker,) = manifest_schema()["$defs"].values()
    return _schema_table(speaker, "key")


def render_manifest_limits() -> str:
    *most, last = (f"`{suffix}`" for suffix in SUFFIXES)
    endings = f"{', '.join(most)} or {last}"
    return f"The text is UTF-8, and the file ends in {endings}. A line (in CSV: a row) has at most {MAX_LINE_BYTES >> 20} MiB."


PARTS: Mapping[str, Callable[[], str]] = {
    "verbs": render_verbs,
    "global_options": render_global_options,
    "exit_status": render_exit_status,
    "errors": render_errors,
    "events": render_events,
    "routes": render_routes,
    "more_routes": render_more_routes,
    "verbs_without_route": render_verbs_without_route,
    "codes": render_codes,
    "api_codes": render_api_codes,
    "settings": render_settings,
    "generations": render_generations,
    "token_variables": render_token_variables,
    "manifest": render_manifest,
    "manifest_speaker": render_manifest_speaker,
    "manifest_limits": render_manifest_limits,
}
HEADER = "<!-- Generated by `make reference` from the code and docs/templates/{name}: change those. -->\n\n"


def pages() -> Mapping[Path, str]:
    """What each file of the reference should hold."""
    found = {}
    for template in sorted(TEMPLATES.glob("*.md")):
        if template.name == "verbs.md":
            continue
        body = _PLACE.sub(lambda place: PARTS[place[1]](), template.read_text(encoding="utf-8"))
        if "{{" in body:
            raise SystemExit(f"{template}: a place for a generated part stands on a line of its own")
        found[REFERENCE / template.name] = HEADER.format(name=template.name) + body.rstrip() + "\n"
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **manifest_schema()}
    found[REFERENCE / "manifest.schema.json"] = json.dumps(schema, indent=2) + "\n"
    return found


def outdated() -> list[Path]:
    """Files of the reference that are not what the code gives, and files that nothing gives."""
    wanted = pages()
    there = {path for path in REFERENCE.iterdir() if path.is_file()}
    wrong = {path for path, text in wanted.items() if path not in there or path.read_text(encoding="utf-8") != text}
    return sorted(wrong | (there - set(wanted)))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/reference/ from the code.")
    parser.add_argument("--check", action="store_true", help="Write nothing; exit status 1 if a page is not current.")
    if parser.parse_args().check:
        for path in (wrong := outdated()):
            print(f"{path.relative_to(DOCS.parent)} is not current: run `make reference`", file=sys.stderr)
        return bool(wrong)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
