"""`speakerdb lease list` and `lease break`: what they show, what they ask, what they risk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speakerdb.catalog.catalog import Catalog
from speakerdb.cli.main import main
from speakerdb.errors import LeaseLost
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Catalog]:
    """A process on another machine that works with the library."""
    SpeakerDB.open(fake_settings(tmp_path / "data"), executor=FakeExecutor()).close()
    made = Catalog(f"sqlite:///{tmp_path / 'data' / 'catalog.db'}", locks=tmp_path / "elsewhere")
    yield made
    made.close()


@pytest.fixture
def run(elsewhere: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def open_db(*_: Any, start: bool = True, **__: Any) -> SpeakerDB:
        return SpeakerDB.open(fake_settings(tmp_path / "data"), executor=FakeExecutor(), start=start)

    monkeypatch.setattr("speakerdb.cli.session.open_service", open_db)

    def go(*words: str) -> tuple[int, str, str]:
        code = main(["--data-dir", str(tmp_path / "data"), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return go


def test_the_list_says_who_holds_what(run: Run, elsewhere: Catalog) -> None:
    lease = elsewhere.acquire("work")
    listed = {one["name"]: one for one in json.loads(run("lease", "list", "--json")[1])}
    assert (listed["work"]["state"], listed["work"]["holder"]) == ("held", lease.holder)
    assert listed["work"]["epoch"] == lease.epoch
    assert listed["migration"]["state"] == "free"
    code, out, _ = run("lease", "list")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[2:]] == [["migration", "free"], ["work", "held"]]


def test_breaking_asks_and_says_what_it_risks(run: Run, elsewhere: Catalog) -> None:
    lease = elsewhere.acquire("work")
    code, out, err = run("lease", "break", "work", "--why", "it hangs", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (12, "not-confirmed")
    assert lease.holder.partition("/")[0] in err
    elsewhere.renew(lease)
    code, out, err = run("lease", "break", "work", "--why", "it hangs", "--yes")
    assert code == 0, err
    assert lease.holder in out
    with pytest.raises(LeaseLost):
        elsewhere.renew(lease)
    code, out, _ = run("events", "--kind", "lease-broken", "--json")
    assert [(event["entity"], event["why"]) for event in json.loads(out)] == [("work", "it hangs")]


@pytest.mark.parametrize(("name", "code"), [("work", 3), ("migration", 5)])
def test_what_nobody_holds_is_not_broken(run: Run, name: str, code: int) -> None:
    """Nobody has ever worked here; the alias was given by a process that has ended."""
    found, out, _ = run("lease", "break", name, "--why", "to be sure", "--yes", "--json")
    assert found == code
    assert json.loads(out)["error"]["hint"]
