"""One index that is red, closed or blocked, of ours or of another application: what needs it not goes on, and mends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speakerdb.errors import IndexUnavailable
from speakerdb.scheduler.service import Service
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.servers.opensearch import OpenSearch

SICK = ("red", "closed", "unreadable")


def wait_for(happened: Callable[[], bool], what: str) -> None:
    late = time.monotonic() + 60.0
    while not happened():
        assert time.monotonic() < late, f"{what} did not happen"
        time.sleep(0.05)


@pytest.fixture
def settings(tmp_path: Path, opensearch: OpenSearch, opensearch_prefix: str) -> Settings:
    to = {"hosts": [opensearch.url], "prefix": opensearch_prefix, "replicas": 0, "retry_seconds": 0.5}
    return fake_settings(tmp_path / "library", opensearch=to, repair={"grace_seconds": 0})


@pytest.fixture
def open_db(settings: Settings) -> Iterator[Callable[[], SpeakerDB]]:
    opened: list[SpeakerDB] = []

    def make() -> SpeakerDB:
        opened.append(SpeakerDB.open(settings, executor=FakeExecutor()))
        return opened[-1]

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def harm(opensearch: OpenSearch, opensearch_prefix: str) -> Callable[[str, str], None]:
    """An index is what it is said to be from now on; it is made where it is not there."""

    def do(name: str, how: str) -> None:
        wired = f"{opensearch_prefix}{name}"
        if how == "red":
            body: dict[str, Any] = {
                "settings": {"number_of_replicas": 0, "index.routing.allocation.require.none": "such"}
            }
            if name != "speakers_stranger":  # as after the loss of the node that had it
                (told,) = opensearch.ask("GET", f"/{wired}").values()
                kept = {key: told["settings"]["index"][key] for key in ("knn", "number_of_shards")}
                body["settings"] |= {f"index.{key}": value for key, value in kept.items()}
                body |= {"mappings": told["mappings"], "aliases": told["aliases"]}
                opensearch.ask("DELETE", f"/{wired}")
            opensearch.ask("PUT", f"/{wired}?wait_for_active_shards=0", body)
            return
        if name == "speakers_stranger":
            opensearch.ask("PUT", f"/{wired}", {"settings": {"number_of_replicas": 0}})
        if how == "closed":
            opensearch.ask("POST", f"/{wired}/_close")
        else:
            opensearch.ask("PUT", f"/{wired}/_settings", {"index.blocks.read": True})

    return do


def filled(db: SpeakerDB, *names: str) -> str:
    for name in names:
        db.add(None, two_voices(), recording_id=name, waveform=silence(20.0))
    db.work()
    return db.speakers(recording=names[0])[0].id


@pytest.mark.parametrize("how", SICK)
def test_a_strangers_index_stops_nothing(
    open_db: Callable[[], SpeakerDB], harm: Callable[[str, str], None], how: str
) -> None:
    speaker = filled(open_db(), "one", "two")
    harm("speakers_stranger", how)
    db = open_db()
    assert db.status().serving == "v3"
    assert db.match(speaker=speaker).matches
    filled(db, "three")
    assert db.repairer.check().generations[0].state == "done"
    assert db.rebuild_index("v3").alias_moved
    assert db.match(speaker=db.speakers(recording="three")[0].id).matches


@pytest.mark.parametrize("how", SICK)
def test_it_is_known_that_nothing_is_answered(
    open_db: Callable[[], SpeakerDB], harm: Callable[[str, str], None], how: str
) -> None:
    """The alias is there all the while."""
    db = open_db()
    filled(db, "one")
    service = Service(db, jobs=False)
    service.start()
    try:
        db.index.ping("speakers")
        wait_for(lambda: service.ready() == (True, []), "its readiness")
        harm("speakers_stranger", how)
        db.index.ping("speakers")
        harm("speakers_v3", how)
        with pytest.raises(IndexUnavailable):
            db.index.ping("speakers")
        wait_for(lambda: not service.ready()[0], "that it is not ready")
        told = service.metrics.render()
        assert b"speakerdb_index_up 0.0" in told
        assert b'speakerdb_serving{generation="v3"} 1.0' in told
        db.rebuild_index("v3")
        wait_for(lambda: service.ready() == (True, []), "that it is ready again")
        assert b"speakerdb_index_up 1.0" in service.metrics.render()
    finally:
        service.stop()


@pytest.mark.parametrize("how", SICK)
def test_the_index_that_serves_is_built_again(
    open_db: Callable[[], SpeakerDB], harm: Callable[[str, str], None], how: str
) -> None:
    """As the docs promise: a lost index is one command."""
    speaker = filled(open_db(), "one", "two")
    harm("speakers_v3", how)
    db = open_db()
    assert db.status().serving == "v3"
    with pytest.raises(IndexUnavailable):
        db.match(speaker=speaker)
    assert db.rebuild_index("v3").alias_moved
    assert db.match(speaker=speaker).matches


def test_a_source_that_is_red_does_not_hold_up_what_serves(
    open_db: Callable[[], SpeakerDB], harm: Callable[[str, str], None]
) -> None:
    """In the roll-back period: what is new is extracted, found where it serves, and written to the source when it is back."""
    db = open_db()
    filled(db, "one", "two")
    for name in ("one", "two"):
        db.extraction.keep(name, silence(20.0))
    db.start_migration("v4", force=True)
    db.work()
    assert db.finalize().serving == "v4"
    harm("speakers_v3", "red")
    for number in range(8):
        db.add(None, two_voices(), recording_id=f"new-{number}", waveform=silence(20.0))
    db.worker.run(forever=True, stop=lambda: waiting(db) == {"v3"})
    assert not db.progress("v4").recordings_queued
    assert db.match(speaker=db.speakers(recording="new-7")[0].id).matches
    db.retire()
    assert {problem.code for problem in db.status().problems} <= {"index-trouble"}


def waiting(db: SpeakerDB) -> set[str]:
    """Generations with documents that are not written; both while something is in the queue."""
    found = {name: db.progress(name) for name in ("v3", "v4")}
    return {name for name, one in found.items() if one.documents_waiting or one.recordings_queued}
