"""What the library holds: recordings come in, change, and go. Work follows by itself.

`sources` says what was given (files, folders, manifests), `turns_files` finds and reads turns, `looking` opens the media,
`writing` decides and writes, `bulk` does it for a whole library, and `ingest` is the door to all of it.
"""

from speakerdb.ingest.entries import MAX_TURNS, Given, Said
from speakerdb.ingest.ingest import Ingest
from speakerdb.ingest.sources import MEDIA_SUFFIXES
from speakerdb.ingest.turns_files import TurnsFiles

__all__ = ["MAX_TURNS", "MEDIA_SUFFIXES", "Given", "Ingest", "Said", "TurnsFiles"]
