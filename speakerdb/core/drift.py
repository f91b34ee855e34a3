"""What a repair thinks of one document, and what keeps a whole repair from acting. Pure: no I/O.

Both sides are read in this order: the index first (one point in time), SQL after it. So what SQL does not know was not merely
added in between; and what was changed in between is young, and is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

import numpy as np

from speakerdb.core.digests import Mark, bucket_of, digest_of
from speakerdb.core.pooling import content_hash
from speakerdb.types import Document, FloatArray, Kind

NORM_TOLERANCE = 1e-3
"""How far from 1 the norm of a vector may be that was stored in float32, about."""
FIRST_DELAY, LONGEST_DELAY = 60.0, 86_400.0
"""Seconds that something stays in quarantine after its first attempt, and after its tenth or a hundredth."""


HIGHEST = 2**62
"""Versions from this one on are no clock's, and above them there is soon no room: a document that bears one can only be left
behind, by a rebuild. What we write ourselves never comes near what an engine or a database can hold."""
BEYOND = "its version is beyond any that can be written over; `speakerdb index rebuild` leaves it behind"
UNHELD = "no database can hold its id; `speakerdb index rebuild` leaves it behind"


class Drift(StrEnum):
    """How one document differs from SQL."""

    MISSING = "missing"
    ORPHANED = "orphaned"
    """A live document that SQL has no row for."""
    UNFOUNDED = "unfounded"
    """A live document whose row is there, and neither a speaker nor a profile behind it."""
    STALE = "stale"
    """An older version than SQL's, or the same one with another content hash, or alive where it should not be."""
    AHEAD = "ahead"
    """A higher version than SQL's, as after a restored database, or by hand."""
    FILTERS = "filters"
    """The same version and hash, and other filters than these are the hash of."""
    VECTOR = "vector"
    """The same version and hash, and another vector."""
    MALFORMED = "malformed"
    """Its vector has another dimension, is not finite or not of unit norm; or fields are missing."""
    LOST = "lost-vector"
    """SQL itself has lost the vector, or holds one that cannot be."""
    UNFINISHED = "unfinished"
    """A recording that nothing is queued for, and that a live generation does not have."""
    REJECTED = "rejected"
    """The index refuses the document."""
    TOMBSTONE = "tombstone"
    """A tombstone that nobody needs any more, or that SQL has no row for."""


class Mend(StrEnum):
    """What is done about it, the cheapest first."""

    REWRITE = "rewrite"
    """Its version is raised (above the index's), so that the projector writes it again."""
    RECOVER = "recover"
    """The vector is taken back from the index, whose content hash proves it."""
    EXTRACT = "extract"
    """Its recording is queued for extraction; a profile is pooled again."""
    BURY = "bury"
    """It gets a row that says that it is deleted: the projector writes a tombstone. This is what the brake counts."""
    ADOPT = "adopt"
    """A tombstone gets its row back, until it is old enough to be purged."""
    PURGE = "purge"
    """The tombstone's row is forgotten, then the tombstone itself."""
    QUARANTINE = "quarantine"
    """It is left alone for a while."""


@dataclass(frozen=True, slots=True, eq=False)
class Stated:
    """What SQL says of one document."""

    document: Document
    """As the index should hold it; a tombstone where SQL has no vector for it."""
    indexed_version: int
    deleted: bool
    rejection: str | None
    """Why the index refuses this very version."""
    lives: bool
    """Whether there is such a speaker, or such a profile that was not merged into another."""
    known: bool
    """Whether the generation has a word on it: a vector, or a reason why there is none."""
    sound: bool
    """False where the stored vector cannot be one: of another dimension, not finite, or not of unit norm."""
    bucket: int | None
    digest: int | None
    """Of what SQL believes the index to hold, at `indexed_version`; None where that is not known."""


class Believed(NamedTuple):
    """What SQL believes the index to hold of one document."""

    id: str
    version: int
    indexed_version: int
    digest: int | None
    """At `indexed_version`; None where it is not known."""
    deleted: bool


