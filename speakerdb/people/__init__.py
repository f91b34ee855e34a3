"""Names: speakers get names and people. What was named stays named through every migration; a name touches no index."""

from speakerdb.catalog.people import find_profile, find_speaker
from speakerdb.people.naming import People

__all__ = ["People", "find_profile", "find_speaker"]
