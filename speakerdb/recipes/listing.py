"""Which recipes there are, who uses them, and how a generation with another one is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from speakerdb.errors import ConfigurationError
from speakerdb.generations import RECIPES
from speakerdb.reports.recipes import RecipeView
from speakerdb.types import Generation, Recipe


def views(generations: Mapping[str, Generation]) -> list[RecipeView]:
    """The recipes that can be chosen by name, and those that a generation has for itself."""
    known = [*RECIPES.values()]
    known += [g.recipe for g in generations.values() if g.recipe not in known]
    return [_view(recipe, generations) for recipe in dict.fromkeys(known)]


def view(
    name: str, generations: Mapping[str, Generation], *, budget_seconds: float | None = None, of: str | None = None
) -> RecipeView:
    """A recipe by its name, or the one that a generation of this name uses, perhaps with another budget. With `of`, also the
    settings of a new generation that has that generation's model and this recipe.

    `ConfigurationError` where there is no such recipe or generation.
    """
    found = generations[name].recipe if name in generations else RECIPES.get(name)
    if found is None:
        found = next((g.recipe for g in generations.values() if g.recipe.name == name), None)
    if found is None:
        raise ConfigurationError(
            f"There is no recipe {name!r}, and no generation of that name.",
            hint=f"Recipes: {', '.join(RECIPES)}. Generations: {', '.join(sorted(generations))}.",
        )
    if of is not None and of not in generations:
        raise ConfigurationError(f"There is no generation {of!r}.", hint=f"Known: {', '.join(sorted(generations))}.")
    if budget_seconds is not None:
        found = _with_budget(found, budget_seconds)
    settings = None if of is None else settings_of(generations[of], found, generations)
    return replace(_view(found, generations), settings=settings)


def _with_budget(recipe: Recipe, seconds: float) -> Recipe:
    """The same with another budget, by the name that it has, or gets where the settings state it so."""
    for known in RECIPES.values():
        if replace(recipe, name=known.name, budget_seconds=seconds) == known:
            return known
    name = f"spread-{seconds:g}" if recipe.arithmetic == "float" else recipe.name
    return replace(recipe, name=name, budget_seconds=seconds)


def settings_of(base: Generation, recipe: Recipe, generations: Mapping[str, Generation]) -> str:
    """Lines of a settings file: a new generation with the model and scores of `base`, and another recipe."""
    number = next(n for n in range(2, len(generations) + 3) if f"{base.name}_{n}" not in generations)
    model, point = base.model, base.operating_point
    stated: dict[str, object] = {
        "family": model.family, "model": model.id, "architecture": model.architecture, "dimension": model.dimension,
        "revision": model.revision, "subfolder": model.subfolder, "sha256": model.sha256, "sources": model.sources,
        "accept": point.accept, "candidate": point.candidate, "margin": point.margin,
    }  # fmt: skip
    if RECIPES.get(recipe.name) == recipe:
        stated["recipe"] = recipe.name
    else:
        stated |= {"recipe": recipe.name, "budget_seconds": recipe.budget_seconds}
    lines = [f"{name} = {_toml(value)}" for name, value in stated.items() if value is not None]
    title = f"# The model of {base.name} with the recipe {recipe.name}. Any name will do that no generation has had."
    return "\n".join([title, f"[generations.{base.name}_{number}]", *lines])


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


def _view(recipe: Recipe, generations: Mapping[str, Generation]) -> RecipeView:
    return RecipeView(
        name=recipe.name,
        digest=recipe.digest,
        budget_seconds=recipe.budget_seconds,
        segment_min_seconds=recipe.segment_min_seconds,
        segment_target_seconds=recipe.segment_target_seconds,
        segment_max_seconds=recipe.segment_max_seconds,
        minimum_seconds=recipe.minimum_seconds,
        confident_seconds=recipe.confident_seconds,
        selection=recipe.selection,
        pooling=recipe.pooling,
        arithmetic=recipe.arithmetic,
        generations=tuple(sorted(name for name, each in generations.items() if each.recipe == recipe)),
        named=RECIPES.get(recipe.name) == recipe,
    )