@dataclass(frozen=True, slots=True)
class When:
    """The instants (microseconds) that one comparison goes by."""

    now: int
    """Before anything was read."""
    read: int
    """After the rows were read that are being judged."""
    grace: int
    tombstones_before: int
    """Tombstones of versions below this one are not needed any more."""

    def is_young(self, version: int) -> bool:
        """Whether a row was changed so lately that it is left alone. What lies in the future is of no known age: it was made
        to be above another version, or the clock went back."""
        return self.now - self.grace < version <= self.read


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference and what is to be done about it. Versions are None on the side that lacks the document."""

    id: str
    drift: Drift
    mend: Mend
    stated: int | None
    held: int | None
    kind: Kind = Kind.SPEAKER
    library: str = ""
    detail: str = ""

    @property
    def deletes(self) -> bool:
        """Whether it takes something from the index that nobody asked SQL to delete."""
        return self.mend is Mend.BURY


Standing = Literal["equal", "learn", "lag", "young"]
"""``learn``: equal, and SQL does not know the digest yet. ``lag``: it waits for the projector."""


def judge(want: Stated | None, have: Document | None, when: When, dimension: int) -> Finding | Standing:
    """What one id comes to. At least one side has it."""
    if want is None:
        assert have is not None
        return _unknown(have, when)
    document = want.document
    if document.version > want.indexed_version:
        if want.rejection is None:
            return "lag"
        return _found(want, have, Drift.REJECTED, Mend.QUARANTINE, want.rejection)
    if when.is_young(document.version):
        return "young"
    if (lost := _lost(want, have, dimension)) is not None:
        return lost
    if have is None:
        if want.deleted and document.version < when.tombstones_before:
            return _found(want, have, Drift.TOMBSTONE, Mend.PURGE)
        return _found(want, have, Drift.MISSING, Mend.REWRITE)
    if (drift := _difference(document, have, dimension)) is not None:
        if have.version >= HIGHEST:
            return _found(want, have, drift, Mend.QUARANTINE, BEYOND)
        if not (want.deleted or want.lives or have.deleted):
            return _found(want, have, Drift.UNFOUNDED, Mend.BURY)
        return _found(want, have, drift, Mend.REWRITE)
    if want.deleted and document.version < when.tombstones_before:
        return _found(want, have, Drift.TOMBSTONE, Mend.PURGE)
    known = want.bucket is not None and want.digest == digest_of(document.id, document.version, document.content_hash)
    return "equal" if known else "learn"


def is_as_believed(want: Believed, mark: Mark | None, when: When) -> bool:
    """Whether a document need not be looked at: its row waits for the projector, or is what the index holds.

    By the digests that the buckets are compared by: what they cannot tell is left to the walk that reads vectors.
    """
    if want.version > want.indexed_version:
        return True  # what the index refuses is looked for by itself
    if mark is None or want.digest is None or (mark.version, mark.digest) != (want.version, want.digest):
        return False
    return not (want.deleted and want.version < when.tombstones_before)


def _unknown(have: Document, when: When) -> Finding:
    """A document that SQL has no row for: SQL was read after it, so it was not merely added in between."""
    facts = (None, have.version, have.kind, have.library_id)
    if have.version >= HIGHEST:
        return Finding(have.id, Drift.ORPHANED, Mend.QUARANTINE, *facts, BEYOND)
    if not have.deleted:
        return Finding(have.id, Drift.ORPHANED, Mend.BURY, *facts)
    mend = Mend.PURGE if have.version < when.tombstones_before else Mend.ADOPT
    return Finding(have.id, Drift.TOMBSTONE, mend, *facts)


def _lost(want: Stated, have: Document | None, dimension: int) -> Finding | Standing | None:
    """Where SQL itself has lost the vector of something that lives. Writing a tombstone would destroy the last copy."""
    if want.deleted or not want.lives or (want.known and want.sound):
        return None
    if want.document.kind is Kind.PROFILE and not want.known:
        return "lag"  # it is dirty, and is pooled again
    detail = "the stored vector cannot be one" if want.known else "there is no vector any more"
    proven = have is not None and want.document.kind is Kind.SPEAKER and is_proven(want, have, dimension)
    return _found(want, have, Drift.LOST, Mend.RECOVER if proven else Mend.EXTRACT, detail)


def is_proven(want: Stated, have: Document, dimension: int) -> bool:
    """Whether a document is what was written to the index when SQL had its vector: by its own content hash, by the digest
    that SQL kept of it, and by its version."""
    if have.vector is None or not is_sound(have.vector, dimension) or have.version != want.document.version:
        return False
    filters = (have.kind.value, have.library_id, have.recording_id, have.profile_id)
    if content_hash(have.vector, *filters) != have.content_hash:
        return False
    return want.digest is None or digest_of(have.id, have.version, have.content_hash) == want.digest


def _difference(want: Document, have: Document, dimension: int) -> Drift | None:
    if have.version != want.version:
        return Drift.STALE if have.version < want.version else Drift.AHEAD
    mine = (want.content_hash, want.kind, want.library_id, want.recording_id, want.profile_id)
    its = (have.content_hash, have.kind, have.library_id, have.recording_id, have.profile_id)
    if mine == its and _equal(want.vector, have.vector):
        return None  # nearly all of them: the rest is only asked of what differs
    if have.vector is not None and not (have.content_hash and is_sound(have.vector, dimension)):
        return Drift.MALFORMED
    if (want.content_hash, want.deleted) != (have.content_hash, have.deleted):
        return Drift.STALE
    return Drift.FILTERS if mine != its else Drift.VECTOR


def _equal(one: FloatArray | None, other: FloatArray | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.tobytes() == other.tobytes()


def is_sound(vector: FloatArray, dimension: int) -> bool:
    """Whether a vector can be one of a generation's: its shape, finite, of unit norm."""
    if vector.shape != (dimension,):
        return False
    squares = float(np.vdot(vector, vector))
    return abs(squares - 1.0) <= 2 * NORM_TOLERANCE  # false for NaN, and for what is infinite


