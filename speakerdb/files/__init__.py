"""Recordings' files: `Files` checks them, follows those that moved, and accepts those that were changed on purpose."""

from speakerdb.files import uploaded
from speakerdb.files.files import Files

__all__ = ["Files", "uploaded"]
