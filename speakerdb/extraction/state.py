"""What a process that extracts has one of."""

from __future__ import annotations

from speakerdb.extraction.shelf import Shelf
from speakerdb.extraction.stream import Line, Stopwatch

shelf = Shelf()
"""Its models."""
network = Line()
"""A model takes all the cores, so one recording at a time passes through."""
busy = Stopwatch()
"""When it extracts."""
