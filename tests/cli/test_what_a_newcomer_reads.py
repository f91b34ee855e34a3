"""What a person is told to do next can be done, and no word of the inside is shown."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from speakerdb import overview
from speakerdb.cli.main import main
from speakerdb.cli.screens import _fact
from speakerdb.cli.show import _ENDS
from speakerdb.migrator import gates
from speakerdb.worker import Stopped


def test_every_end_of_a_run_has_words() -> None:
    assert set(_ENDS) == set(get_args(Stopped))


def test_facts_are_shown_as_a_person_says_them() -> None:
    assert _fact("seconds", 23.0069375) == ("length", "0:00:23")
    assert _fact("content_version", 2) == ("content version", 2)


@pytest.mark.parametrize("module", [gates, overview])
def test_a_hint_to_waive_says_which_ones(module: ModuleType) -> None:
    """`migrate waive --why TEXT` alone is refused, and was what status and gates told people to run."""
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert text.count("migrate waive") == text.count("migrate waive --code CODE --why") > 0


def test_an_empty_library_says_how_to_begin_and_nothing_queued_sends_nobody_to_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path / "data"))
    assert main(["status"]) == 0
    assert "The library is empty. next: speakerdb add" in capsys.readouterr().out
    assert main(["migrate", "retry"]) == 0
    assert capsys.readouterr().out.strip() == "0 recordings queued again."
