"""The page that a person with a failure opens: everything that can fail is on it, and what it names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from speakerdb.cli import main as door
from speakerdb.errors import SpeakerDBError
from tests.docs.pages import page

PAGE = page("docs/how-to/troubleshooting.md")


def codes(cls: type[SpeakerDBError] = SpeakerDBError) -> Iterator[str]:
    yield cls.code
    for child in cls.__subclasses__():
        yield from codes(child)


def rows() -> list[list[str]]:
    found = [re.split(r"(?<!\\)\s*\|\s*", line.strip("| ")) for line in PAGE.text.splitlines() if line.startswith("| ")]
    return [row for row in found if not row[0].startswith(("message", "code", "-"))]


def test_every_error_code_has_a_row_and_no_row_names_another() -> None:
    section = PAGE.sections()["Every error code"]
    listed = re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)
    assert sorted(listed) == sorted(set(codes()))


def test_every_row_says_what_happened_why_and_what_to_do() -> None:
    assert len(rows()) > 60
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows())


@pytest.mark.parametrize(
    "message",
    [
        "use_auth_token", "@revision", 'Inference("name")', "401", "403", "gated", "Weights only load failed", "torchcodec",
        "ffmpeg not found", "No module named 'pyannote'", "different CUDA versions", "libtorch_cuda.so", "driver",
        "embedding_batch_size", "itertracks", "PYANNOTE_CACHE", "HF_HUB_OFFLINE", "models.offline", "telemetry", "sox",
    ],
)  # fmt: skip
def test_the_failures_of_the_pyannote_upgrade_are_on_it(message: str) -> None:
    assert any(message in " ".join(row) for row in rows())


def test_every_verb_that_it_names_exists() -> None:
    def verbs(command: Any, before: str = "") -> Iterator[str]:
        for name, inner in getattr(command, "commands", {}).items():
            path = f"{before} {name}".strip()
            yield path
            yield from verbs(inner, path)

    known = set(verbs(get_command(door.app)))
    spans = re.findall(r"`speakerdb ([^`\n]+)`", PAGE.text)
    named = [" ".join(re.findall(r"(?<![-A-Z])\b[a-z][a-z-]+\b", re.split(r" -| [A-Z]", span)[0])) for span in spans]
    assert named
    for verb in named:
        assert verb in known or verb.split()[0] in known, verb
