"""Bringing an existing index: reading it into SQL, and taking the place of a legacy one.

**Import.** An index is read from one point in time, part by part. Each part is one transaction under the migration's lease:
documents become speakers, profiles and embeddings where SQL has none; what SQL has stays as it is, unless it came from the
same index before. Nothing of the index is written. So an import can be stopped anywhere, and be run again: what is there is
found to be there. At its end, and in one transaction, the generation is made live where none is, and the event is written.
Until then an installation without a live generation does not start: nobody works with a half of it by mistake.

A document's row gets a version above that of every document that was read, so that the projector is never behind for ever.

**Take-over** of a concrete index that has the alias's name (`speakers`). Its steps, each after the one before is certain:

1. It is imported while the application may still write. Documents that are refused stop it here, unless named.
2. The intention is written to SQL (`adoption-begun`), with the lease touched in the same transaction.
3. The index is blocked for writing. What was written before the block is in every point in time from here on.
4. It is imported again: what changed since step 1. Vectors that are gone from it are forgotten.
5. It is compared: every document equals SQL or was refused by name, and everything SQL has of it is in it.
6. It is copied as a whole (`speakers_legacy_N`; the files are shared): nothing that speakerdb does not read is lost.
7. The generation is made live, and its index is built from SQL and compared with it, as a rebuild does.
8. The block, the count and the identity of the old index are looked at once more. Then one request, all or nothing: remove a
   one-time token (`must_exist`), remove the old index, give the new one its write alias and the alias.
9. The end is written to SQL (`index-adopted`).

*Crash windows.* Until 8 is carried out the legacy index is there with all it had, and the next run begins again at 1; SQL's
rows are found to be there, an index that was built for nothing is dropped by the rebuild that succeeds. After 8 the alias is
there and the next run only writes the event. A request of step 8 that arrives late finds its token gone, which whoever takes
the lease removes first; a second one finds no concrete index of that name. The copy has the lease's epoch in its name, is
made once, and is never removed by speakerdb. Between 3 and 8 a crash leaves the index blocked: the next start says so, and
either the take-over is run again or given up, which lifts the block. An error that is not a crash lifts it at once. A lifting
that arrives late, from a process whose lease is lost, is seen in step 8.
"""

from collections.abc import Mapping

from speakerdb.adoption.importing import Import, ImportOptions
from speakerdb.adoption.takeover import TakeOver
from speakerdb.catalog.catalog import Catalog
from speakerdb.index.foreign import ForeignIndex, foreign_of
from speakerdb.index.port import VectorIndex
from speakerdb.migrator import Serving
from speakerdb.migrator.rebuild import Rebuild
from speakerdb.types import Generation

__all__ = ["Adoption", "Import", "ImportOptions", "TakeOver"]


class Adoption:
    """Imports and the take-over of one library."""

    def __init__(
        self,
        catalog: Catalog,
        generations: Mapping[str, Generation],
        serving: Serving,
        index: VectorIndex,
        rebuild: Rebuild,
        *,
        who: str,
    ) -> None:
        def foreign() -> ForeignIndex:
            return foreign_of(index)

        self.imports = Import(catalog, generations, serving, index, foreign, who=who)
        self.takeover = TakeOver(catalog, index, foreign, self.imports, serving, rebuild, who=who)
