"""Building a generation's index again from SQL alone: beside the one that is there, swapped in when it equals SQL.

1. A new concrete index is filled from SQL through a one-time *token* alias, which nobody else writes through.
2. It is compared with SQL, vectors too, up to the watermark that was read before.
3. The generation is marked as being replaced: from then on no projector acknowledges anything in it. So whatever is
   acknowledged is in SQL by now, and what changed after the watermark is written to the new index too.
4. One alias change, all or nothing: remove the token (`must_exist`), move the generation's write alias, and the serving
   alias where it named an index of this generation. The mark goes, and what a projector left is written again.

Whoever takes the migration's lease removes all tokens first; a holder that was stopped anywhere in here and wakes late can
then neither write to its new index nor swap it in. So nothing that SQL calls indexed is ever missing in the index that
the write alias names, wherever a rebuild dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TypeAlias

from speakerdb.catalog import journal, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.leases import Lease
from speakerdb.errors import BackendError, GateFailed, IndexMissing, SpeakerDBError
from speakerdb.index.port import VectorIndex
from speakerdb.migrator import gates
from speakerdb.migrator.layout import mark_of
from speakerdb.migrator.outcome import Outcome
from speakerdb.migrator.serving import LEASE_NAME, Serving
from speakerdb.migrator.swap import TOKEN_PREFIX, remove_tokens
from speakerdb.projector import Projector
from speakerdb.reports import GateReport
from speakerdb.reports.rebuilding import OnRebuild, RebuildProgress, RebuildReport
from speakerdb.types import SERVING_ALIAS, AliasAction, Document, Generation, WriteOutcome

BATCH = 4000
MOVED_BACK = 1_000_000
"""Microseconds by which a clock lags behind one that never jumps, when it was moved back and does not just go slowly."""
Send: TypeAlias = Callable[[Sequence[AliasAction]], None]


class Rebuild:
    """Builds indices again."""

    def __init__(
        self,
        catalog: Catalog,
        index: VectorIndex,
        serving: Serving,
        projector: Projector,
        outcome: Outcome,
        *,
        who: str,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._serving = serving
        self._projector = projector
        self._outcome = outcome
        self._who = who

    def run(
        self, generation: Generation, *, serve: bool = False, on_progress: OnRebuild = lambda _: None
    ) -> RebuildReport:
        """Build one live generation's index again and let it take the old one's place.

        The serving alias follows where it named an index of this generation, and where it names nothing and SQL says that this
        generation serves; with `serve`, also where it names another generation's index although SQL says so.
        `IndexMissing` for a generation that is not live, `GateFailed` when the new index does not equal SQL (the old one
        stays), `LeaseHeld` while a finalize or another rebuild is at work.
        """
        with self._catalog.holding(LEASE_NAME) as lease:
            return self.under(lease, generation, serve=serve, on_progress=on_progress)

    def under(
        self,
        lease: Lease,
        generation: Generation,
        *,
        serve: bool = False,
        on_progress: OnRebuild = lambda _: None,
        send: Send | None = None,
    ) -> RebuildReport:
        """The same for a holder of the migration's lease. `send` carries the last alias change out, with what belongs to it."""
        begun = time.monotonic()
        self._catalog.renew(lease)  # nobody who lost the lease may take another one's token
        remove_tokens(self._index)
        with self._catalog.job(lease) as tx:
            if generation.name not in journal.live_generations(tx):
                raise IndexMissing(
                    f"Generation {generation.name!r} is not live, so it has no index to build.",
                    hint="Live generations are those `speakerdb status` shows.",
                )
            if journal.restored_since_rebuild(tx, generation.name):
                # The old index holds higher versions than the restored rows: no version may ever go back.
                vectors.raise_generation(tx, generation.name, self._catalog.now())
        self._drop_left_over(lease, generation)
        old = self._present(generation)
        try:
            new, documents, caught_up, moved = self._replace(lease, generation, on_progress, serve=serve, send=send)
        except (Exception, KeyboardInterrupt):
            with suppress(SpeakerDBError):  # whoever works next does it
                self._give_up(lease, generation)
            raise
        with self._catalog.job(lease) as tx:
            journal.record(
                tx, "index-rebuilt", self._who, self._catalog.now(), entity_id=generation.name,
                generation=generation.name, index=new, documents=documents, alias_moved=moved,
            )  # fmt: skip
        self._projector.settle(generation)
        self._drop_left_over(lease, generation)
        return RebuildReport(generation.name, new, documents, old, moved, caught_up, round(time.monotonic() - begun, 3))

    def _replace(
        self, lease: Lease, generation: Generation, on_progress: OnRebuild, *, serve: bool, send: Send | None
    ) -> tuple[str, int, int, bool]:
        """The new index, its documents, how many of them were late, and whether the serving alias moved."""
        new, token = self._make(lease, generation)
        with self._catalog.job(lease):
            # As in `gates.watermark` no writer is in flight. Where versions are ahead of the clock, what is new is not: it
            # is told by the time alone.
            since, begun = self._catalog.now(), time.monotonic()
        mark = gates.watermark(self._catalog, generation)
        self._index.tune(new, loading=True)
        documents = self._fill(lease, generation, token, on_progress)
        self._index.tune(new, loading=False)
        self._prove(lease, generation, new, mark, on_progress, documents)
        with self._catalog.job(lease) as tx:
            journal.set_replacing(tx, generation.name, lease.epoch)
            known = self._followed(since, begun)
        with self._catalog.read() as tx:
            late = vectors.changed_since(tx, generation.name, known)
        for part in _parts(iter(late)):
            self._write(lease, generation, token, part)
        moved = self._swap(lease, generation, new, token, serve=serve, send=send or self._index.update_aliases)
        with self._catalog.job(lease) as tx:
            vectors.acknowledge_up_to(tx, generation.name, min(known, self._followed(since, begun)))
            journal.clear_replacing(tx)
        return new, documents, len(late), moved

    def _followed(self, since: int, begun: float) -> int:
        """`since`, or before it by as much as the clock was moved back meanwhile: what is new has times from there on."""
        back = since + int((time.monotonic() - begun) * 1e6) - self._catalog.now()
        return since - back if back > MOVED_BACK else since

    def _give_up(self, lease: Lease, generation: Generation) -> None:
        """After an error: the swap will never happen any more, and projectors may acknowledge again."""
        self._catalog.renew(lease)
        remove_tokens(self._index)
        with self._catalog.job(lease) as tx:
            journal.clear_replacing(tx)
        self._drop_left_over(lease, generation)

    def _present(self, generation: Generation) -> str | None:
        """The concrete index that is to be replaced."""
        name = self._serving.index_of(generation)
        info = self._index.indices(()).get(name)
        if info is None:
            return None
        # Another's, where somebody moved the write alias: it stays as it is, and the alias comes back.
        return name if info.metadata == mark_of(generation) else None

    def _drop_left_over(self, lease: Lease, generation: Generation) -> None:
        """What has been replaced, what a rebuild that died has left, and what a database that was restored does not know."""
        live = self._serving.live()
        for name, owner in self._serving.left_over().items():
            if owner == generation.name or owner not in live:
                self._outcome.drop(lease, name)

    def _make(self, lease: Lease, generation: Generation) -> tuple[str, str]:
        """A new concrete index and its token. The lease's epoch makes both names new."""
        self._catalog.keep(lease)
        existing = self._index.indices(())
        name, count = generation.index_name, lease.epoch
        while name in existing:
            name = f"{generation.index_name}.r{count}"
            count += 1
        token = f"{TOKEN_PREFIX}rebuild-{generation.name}-{lease.epoch}"
        self._index.create(name, generation.dimension, mark_of(generation))
        self._catalog.keep(lease)
        self._index.update_aliases([AliasAction.add(token, name)])
        return name, token

    def _fill(self, lease: Lease, generation: Generation, token: str, on_progress: OnRebuild) -> int:
        with self._catalog.read() as tx:
            total = vectors.count(tx, generation.name)
            expected = vectors.expected_documents(tx, generation.name)
            done = 0
            on_progress(RebuildProgress(generation.name, "writing", 0, total))
            for part in _parts(expected):
                done += self._write(lease, generation, token, part)
                on_progress(RebuildProgress(generation.name, "writing", done, total))
        return done

    def _write(self, lease: Lease, generation: Generation, token: str, part: Sequence[Document]) -> int:
        """Write documents to the new index, and keep the lease; how many it took."""
        self._catalog.keep(lease)
        results = self._index.bulk(token, part)
        refused = [
            (document.id, document.version, result.detail or "rejected")
            for document, result in zip(part, results, strict=True)
            if result.outcome is WriteOutcome.REJECTED
        ]
        with self._catalog.job(lease) as tx:
            vectors.reject(tx, generation.name, refused)
        return len(part) - len(refused)

    def _prove(
        self, lease: Lease, generation: Generation, new: str, mark: int, on_progress: OnRebuild, documents: int
    ) -> None:
        on_progress(RebuildProgress(generation.name, "comparing", documents, documents))
        check = gates.equality(self._catalog, self._index, generation, new, mark, lambda: self._catalog.keep(lease))
        if check.verdict == "fail":
            self._outcome.drop(lease, new)
            raise GateFailed(
                f"The new index of {generation.name} does not equal SQL: {check.value}. The old one stays.",
                hint="See `speakerdb status` for documents that the index refused, then run this again.",
                report=GateReport((check,), mark),
            )

    def _swap(self, lease: Lease, generation: Generation, new: str, token: str, *, serve: bool, send: Send) -> bool:
        """One alias change. True if the serving alias moved with it."""
        aliases = self._index.aliases()
        serving = aliases.get(SERVING_ALIAS, ())
        actions = [AliasAction.remove(token, new)]
        actions += [
            AliasAction.remove(generation.write_alias, name) for name in aliases.get(generation.write_alias, ())
        ]
        actions.append(AliasAction.add(generation.write_alias, new))
        marked, infos = mark_of(generation), self._index.indices(())
        own = bool(serving) and all(name in infos and infos[name].metadata == marked for name in serving)
        moves = own or (self._serving.stated() == generation.name and (serve or not serving))
        if moves:
            actions += [AliasAction.remove(SERVING_ALIAS, name) for name in serving]
            actions.append(AliasAction.add(SERVING_ALIAS, new))
        self._catalog.renew(lease)
        try:
            send(actions)
        except BackendError:
            # The answer did not come: without its token it has happened, or never will.
            self._catalog.renew(lease)
            remove_tokens(self._index)
            if self._index.aliases().get(generation.write_alias) != (new,):
                self._outcome.drop(lease, new)
                raise
        self._serving.forget()
        return moves


def _parts(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while part := list(islice(documents, BATCH)):
        yield part
