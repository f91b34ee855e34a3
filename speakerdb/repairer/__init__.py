"""Finding and mending what differs between SQL and an index.

**The order of reading.** First the index is asked (its highest version, the sums of its buckets, then one point in time of its
documents), and SQL after it. A row is in SQL before its document is in an index. So a document that SQL does
not know was not merely added in between; and a row that was changed in between is younger than the beginning, and is left
alone.

**Plan before effect.** A plan reads everything that is to be compared, counts it, and only then the brakes (`core.drift`)
judge it as a whole: nothing has been written by then. What is to be done is spooled to a file, so memory stays the same however
much it is.

**Every effect is conditional.** SQL is changed in transactions that touch the lease, wait for a finalize's fence, and ask once
more whether the generation is live and is not being replaced; each statement names the version that was read, and loses to
whoever raised it since. Nobody but the projector writes documents: a repair raises versions. The one thing it does to an index
itself is to purge tombstones, each by its version and only while it is one, after its row was deleted; a repairer that was
stopped for a week before this step finds what was written since, and leaves it.

**What it leaves alone.** A generation whose index is being replaced, or whose migration has announced a swap; rows that were
changed within the grace period; what waits for the projector, which is a lag and no difference; and aliases, which it only
tells of.

**After the effect** the projector is drained and everything that was mended is read back. What still differs goes to the
quarantine, and is tried again after a minute, then two, up to a day.
"""

from speakerdb.repairer.repairer import Repairer

__all__ = ["Repairer"]
