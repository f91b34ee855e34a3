"""Recipes: which there are, who uses them, and what others would do with a library's own voices."""

from speakerdb.recipes.trial import Recipes

__all__ = ["Recipes"]
