"""Settings of generations and of their models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from speakerdb.errors import ConfigurationError
from speakerdb.generations import RECIPES
from speakerdb.types import Generation, ModelSpec, OperatingPoint, Recipe


class GenerationSettings(BaseModel):
    """A new generation, or changes to a built-in one of the same name. What is left out keeps its built-in value."""

    model_config = ConfigDict(extra="forbid")

    family: Literal["pyannote", "spectral"] | None = Field(
        default=None, description="`pyannote`, or `spectral` for the stand-in that needs no weights."
    )
    model: str | None = Field(
        default=None, description="Hub id, or a name of your choice; for `spectral`: `spectral-a` or `spectral-b`."
    )
    architecture: str | None = Field(default=None, description="Class that the checkpoint must hold; any if left out.")
    dimension: int | None = Field(default=None, ge=1, le=65536, description="Length of its vectors.")
    revision: str | None = Field(default=None, description="Revision of the hub repository.")
    subfolder: str | None = Field(
        default=None, description="Folder of the hub repository in which the checkpoint lies."
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="Checksum of the checkpoint file. Without it no checkpoint is loaded.",
    )
    sources: tuple[str, ...] | None = Field(
        default=None, description="Where to look, in order: `cache`, `hub`, or a path to a file or folder."
    )
    accept: float | None = Field(default=None, ge=-1, le=1, description="Cosine from which a match is accepted.")
    candidate: float | None = Field(default=None, ge=-1, le=1, description="Cosine below which it is rejected.")
    margin: float | None = Field(
        default=None, ge=0, le=2, description="How far ahead of the next person an accepted match must be."
    )
    recipe: str | None = Field(
        default=None,
        description="A recipe by its name: `spread-30`, `spread-60`, `spread-30-int8` or `spread-60-int8`. With a budget of"
        " your own, a name of your own.",
    )
    budget_seconds: float | None = Field(
        default=None, gt=0, description="Seconds of speech used for each speaker of a recording."
    )

    @field_validator("model")
    @classmethod
    def _without_revision(cls, given: str | None) -> str | None:
        if given is not None and "@" in given:
            name, _, revision = given.partition("@")
            raise ValueError(f"a model's revision is a setting of its own: model = {name!r}, revision = {revision!r}")
        return given

    def applied_to(self, base: Generation | None, name: str) -> Generation:
        """The generation these settings describe. `ConfigurationError` when a new one is not complete."""
        if base is None:
            if self.model is None or self.family is None or self.dimension is None:
                raise ConfigurationError(
                    f"Generation {name!r} is not complete.",
                    hint=f"Give [generations.{name}] at least family, model and dimension.",
                )
            base = Generation(
                name, ModelSpec(self.family, self.model, self.dimension), OperatingPoint(0.75, 0.50, 0.05)
            )
        elif self.model is not None and self.model != base.model.id:
            # Another model inherits neither the pinned revision nor the pinned checkpoint of the one it replaces.
            base = replace(base, model=replace(base.model, id=self.model, revision=None, subfolder=None, sha256=None))
        spec = {
            key: value
            for key in ("family", "architecture", "dimension", "revision", "subfolder", "sha256", "sources")
            if (value := getattr(self, key)) is not None
        }
        point = {key: v for key in ("accept", "candidate", "margin") if (v := getattr(self, key)) is not None}
        return replace(
            base,
            model=replace(base.model, **spec),
            operating_point=replace(base.operating_point, **point),
            recipe=self._recipe(base.recipe, name),
        )

    def _recipe(self, base: Recipe, generation: str) -> Recipe:
        recipe = base if self.recipe is None else RECIPES.get(self.recipe)
        if self.budget_seconds is None:
            if recipe is None:
                raise ConfigurationError(
                    f"Generation {generation!r} names the recipe {self.recipe!r}, which does not exist.",
                    hint=f"Choose one of {', '.join(RECIPES)}, or give budget_seconds with a name of your own.",
                )
            return recipe
        recipe = recipe or base
        quantised = "" if recipe.arithmetic == "float" else f"-{recipe.arithmetic}"
        name = self.recipe or f"spread-{self.budget_seconds:g}{quantised}"
        return replace(recipe, name=name, budget_seconds=self.budget_seconds)


class ModelSettings(BaseModel):
    """How models are found and kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    offline: bool = Field(
        default=False, description="Forbid every look-up over the network: only what is on this machine."
    )
    folder: Path | None = Field(
        default=None,
        description="Folder of the models that `models install` put on this machine; models in data_dir unless set.",
    )
    keep: Literal["auto", "one", "all"] = Field(
        default="auto",
        description="How many models a worker holds: all, one at a time, or (auto) as many as fit into its memory.",
    )

    @field_validator("folder")
    @classmethod
    def _stays_where_it_is(cls, given: Path | None) -> Path | None:
        return None if given is None else given.expanduser().absolute()