def _found(want: Stated, have: Document | None, drift: Drift, mend: Mend, detail: str = "") -> Finding:
    document = want.document
    held = None if have is None else have.version
    return Finding(document.id, drift, mend, document.version, held, document.kind, document.library_id, detail)


# What is looked at

ALL_BUCKETS = None


@dataclass(frozen=True, slots=True)
class Sums:
    """What SQL believes an index to hold, by bucket, and what it knows besides."""

    documents: dict[int, int]
    digests: dict[int, int]
    unknown: int
    """Rows whose bucket or digest is not known: they were acknowledged before it was kept, or by a rebuild."""
    unplaced: bool
    """Whether some of them have no bucket: then no bucket can be compared."""
    rows: int
    live: int
    newest: int
    """The highest version of all rows."""
    waiting: int


def differing(sums: Sums, held: dict[int, tuple[int, int]]) -> frozenset[int] | None:
    """The buckets in which SQL and an index (count and sum of digests) differ; None where that cannot be said of single
    ones: a row without a bucket, or a document without one, may belong to any."""
    if sums.unplaced or any(bucket < 0 for bucket in held):
        return ALL_BUCKETS
    every = {*sums.documents, *held}
    return frozenset(
        bucket for bucket in every
        if (sums.documents.get(bucket, 0), sums.digests.get(bucket, 0)) != held.get(bucket, (0, 0))
    )  # fmt: skip


def learned(id: str, version: int, hashed: str) -> tuple[str, int, int, int]:
    """What SQL is to remember of a document that was found equal: id, version, bucket, digest."""
    return id, version, bucket_of(id), digest_of(id, version, hashed)


# What keeps a repair from acting

FORCES = ("deletions", "restored", "empty")
"""What a person may say, by name, to let a repair act against a brake."""


@dataclass(frozen=True, slots=True)
class Brake:
    """Why a whole repair does nothing. `force` is the name that lets it act all the same."""

    code: str
    force: str
    message: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What a plan comes to, for the brakes."""

    generation: str
    rows: int
    live: int
    documents: int
    """Live documents of the index."""
    newest_stated: int
    newest_held: int
    restored: bool
    """The database was restored, and this index was not built again since."""
    ahead: int
    """Documents whose version is above SQL's."""
    unknown: int
    """Documents that nothing in SQL stands behind, in whatever library."""
    deletions: int
    """Those of them that the plan would delete."""
    deleted_before: int
    """By repairs of the last 24 hours."""
    least: int
    share: float

    @property
    def allowed(self) -> int:
        """How many deletions 24 hours may see."""
        return max(self.least, int(self.share * self.live))

    @property
    def is_older(self) -> bool:
        """Whether the index knows what the database never knew."""
        return self.restored or self.newest_held > self.newest_stated or self.ahead > 0

    @property
    def why_older(self) -> str:
        """By what that is known, in words."""
        if self.ahead:
            return f"{self.ahead:,} of its documents are newer than their row"
        if self.newest_held > self.newest_stated:
            return "its newest version is above every one in the database"
        return "it was found to be ahead of the database, and was not built again since"


def brakes(scene: Scene, forced: Collection[str] = ()) -> Iterator[Brake]:
    """Everything that keeps this plan from being carried out, the worst first."""
    if not scene.rows and scene.documents and "empty" not in forced:
        yield Brake(
            "empty-source", "empty",
            f"The database has no row for {scene.generation}, and its index holds {scene.documents:,} documents.",
        )  # fmt: skip
    if scene.is_older and scene.unknown and "restored" not in forced:
        yield Brake(
            "restored-source", "restored",
            f"The index of {scene.generation} knows what the database does not: {scene.why_older}, and {scene.unknown:,} of its"
            " documents have no row. So the database seems to be an older copy, and nothing is mended.",
        )  # fmt: skip
    if scene.deletions and scene.deletions + scene.deleted_before > scene.allowed and "deletions" not in forced:
        before = f", after {scene.deleted_before:,} in the last 24 hours" if scene.deleted_before else ""
        yield Brake(
            "deletion-brake", "deletions",
            f"{scene.deletions:,} documents would be deleted from the index of {scene.generation}{before};"
            f" {scene.allowed:,} may be.",
        )  # fmt: skip


def delay(attempts: int) -> float:
    """Seconds until something that was not mended is tried again: a minute, doubled by each attempt, a day at most."""
    return min(FIRST_DELAY * 2.0 ** min(attempts - 1, 30), LONGEST_DELAY)
