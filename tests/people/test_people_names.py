"""Names in any script, and hostile ones: stored as they are or refused, and never a control character on the terminal."""

from __future__ import annotations

import json

import pytest

from speakerdb.catalog import library, people
from speakerdb.errors import InvalidInput
from speakerdb.people.splitting import Choice
from speakerdb.service import SpeakerDB
from tests.lent_library import Shell
from tests.people.conftest import add

NAMES = [
    "Ada", "Зоя Ильина", "山田 太郎", "محمد علي", "דנה כהן", "अनन्या", "Ñandú O'Brien-Ó Sé", "👩‍👩‍👧",
    "e\u0301", "\uff46\uff55\uff4c\uff4c",
    "\u0410da", "x" * 1000, " Ada ", "-name", "'; DROP TABLE speakers; --", "[red]Ada[/red]", "%s {0} \\n", "../../etc",
]  # fmt: skip
HOSTILE = [
    "Ada\x1b[31m", "Ada\nEve", "a\tb", "\x07", "\x85", "\u202eadA", "\u2066Ada", "a\u200bb", "\u2028", "x" * 10_000, "\0",
    "\ud800", "", "   ", "\ufffe", "\U000e0041",
]  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, *HOSTILE])
def test_a_name_is_stored_as_it_is_or_refused_by_one_rule(db: SpeakerDB, name: str) -> None:
    ids = add(db, "one").speakers
    ada = db.create_profile("somebody").id
    outcomes = []
    for verb in (
        lambda: db.rename_profile(ada, name).name,
        lambda: db.people.assign_by_name(ids["A"], name).profile_name,
        lambda: db.create_profile(name, library="tv").name,
        lambda: db.rename_speaker(ids["A"], name or " ").name,
        lambda: db.people.split(ids["A"], Choice("1"), label=name).label,
    ):
        try:
            outcomes.append(verb() == name)
        except InvalidInput:
            outcomes.append(None)
    assert set(outcomes) <= {True, None}, "what is stored is what was given"
    assert len(set(outcomes)) == 1, outcomes
    if name in NAMES:
        assert outcomes[0] is True
    if name in ("", "   ", "\0", "\ud800", "x" * 10_000):
        assert outcomes[0] is None


@pytest.mark.parametrize(
    "name", ["محمد علي", "👩‍👩‍👧", "Ada\x1b[31m", "Ada\nEve", "\x85", "\u202eadA", "x" * 10_000, "   "]
)
def test_no_control_character_reaches_the_terminal(db: SpeakerDB, shell: Shell, name: str) -> None:
    ids = add(db, "one").speakers
    with db.catalog.change() as tx:  # as an older version, or another program, may have stored it
        home = library.library_id(tx, "default")
        people.restore(tx, "prf_hostile", home, name or "-", db.catalog.now())
        library.set_speaker(tx, ids["A"], name=name, profile_id="prf_hostile")
        library.set_speaker(tx, ids["B"], profile_id="prf_hostile")
    db.rename_speaker(ids["A"], "Ada")
    with db.catalog.change() as tx:
        library.set_speaker(tx, ids["B"], name=name)
    db.work()
    shown = [
        shell.run(*args)
        for args in (
            ["speakers", "list"],
            ["speakers", "list", "--name", name],
            ["speakers", "show", ids["A"]],
            ["profiles", "list"],
            ["profiles", "show", "prf_hostile"],
            ["speakers", "assign", ids["A"], "--name", name],
            ["speakers", "rename", ids["A"], name or " "],
            ["speakers", "rename", ids["A"], "--clear", "--why", name],
            ["profiles", "rename", "prf_hostile", name + "2"],
            ["profiles", "create", name + "2"],
            ["undo", "--dry-run"],
            ["undo", "--yes"],
            ["speakers", "split", ids["A"], "--turns", "1", "--label", name],
            ["speakers", "split", ids["A"], "--turns", name or " "],
            ["profiles", "merge", "prf_hostile", "prf_hostile"],
        )
    ]
    for code, out, err in shown:
        assert code in (0, 2, 3, 4, 5), (code, err)
        for text in (out, err):
            bad = {character for character in text if not character.isprintable() and character != "\n"}
            assert not bad, (text, bad)
    code, out, _ = shell.run("profiles", "list", "--json")
    assert code == 0
    json.loads(out)


@pytest.mark.parametrize("name", ["Ada", "ada", "\u0410da", "Ada ", "\uff21da"])
def test_look_alikes_are_different_people(db: SpeakerDB, name: str) -> None:
    first = db.create_profile("Ada").id
    if name == "Ada":
        with pytest.raises(InvalidInput):
            db.create_profile(name)
    else:
        assert db.create_profile(name).id != first
