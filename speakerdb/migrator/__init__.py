"""Migration: start, gates, the swap and its recovery, roll-back, retirement, and which index serves."""

from speakerdb.migrator.migrator import Migrator
from speakerdb.migrator.serving import Serving, ServingState

__all__ = ["Migrator", "Serving", "ServingState"]
