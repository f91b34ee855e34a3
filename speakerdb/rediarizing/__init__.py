"""Diarizing again: names are kept, what would change is shown before, and what was there can be brought back."""

from speakerdb.rediarizing.rediarizing import Rediarizing
from speakerdb.rediarizing.reverting import Names

__all__ = ["Names", "Rediarizing"]
