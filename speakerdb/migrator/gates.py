"""The gates: a target is swapped in only when it is proven. Each has a value, a threshold and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np

from speakerdb.catalog import people, vectors, work
from speakerdb.catalog.catalog import Catalog
from speakerdb.core.reconcile import Finding, compare, diff
from speakerdb.index.port import VectorIndex
from speakerdb.projector import Projector
from speakerdb.reports import Check
from speakerdb.types import Document, Generation

READ_BACK_SAMPLE = 200
SAME = 1e-5
"""A vector's cosine with itself is 1 up to this."""
SHOWN = 5
KEEP_EVERY = 1000
"""Documents that are compared between two looks at the lease."""
Keep = Callable[[], None]
"""Called now and then by what takes long, so that its lease is kept."""


def settle(projector: Projector, generation: Generation, keep: Keep) -> None:
    """Pool and project until nothing of a generation is dirty and nothing waits."""

    def stop() -> bool:
        keep()
        return False

    projector.settle(generation, stop=stop)


def watermark(catalog: Catalog, generation: Generation) -> int:
    """Now; or the highest version there is, where a clock that was moved back has left versions ahead of it.

    Writers in flight are waited for: what they commit has the time at which they began.
    """
    with catalog.job() as tx:
        return max(catalog.now(), vectors.newest_version(tx, generation.name))


def coverage(catalog: Catalog, generation: Generation) -> Check:
    """(a) Every speaker is embedded as it is now, unembeddable with a reason, or waived by a person."""
    with catalog.read() as tx:
        count, sample = vectors.uncovered(tx, generation.name)
        waiting = work.open_count(tx, generation.name)
        failed = work.progress(tx, generation.name).recordings_failed
    if failed:
        hint = "See `speakerdb migrate status`; then `speakerdb migrate retry`, or `speakerdb migrate waive --code CODE --why …`."
    else:
        hint = "Run `speakerdb work` until the queue is empty."
    value = f"{count} speakers missing" + (f" ({', '.join(sample[:SHOWN])})" if sample else "")
    if waiting or failed:
        value += f", {waiting} recordings queued, {failed} failed"
    return Check("coverage", "pass" if count == 0 else "fail", value, "0 speakers missing", hint if count else "")


def profiles(catalog: Catalog, generation: Generation) -> Check:
    """No profile is waiting to be pooled in this generation."""
    with catalog.read() as tx:
        count = people.dirty_count(tx, generation.name)
    return Check(
        "profiles",
        "fail" if count else "pass",
        f"{count} waiting to be pooled",
        "0 waiting",
        "Run `speakerdb work`." if count else "",
    )


def equality(
    catalog: Catalog,
    index: VectorIndex,
    generation: Generation,
    name: str,
    watermark: int,
    keep: Keep = lambda: None,
) -> Check:
    """(b) SQL and the concrete index `name` hold the same ids, versions, content hashes, filters and vectors, up to a
    watermark.

    The index scan is opened first and SQL is read after it, so what was added in between can never look orphaned.
    """
    actual = _opened(index.scan(name))
    found: list[Finding] = []
    kinds: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    with catalog.read() as tx:
        expected = _counted(vectors.expected_documents(tx, generation.name), seen, keep)
        for finding in diff(expected, actual, watermark=watermark):
            kinds[finding.difference] += 1
            if len(found) < SHOWN:
                found.append(finding)
    if not kinds:
        return Check("equality", "pass", f"{seen['documents']} documents equal", "0 differences")
    summary = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return Check(
        "equality",
        "fail",
        f"{summary} ({', '.join(f.id for f in found)})",
        "0 differences",
        f"See `speakerdb status` for documents the index refused; else write it again with "
        f"`speakerdb index rebuild {generation.name}`.",
    )


def read_back(catalog: Catalog, index: VectorIndex, generation: Generation, name: str) -> Check:
    """(c) A random sample, over a fresh connection, is what SQL says, and each of its voices is found by its own vector.

    The second half is about what a search looks at, which an engine may keep apart from what it gives back.
    """
    with catalog.read() as tx:
        ids = vectors.sample_ids(tx, generation.name, READ_BACK_SAMPLE)
        expected = vectors.expected_by_id(tx, generation.name, ids)
    fresh = index.reopened()
    try:
        wrong = differing(fresh, name, expected)
        lost = _lost(fresh, name, expected)
    finally:
        fresh.close()
    living = sum(document.vector is not None for document in expected)
    return Check(
        "read-back",
        "fail" if wrong or lost else "pass",
        f"{len(expected) - len(wrong)} of {len(expected)} sampled documents equal, {living - lost} of {living} found",
        "all equal, all found",
        f"Write them again with `speakerdb index rebuild {generation.name}`." if wrong or lost else "",
    )


def _lost(index: VectorIndex, name: str, documents: Iterable[Document]) -> int:
    """How many living documents a search for their own vector does not find. Another one of the same vector will do."""
    living = [document.vector for document in documents if document.vector is not None]
    if not living:
        return 0
    found = index.search(name, np.stack(living), 1)
    return sum(not hits or hits[0].score < 1 - SAME for hits in found)


def catch_up(catalog: Catalog, index: VectorIndex, generation: Generation, name: str, watermark: int) -> Check:
    """(e) What changed since the watermark is in the index too. Called under the write fence, after draining."""
    with catalog.read() as tx:
        late = vectors.changed_since(tx, generation.name, watermark)
        waiting = vectors.waiting_count(tx, generation.name)
        uncovered, _ = vectors.uncovered(tx, generation.name)
        dirty = people.dirty_count(tx, generation.name)
    wrong = differing(index, name, late)
    passed = not (wrong or waiting or uncovered or dirty)
    value = f"{len(late)} documents changed, {len(wrong)} differ, {waiting} waiting"
    if uncovered or dirty:
        value += f", {uncovered} speakers not extracted, {dirty} profiles not pooled"
    return Check(
        "catch-up", "pass" if passed else "fail", value, "all equal, 0 waiting", "" if passed else "Finalize again."
    )


def differing(index: VectorIndex, name: str, expected: Iterable[Document]) -> list[str]:
    """Ids of documents that the concrete index `name` does not hold as expected."""
    wanted = {document.id: document for document in expected}
    held = index.fetch(name, list(wanted)) if wanted else {}
    return [
        key
        for key, want in wanted.items()
        if (key not in held and not want.deleted) or (key in held and compare(want, held[key]) is not None)
    ]


def _counted(documents: Iterable[Document], counter: Counter[str], keep: Keep) -> Iterator[Document]:
    for document in documents:
        counter["documents"] += 1
        if counter["documents"] % KEEP_EVERY == 0:
            keep()
        yield document


def _opened(documents: Iterator[Document]) -> Iterator[Document]:
    """The same stream with its first document read now, which fixes its point in time."""
    first = next(documents, None)
    return iter(()) if first is None else chain([first], documents)
