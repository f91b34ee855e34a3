"""`speakerdb repair` as a person types it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import repair_kit as kit
from repair_kit import Damaged

from speakerdb.cli import session
from speakerdb.cli.main import main
from speakerdb.settings import Settings


class _Kept:
    """The library of a test, which a command must not close."""

    def __init__(self, library: Damaged) -> None:
        self.library = library

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self.library.db

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def typed(library: Damaged, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path))

    def opened(_settings: Settings, *, start: bool = True) -> _Kept:
        return _Kept(library)

    monkeypatch.setattr(session, "open_service", opened)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_dry_run_is_a_table_and_json(library: Damaged, typed) -> None:  # type: ignore[no-untyped-def]
    library.damage(kit.halved)
    code, out, _ = typed("repair", "run", "--dry-run")
    assert code == 0
    assert "missing" in out
    assert "rewrite" in out
    assert "nothing was changed" in out
    code, out, _ = typed("repair", "run", "--dry-run", "--json")
    plan = json.loads(out)["generations"][0]
    assert (plan["found"], plan["actions"]) == ({"missing": 3}, {"rewrite": 3})
    assert len(plan["sample"]) == 3
    code, out, _ = typed("repair", "run")
    assert code == 0
    assert "3 rewrite" in out
    code, out, _ = typed("repair", "history")
    assert "3 missing" in out
    code, out, _ = typed("repair", "status", "--json")
    assert json.loads(out)["generations"][0]["last_check"]["found"] == {"missing": 3}
    assert typed("repair", "status")[0] == 0


def test_a_refusal_shows_its_plan_and_its_way_out(library: Damaged, typed) -> None:  # type: ignore[no-untyped-def]
    library.damage(kit.strangers(11))
    code, out, _ = typed("repair", "run", "--dry-run")
    assert code == 9
    assert "refused (deletion-brake)" in out
    code, out, err = typed("repair", "run")
    assert code == 9
    assert "orphaned" in out
    assert "error[deletion-brake]" in err
    assert "--force deletions" in err
    code, _, err = typed("repair", "run", "--force", "deletions")
    assert code == 4
    assert "--why" in err
    code, out, _ = typed("repair", "run", "--force", "deletions", "--why", "a test wrote them")
    assert code == 0
    assert "11 bury" in out
    code, out, _ = typed("repair", "run", "--json")
    assert json.loads(out)["generations"][0]["plan"]["found"] == {}


def test_quarantine(library: Damaged, typed) -> None:  # type: ignore[no-untyped-def]
    assert "Nothing is in quarantine" in typed("repair", "quarantine", "list")[1]
    library.sql("UPDATE projections SET rejected_version = version, rejection = 'too large', indexed_version = 0")
    library.db.repairer.run(vectors=True)
    code, out, _ = typed("repair", "quarantine", "list")
    assert out.count("items-rejected") == 6
    one = json.loads(typed("repair", "quarantine", "list", "--json")[1])[0]["id"]
    assert typed("repair", "quarantine", "retry")[0] == 4
    assert "1 document" in typed("repair", "quarantine", "waive", one, "--why", "known")[1]
    assert "waived: known" in typed("repair", "quarantine", "list")[1]
    code, out, _ = typed("repair", "quarantine", "retry", "--all", "--json")
    assert (code, json.loads(out)) == (0, {"count": 6})


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_between_two_steps(library: Damaged, typed, number: signal.Signals, code: int) -> None:  # type: ignore[no-untyped-def]
    """It gives its lease back, so that another machine need not wait until that has expired."""
    library.damage(kit.halved)

    def asked(call: str, when: str) -> None:
        if (call, when) == ("marks", "after"):
            signal.raise_signal(number)

    library.db.index.on_call(asked)  # type: ignore[attr-defined]
    found, out, _ = typed("repair", "run")
    assert found == code
    assert "stopped: it was asked to stop" in out
    assert library.db.repairer.status().holder is None
    library.db.index._callbacks.remove(asked)  # type: ignore[attr-defined]
    assert library.db.repairer.run().done == 3
