"""The main job through the command line, step by step, as a user types it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance_kit import Shell, Zygote, contents, integrity, prove
from synthetic_voices import make_library, write_settings

from speakerdb.testing.backends import Backend

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as made:
        yield made


@pytest.fixture
def shell(zygote: Zygote, backend: Backend, tmp_path: Path) -> Iterator[Shell]:
    bare = Shell(zygote, tmp_path, tmp_path / "nowhere", write_settings(tmp_path / "speakerdb.toml"))
    made = bare.moved(backend, tmp_path / "library")
    yield made
    backend.remove(made.settings)


def best(answer: dict[str, Any]) -> tuple[str, str]:
    first = answer["matches"][0]
    return Path(first["recording_path"]).stem, first["label"]


def test_a_library_moves_and_moves_back_and_moves_again(shell: Shell, tmp_path: Path) -> None:
    media = tmp_path / "media"
    made = make_library(media, 6, voices=5)
    voices = {(m.stem, label): number for m in made for label, number in m.voices.items()}

    added = shell.ok("add", *(m.path for m in made), "--turns", media / "all.rttm")
    assert [row["error"] for row in added["recordings"]] == [None] * 6
    ids = {
        (Path(row["file"]).stem, label): speaker
        for row in added["recordings"]
        for label, speaker in row["report"]["speakers"].items()
    }
    assert ids.keys() == voices.keys()

    refused = shell("match", "--speaker", ids["talk00", "A"], "--json")
    assert (refused.code, refused.exit_code) == ("not-embedded", 3)

    assert shell.ok("work")["recordings_done"] == 6
    ann = shell.ok("profiles", "create", "Ann")["id"]
    shell.ok("speakers", "assign", ids["talk00", "A"], ann)
    shell.ok("speakers", "assign", ids["talk04", "B"], ann)
    shell.ok("speakers", "rename", ids["talk01", "B"], "Berta")
    shell.ok("work")

    def asked(generation: str) -> None:
        """The voice is found in the other recording that has it, and the person with it."""
        answer = shell.ok("match", "--speaker", ids["talk01", "B"])
        assert (answer["generation"], answer["path"]) == (generation, "serving")
        assert best(answer) == ("talk02", "A")
        assert voices["talk02", "A"] == voices["talk01", "B"]
        person = shell.ok("match", "--speaker", ids["talk05", "A"], "--kind", "profile")
        assert person["matches"][0]["name"] == "Ann"

    def named() -> None:
        shown = {s["id"]: s for s in shell.ok("speakers", "list")}
        assert shown[ids["talk01", "B"]]["name"] == "Berta"
        assert {i for i, s in shown.items() if s["profile_name"] == "Ann"} == {
            ids["talk00", "A"],
            ids["talk04", "B"],
        }

    asked("v3")
    started = shell.ok("migrate", "start", "--to", "v4")
    assert started["preflight"]["checks"]
    assert started["work"]["recordings_done"] == 6
    assert started["migration"]["state"] == "running"
    asked("v3")
    view = shell.ok("migrate", "status")
    assert (view["serving"], view["progress"]["recordings_done"]) == ("v3", 6)

    unasked = shell("migrate", "finalize", "--json")
    assert (unasked.code, unasked.exit_code) == ("not-confirmed", 12)
    done = shell.ok("migrate", "finalize", "--yes")
    assert done["serving"] == "v4"
    assert {c["name"]: c["verdict"] for c in done["gates"]["checks"]} == dict.fromkeys(
        ("coverage", "profiles", "equality", "read-back", "catch-up"), "pass"
    )
    asked("v4")
    named()

    back = shell.ok("migrate", "rollback", "--yes")
    assert (back["serving"], back["source_lag"], back["migration"]["state"]) == ("v3", 0, "rolled_back")
    asked("v3")

    again = shell.ok("migrate", "start", "--to", "v4")
    assert again["work"]["recordings_done"] == 0, "what SQL has is used again"
    assert shell.ok("migrate", "finalize", "--yes")["serving"] == "v4"
    assert shell.ok("migrate", "retire", "--yes")["state"] == "retired"
    asked("v4")
    named()

    status = shell.ok("status")
    assert (status["serving"], status["live"], status["problems"]) == ("v4", ["v4"], [])
    kinds = [event["kind"] for event in shell.ok("events", "--limit", "500")]
    assert kinds.count("migration-finalized") == 2
    assert "migration-retired" in kinds
    held = contents(shell)
    assert list(held["documents"]) == ["speakers_v4"]
    assert len(held["documents"]["speakers_v4"]) == 13, "twelve speakers and a profile"
    integrity(shell)
    prove(shell)
