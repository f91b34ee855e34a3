"""What can be changed while it runs: live settings, and the generation that an operator prefers."""

from speakerdb.live.live import Live
from speakerdb.live.preferences import Preferences, preferred

__all__ = ["Live", "Preferences", "preferred"]
