"""`speakerdb recipe`, as a person types it: lists, settings that can be used as they are, a trial with its picture."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from recipe_kit import name_everybody
from synthetic_voices import MadeUp, write_settings

from speakerdb.cli.main import main
from speakerdb.generations import BUILT_IN, RECIPES, V4
from speakerdb.recipes.listing import settings_of, view, views
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings, Settings, load_settings
from speakerdb.types import Generation, Recipe


@dataclass
class Ran:
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path / "speakerdb.toml")
    monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path / "data"))

    def run(*words: object) -> Ran:
        exit_code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Ran(exit_code, out, err)

    return run


def read_back(text: str) -> tuple[str, Generation]:
    """What the settings make of the lines."""
    ((name, given),) = tomllib.loads(text)["generations"].items()
    return name, GenerationSettings(**given).applied_to(None, name)


# Which there are


def test_every_recipe_by_name_and_those_of_a_generation_alone() -> None:
    own = Generation("mine", V4.model, V4.operating_point, Recipe(name="spread-20", budget_seconds=20.0))
    found = views({**BUILT_IN, "mine": own})
    assert [each.name for each in found] == [*RECIPES, "spread-20"]
    assert [each.generations for each in found] == [("v3", "v4"), (), (), (), ("mine",)]
    assert [each.named for each in found] == [True, True, True, True, False]
    assert len({each.digest for each in found}) == 5
    for each, recipe in zip(found, [*RECIPES.values(), own.recipe], strict=True):
        assert {name: getattr(each, name) for name in asdict(recipe)} == asdict(recipe)
        assert each.digest == recipe.digest


def test_a_recipe_of_the_same_name_with_another_budget_is_told_apart() -> None:
    other = Generation("mine", V4.model, V4.operating_point, Recipe(budget_seconds=12.0))
    found = {each.digest: each for each in views({**BUILT_IN, "mine": other})}
    assert found[Recipe().digest].generations == ("v3", "v4")
    assert (found[other.recipe.digest].generations, found[other.recipe.digest].named) == (("mine",), False)


# Settings of a new generation


@pytest.mark.parametrize("name", [*RECIPES, "v4"])
@pytest.mark.parametrize("budget", [None, 20.0, 60.0, 12.5])
def test_the_settings_that_are_printed_give_that_recipe(name: str, budget: float | None) -> None:
    wanted = view(name, BUILT_IN, budget_seconds=budget, of="v4")
    assert wanted.settings is not None
    called, read = read_back(wanted.settings)
    assert called == "v4_2"
    assert read.recipe.digest == wanted.digest
    assert read.recipe.budget_seconds == (budget or RECIPES.get(name, Recipe()).budget_seconds)
    assert (read.model, read.operating_point, read.metric) == (V4.model, V4.operating_point, V4.metric)
    if budget == 60.0:
        assert wanted.name == {"float": "spread-60", "int8": "spread-60-int8"}[read.recipe.arithmetic]


def test_a_name_that_is_free_and_texts_that_need_quoting() -> None:
    odd = Generation("v4", V4.model.__class__("pyannote", 'a "b" \\ c', 8, sources=("/x y",)), V4.operating_point)
    known = {"v4": odd, "v4_2": odd, "v4_3": odd}
    called, read = read_back(settings_of(odd, Recipe(), known))
    assert (called, read.model) == ("v4_4", odd.model)


def test_a_changed_recipe_is_a_new_generation_and_a_migration(
    cli: Callable[..., Ran], talks: list[MadeUp], tmp_path: Path
) -> None:
    assert cli("add", talks[0].path, "--turns", talks[0].path.with_suffix(".rttm")).exit_code == 0
    assert cli("work").exit_code == 0
    printed = cli("recipe", "show", "v3", "--budget", "10", "--settings-for", "v3")
    assert printed.exit_code == 0
    with (tmp_path / "speakerdb.toml").open("a", encoding="utf-8") as file:
        file.write(printed.out)
    generation = load_settings().known_generations()["v3_2"]
    assert (generation.recipe.name, generation.recipe.budget_seconds) == ("spread-10", 10.0)
    assert cli("migrate", "start", "--to", "v3_2", "--yes").exit_code == 0
    assert cli("migrate", "finalize", "--yes").exit_code == 0
    assert cli("status", "--json").json["serving"] == "v3_2"
    listed = cli("recipe", "list", "--json").json["recipes"]
    assert [each["generations"] for each in listed if each["name"] == "spread-10"] == [["v3_2"]]


def test_the_recipe_of_a_generation_cannot_be_changed_under_its_vectors(
    cli: Callable[..., Ran], talks: list[MadeUp], tmp_path: Path
) -> None:
    assert cli("add", talks[0].path, "--turns", talks[0].path.with_suffix(".rttm")).exit_code == 0
    text = (tmp_path / "speakerdb.toml").read_text(encoding="utf-8")
    changed = text.replace("[generations.v3]\n", '[generations.v3]\nrecipe = "spread-60"\n')
    assert changed != text
    (tmp_path / "speakerdb.toml").write_text(changed, encoding="utf-8")
    refused = cli("work", "--json")
    assert (refused.exit_code, refused.json["error"]["code"]) == (2, "generation-changed")


# The door


def test_list_and_show_as_text_and_json(cli: Callable[..., Ran]) -> None:
    listed = cli("recipe", "list")
    assert listed.exit_code == 0
    for name in RECIPES:
        assert name in listed.out
    assert "v3, v4" in listed.out
    shown = cli("recipe", "show", "spread-60-int8")
    for part in ("60 s of speech", "3 to 6 s, at least 1 s", "int8", RECIPES["spread-60-int8"].digest):
        assert part in shown.out
    assert cli("recipe", "show", "v4", "--json").json["name"] == "spread-30"
    assert cli("recipe", "show", "v4", "--json").json["settings"] is None
    for words in (["nothing"], ["v4", "--settings-for", "v9"]):
        refused = cli("recipe", "show", *words, "--json")
        assert (refused.exit_code, refused.json["error"]["code"]) == (2, "configuration"), words
        assert refused.json["error"]["hint"]


def fill(talks: list[MadeUp], tmp_path: Path) -> None:
    with SpeakerDB.open(Settings(data_dir=tmp_path / "data", **_spectral(tmp_path))) as db:
        for talk in talks:
            db.add(talk.path, talk.turns, recording_id=talk.stem)
        name_everybody(db, talks)


def _spectral(tmp_path: Path) -> dict[str, Any]:
    return tomllib.loads((tmp_path / "speakerdb.toml").read_text(encoding="utf-8"))


def test_a_trial_as_text_as_json_and_as_a_picture(cli: Callable[..., Ran], talks: list[MadeUp], tmp_path: Path) -> None:
    fill(talks, tmp_path)
    ran = cli("recipe", "try", "--budget", "6,10", "--sample", "20", "--plot", "trial.svg")
    assert ran.exit_code == 0, ran.err
    assert "drawn into trial.svg" in ran.err
    for part in (
        "v3, recipe spread-30 (30 s): 12 speakers of 6 recordings", "5th percentile", "recommended: 6 s.",
        "18 pairs of one profile and 42 of two, of 3 profiles",
        "speakerdb recipe show v3 --budget 6 --settings-for v3",
    ):  # fmt: skip
        assert part in ran.out, ran.out
    picture = (tmp_path / "trial.svg").read_text(encoding="utf-8")
    words = " ".join(text for text in ElementTree.fromstring(picture).itertext() if text.strip())  # noqa: S314
    for part in (
        "median",
        "5th percentile",
        "wanted at the median: 0.98",
        "equal error rate",
        "recommended",
        "18 pairs",
    ):
        assert part in words, words
    assert "person" not in picture
    found = cli("recipe", "try", "--budget", "6,30", "--sample", "20", "--json").json
    assert [each["budget_seconds"] for each in found["budgets"]] == [6.0, 30.0, None]
    assert [each["cut"] for each in found["budgets"]] == [12, 0, 0]
    assert found["recommendation"]["budget_seconds"] == 6.0
    assert found["limit_seconds"] == 300.0


def test_a_trial_without_names_says_what_it_could_not_measure(
    cli: Callable[..., Ran], talks: list[MadeUp], tmp_path: Path
) -> None:
    assert cli("add", talks[0].path, "--turns", talks[0].path.with_suffix(".rttm")).exit_code == 0
    ran = cli("recipe", "try", "--budget", "10,300.5,5", "--json")
    assert (ran.exit_code, ran.json["error"]["code"]) == (4, "invalid-input")
    ran = cli("recipe", "try", "--budget", "10", "--plot", "alone.svg")
    assert ran.exit_code == 0
    assert "EER: not measurable, too few named voices" in ran.out
    assert "recommended: nothing. 2 speakers are too few" in ran.out
    assert "equal error rate" not in (tmp_path / "alone.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words", [["--budget", "ten"], ["--budget", ""], ["--plot", "trial.txt"], ["--plot", "nowhere/trial.svg"]]
)
def test_what_cannot_be_done_is_said_before_the_work(cli: Callable[..., Ran], words: list[str]) -> None:
    refused = cli("recipe", "try", *words, "--json")
    assert (refused.exit_code, refused.json["error"]["code"]) == (4, "invalid-input")
