"""Commands that people are advised to run: whatever somebody called a thing, it stays one word, and an argument."""

from __future__ import annotations

import shlex
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.main import get_command

from speakerdb.cli.main import app
from speakerdb.core.commands import command, option
from speakerdb.core.health import retry_command
from speakerdb.core.standing import Standing, place_of
from speakerdb.core.texts import MAX_ID_LENGTH, flaw
from speakerdb.errors import NamesUnmapped, TooFewVoices
from speakerdb.reports.seeing import WorkState

COMMAND_LINE: Any = get_command(app)

texts = st.text(st.characters() | st.sampled_from("-'\"`$;&|!#~*=\\ "), min_size=1, max_size=20)
ids = texts.filter(lambda id: flaw(id, MAX_ID_LENGTH) is None)


def taken(advised: str) -> dict[str, Any]:
    """What the command line would be given by a shell into which the command is pasted."""
    words = shlex.split(advised)
    assert words.pop(0) == "speakerdb"
    found = COMMAND_LINE
    while hasattr(found, "commands"):
        found = found.commands[words.pop(0)]
    context = found.make_context("speakerdb", words)
    return {name: value for name, value in context.params.items() if value not in (None, False)}


@given(id=ids)
@example("we ird; $(id) [red]")
@example("-x")
@example("--dry-run")
@example("--")
@example("-")
@example("'")
@example("\\")
@example("`id`")
@example("#")
@example("~")
@example("r")
def test_an_id_is_one_word_and_an_argument(id: str) -> None:
    numbers = " --num-speakers 2"
    look = taken(retry_command(NamesUnmapped.code, id, numbers))
    assert (look["recordings"], look["num_speakers"], look["dry_run"]) == ([id], 2, True)
    again = taken(retry_command(TooFewVoices.code, id, numbers))
    assert (again["recordings"], "num_speakers" in again, "dry_run" in again) == ([id], False, False)
    assert taken(command("remove", id))["recording_ids"] == [id]
    assert taken(command("explain", id))["what"] == id
    assert taken(command("assignments keep", id))["recordings"] == [id]
    assert taken(command("assignments list", id))["recording"] == id
    moved = taken(command("media relocate", id, "NEW"))
    assert (str(moved["old"]), str(moved["new"])) == (id, "NEW")
    added = taken(command("add", "FILE", options=option("--id", id) + " --turns TURNS"))
    assert added["recording_id"] == id
    assert taken("speakerdb live clear preference" + option("--library", id))["library"] == id
    for stuck in (_stuck(id, "failed"), _stuck(id, "waived")):
        assert taken(place_of(stuck).command)["recording"] == id


def _stuck(id: str, state: Literal["failed", "waived"]) -> Standing:
    stuck = WorkState(state, "new", 3, "diarization", "It gave up.", None, None, 0)
    return Standing(
        generation="v3", live=True, serving=True, recording_id=id, known=False, current=False, unembeddable=None, work=stuck,
        waiting=None, worked_on=False, file=None,
    )  # fmt: skip


@pytest.mark.parametrize("id", ["r", "rec_01hx", "2024/show-1.wav", "a@b:c"])
def test_an_id_that_no_shell_minds_is_shown_as_it_is(id: str) -> None:
    assert command("rediarize", id, options=" --dry-run") == f"speakerdb rediarize {id} --dry-run"
    assert option("--id", id) == f" --id {id}"
