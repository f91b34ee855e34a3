"""Recipes by name, and what of them goes into the digest that every embedding bears."""

from __future__ import annotations

import pytest

from speakerdb.errors import ConfigurationError
from speakerdb.generations import RECIPES, V3, V4
from speakerdb.settings import GenerationSettings
from speakerdb.types import Recipe


def test_both_generations_follow_the_recommended_recipe() -> None:
    assert V3.recipe == V4.recipe == RECIPES["spread-30"] == Recipe()


def test_a_recipe_is_chosen_by_its_name() -> None:
    for name, recipe in RECIPES.items():
        assert GenerationSettings(recipe=name).applied_to(V4, "v4").recipe == recipe
    assert len({recipe.digest for recipe in RECIPES.values()}) == len(RECIPES)


def test_a_mistyped_recipe_is_not_a_new_one() -> None:
    with pytest.raises(ConfigurationError, match="spread-3O") as caught:
        GenerationSettings(recipe="spread-3O").applied_to(V4, "v4")
    assert "spread-60" in caught.value.hint


def test_a_budget_of_ones_own_names_itself() -> None:
    assert GenerationSettings(budget_seconds=12.0).applied_to(V4, "v4").recipe == Recipe("spread-12", 12.0)
    mine = GenerationSettings(budget_seconds=12.0, recipe="mine").applied_to(V4, "v4").recipe
    assert mine == Recipe("mine", 12.0)
    quantised = GenerationSettings(budget_seconds=12.0, recipe="spread-30-int8").applied_to(V4, "v4").recipe
    assert (quantised.arithmetic, quantised.budget_seconds) == ("int8", 12.0)


def test_what_was_made_before_recipes_had_an_arithmetic_keeps_its_digest() -> None:
    # Libraries of schema revision 0001 to 0003 hold this one.
    assert Recipe().digest == "0af4a61285c5933e"
    assert Recipe(arithmetic="int8").digest != Recipe().digest
