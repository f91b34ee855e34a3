"""The page about the API says everything that exists, and nothing that does not."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from speakerdb import errors
from speakerdb.api import health
from speakerdb.api.app import NOUNS, PREFIX
from speakerdb.api.problems import OWN
from speakerdb.api.progress import SOCKET
from speakerdb.cli import main as door
from speakerdb.cli import output
from speakerdb.errors import SpeakerDBError
from speakerdb.reports.access import Role

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    pieces = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {title.strip(): body for title, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def rows(body: str) -> list[list[str]]:
    lines = [line for line in body.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def verbs(command: Any = None, path: str = "") -> Iterator[str]:
    for name, inner in (command or get_command(door.app)).commands.items():
        words = f"{path} {name}".strip()
        if getattr(inner, "commands", None):
            yield from verbs(inner, words)
        else:
            yield words


VERBS = set(verbs())
ROUTES = {
    f"{one.method} {prefix}{one.path}": one.options["openapi_extra"]
    for prefix, declared in [*((PREFIX, noun.declared) for noun in NOUNS), ("", health.outside.declared)]
    for one in declared
}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    found = importlib.util.spec_from_file_location("generate_reference_of_api", ROOT / "docs" / "generate.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_verb_has_a_route_or_a_reason_why_not(generator: ModuleType) -> None:
    with_route = {verb for extra in ROUTES.values() for verb in extra["x-verbs"]}
    assert with_route <= VERBS, "a route stands for a verb that does not exist"
    assert with_route & set(generator.NO_ROUTE) == set(), "a verb with a route needs no reason"
    assert with_route | set(generator.NO_ROUTE) == VERBS
    assert all(len(reason) > 15 for reason in generator.NO_ROUTE.values())


def test_the_page_shows_every_verb_and_every_route() -> None:
    body = sections(PAGE)
    shown = rows(body["Verbs and routes"])
    assert {(verb, route) for verb, route, *_ in shown} == {
        (verb, route) for route, extra in ROUTES.items() for verb in extra["x-verbs"]
    }
    more = {row[0]: row[1] for row in rows(body["Routes without a verb"])}
    assert set(more) == {route for route, extra in ROUTES.items() if not extra["x-verbs"]} | {f"WebSocket {SOCKET}"}
    for route, role in [*((row[1], row[2]) for row in shown), *more.items()]:
        if not route.startswith("WebSocket"):
            assert role == ROUTES[route]["x-role"], route
    assert {row[0] for row in rows(body["Verbs without a route"])} == VERBS - {row[0] for row in shown}


def test_every_route_says_who_may_and_how_large_its_body_is() -> None:
    for route, extra in ROUTES.items():
        assert extra["x-role"] in {"anyone", *Role}, route
        assert extra["x-body"] in {"none", "json", "turns", "transcript", "upload", "clip"}, route
        assert (extra["x-body"] == "none") == (route.split()[0] in ("GET", "DELETE")), route


def test_codes_stand_side_by_side() -> None:
    known: dict[str, list[str]] = {}
    waiting: list[type[SpeakerDBError]] = [SpeakerDBError]
    while waiting:
        cls = waiting.pop()
        known[cls.code] = [str(cls.exit_code), str(cls.http_status)]
        waiting += [below for below in cls.__subclasses__() if below.__module__.startswith(errors.__name__)]
    known |= {code: ["", str(own.status)] for code, own in OWN.items()}
    known |= {"usage": [str(door.USAGE_EXIT), ""], "io": [str(door.IO_EXIT), ""]}
    known |= {"interrupted": [str(door.INTERRUPTED_EXIT), ""], "internal": [str(output.INTERNAL_EXIT), "500"]}
    assert {row[0]: row[1:] for row in rows(sections(PAGE)["Codes"])} == known
    alone = rows(sections(ERRORS)["Codes of the HTTP API alone"])
    assert {row[0]: row[1] for row in alone} == {code: str(own.status) for code, own in OWN.items()}
    assert all(row[2] and row[3] for row in alone)
