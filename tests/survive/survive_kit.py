"""A library on the real servers, and an account of what was acknowledged that asks nobody."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from survive_proxies import PATIENCE

from speakerdb.service import SpeakerDB
from speakerdb.settings import OpenSearchSettings, Settings
from speakerdb.testing import invariants
from speakerdb.testing.factories import FakeExecutor, fake_settings, fake_vector, silence, two_voices
from speakerdb.testing.invariants import Monitor, View
from speakerdb.types import Filter, FloatArray, Kind

ITSELF = 0.999
"""A score that only a voice itself reaches."""
QUICK = {"timeout_seconds": 2.0, "retry_seconds": 1.0}
"""For tests in which the cluster does not answer: how long the application waits is a setting."""


@dataclass
class Place:
    """Where a library lies: its folder, its database, and its OpenSearch (`None`: the embedded index)."""

    folder: Path
    database: str
    search: str | tuple[str, ...] | None
    prefix: str
    opened: list[SpeakerDB] = field(default_factory=list)

    def settings(self, *, folder: str = "library", search: dict[str, Any] | None = None, **more: Any) -> Settings:
        """Its settings; `search` are further settings of the group `opensearch`."""
        given: dict[str, Any] = {"database_url": self.database, "fence_seconds": 5.0} | more
        if self.search is not None:
            hosts = (self.search,) if isinstance(self.search, str) else self.search
            values: dict[str, Any] = {"hosts": hosts, "prefix": self.prefix, "replicas": 0} | (search or {})
            given["opensearch"] = OpenSearchSettings(**values)
        return fake_settings(self.folder / folder, **given)

    def open(self, *, executor: FakeExecutor | None = None, **more: Any) -> SpeakerDB:
        """Opens it, as one process more."""
        db = SpeakerDB.open(self.settings(**more), executor=executor or FakeExecutor())
        self.opened.append(db)
        return db

    def close(self) -> None:
        """Closes every handle."""
        for db in self.opened:
            db.close()
        self.opened.clear()


@dataclass
class Told:
    """What a user was told. `has`: acknowledged recordings and their speakers; `gone`: acknowledged removals; `unsure`: an
    answer did not come, so either is right."""

    has: dict[str, tuple[str, ...]] = field(default_factory=dict)
    gone: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    monitor: Monitor = field(default_factory=Monitor)

    def add(self, db: SpeakerDB, *names: str) -> None:
        """Adds recordings of two voices each."""
        for name in names:
            self.unsure.add(name)
            db.add(None, two_voices(), recording_id=name, waveform=silence(20))
            self.has[name] = tuple(sorted(one.id for one in db.speakers(recording=name)))
            self.gone.pop(name, None)
            self.unsure.discard(name)
            assert len(self.has[name]) == 2

    def remove(self, db: SpeakerDB, name: str) -> None:
        """Removes a recording."""
        self.unsure.add(name)
        db.remove(name)
        self.gone[name] = self.has.pop(name)
        self.unsure.discard(name)

    def asked(self, db: SpeakerDB) -> None:
        """What became of it where no answer came: all of it or nothing."""
        for name in self.unsure & {one.id for one in db.recordings()}:
            self.has[name] = tuple(sorted(one.id for one in db.speakers(recording=name)))
            assert len(self.has[name]) == 2, f"{name} was half added"
        for name in self.unsure - self.has.keys():
            assert not [one for one in db.speakers() if one.recording_id == name]
        self.unsure.clear()

    def kept(self, db: SpeakerDB) -> None:
        """In SQL nothing that was acknowledged is lost, and nothing that was removed is back."""
        there = {one.id for one in db.recordings()}
        assert set(self.has) - self.unsure <= there, "an acknowledged recording is lost"
        assert not (set(self.gone) - self.unsure) & there, "a removed recording is back"
        assert there <= set(self.has) | self.unsure, "a recording that nobody added"

    def settled(self, db: SpeakerDB) -> View:
        """When all is well again: somebody works, then the invariants hold, nothing waits, and every voice answers as itself.

        What a voice's vector must be is worked out here, from its id and the generation's name alone.
        """
        self.kept(db)
        db.serving.forget()
        db.work()
        view = self.monitor.check(db)
        for (name, entity), row in view.projections.items():
            assert name not in view.live or row.version == row.indexed_version, f"{entity} still waits in {name}"
        for name in view.live:
            invariants.complete(view, name)
            documents = view.documents[name].values()
            living = {one.id for one in documents if one.kind is Kind.SPEAKER and not one.deleted}
            assert living == set(view.speakers), f"the index of {name} holds other voices than SQL"
            db.index.refresh(view.concrete(name))
            self.answers(db, name)
        again = db.work()
        assert (again.documents_written, again.recordings_done, again.recordings_failed) == (0, 0, 0), f"{again}"
        return view

    def answers(self, db: SpeakerDB, generation: str) -> None:
        """Every voice that is known answers as itself, and none that was removed does."""
        speakers = [each for both in (*self.has.values(), *self.gone.values()) for each in both]
        known = {each for both in self.has.values() for each in both}
        found = db.index.search(
            db.serving.index_of(db.generations[generation]),
            np.stack([vector_of(db, generation, each) for each in speakers]),
            3,
            Filter(kinds=(Kind.SPEAKER,)),
        )
        for speaker, hits in zip(speakers, found, strict=True):
            itself = [hit.id for hit in hits if hit.score > ITSELF]
            assert itself == ([speaker] if speaker in known else []), f"{speaker} in {generation}: {hits}"
        for speaker in speakers[:2]:
            if speaker in known:  # and through the whole system
                best = db.match(vector=vector_of(db, generation, speaker), generation=generation, k=1).matches[0]
                assert (best.id, best.score > ITSELF) == (speaker, True), f"{speaker} in {generation}: {best}"


def vector_of(db: SpeakerDB, generation: str, speaker: str) -> FloatArray:
    """What the fake executor answers for a speaker of a recording that never changed."""
    return fake_vector(f"{generation}/{speaker}/1", db.generations[generation].dimension)


def wait_for(happened: Callable[[], object], what: str, meanwhile: Sequence[object] = ()) -> None:
    """Waits until it is so; fails where it never is, with the last of what was met `meanwhile`."""
    late = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < late, f"{what} did not happen: {list(meanwhile[-3:])}"
        time.sleep(0.02)


def codes(db: SpeakerDB) -> dict[str, str]:
    """The problems that `status` names, each with its command."""
    return {problem.code: problem.command for problem in db.status().problems}
