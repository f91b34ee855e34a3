"""A whole library on OpenSearch: what a drain wrote is found at once, and no load leaves its settings behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.service import SpeakerDB
from speakerdb.settings import OpenSearchSettings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.invariants import check
from speakerdb.testing.servers.opensearch import OpenSearch

pytestmark = pytest.mark.servers


@pytest.fixture
def db(tmp_path: Path, opensearch: OpenSearch, opensearch_prefix: str) -> Iterator[SpeakerDB]:
    cluster = OpenSearchSettings(hosts=(opensearch.url,), prefix=opensearch_prefix, replicas=0)
    with SpeakerDB.open(fake_settings(tmp_path, opensearch=cluster), executor=FakeExecutor()) as opened:
        assert isinstance(opened.index, OpenSearchIndex)
        yield opened


def add(db: SpeakerDB, name: str) -> str:
    return db.add(None, two_voices(), recording_id=name, waveform=silence(20)).speakers["SPEAKER_00"]


def test_what_a_drain_wrote_is_found_at_once(db: SpeakerDB) -> None:
    db.index.tune("speakers_v3", loading=True)  # so that nothing but a refresh of ours shows it
    ids = [add(db, name) for name in ("a", "b")]
    db.work()
    assert {match.id for match in db.match(speaker=ids[0], k=9).matches} >= {ids[1]}
    ids.append(add(db, "c"))
    db.work()
    assert {match.id for match in db.match(speaker=ids[0], k=9).matches} >= set(ids[1:])


def test_no_load_leaves_its_settings_behind(db: SpeakerDB) -> None:
    ids = [add(db, name) for name in ("a", "b")]
    db.work()
    db.start_migration("v4", force=True)
    assert list(db.index.troubles()) == [], "it may last for weeks: that is no load"
    db.index.tune("speakers_v4", loading=True)  # as a load that died would leave it
    assert any("speakers_v4" in sentence for sentence in db.index.troubles())
    db.work()
    db.finalize()
    assert list(db.index.troubles()) == []
    assert db.match(speaker=ids[0]).generation == "v4"
    db.migrator.rebuild(db.generations["v4"])
    assert list(db.index.troubles()) == []
    assert {match.id for match in db.match(speaker=ids[0], k=9).matches} >= {ids[1]}
    check(db)
