"""What a first start finds, and what it makes of it: nothing is guessed, and no error is read as absence."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from speakerdb.catalog import journal
from speakerdb.errors import AliasMissing, DatabaseUnavailable, IndexUnavailable, SafetyStop
from speakerdb.index.opening import open_index
from speakerdb.service import SpeakerDB
from speakerdb.settings import OpenSearchSettings, Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, fake_vector
from speakerdb.testing.faults import Fault, FaultQueue, FaultyIndex
from speakerdb.testing.invariants import check
from speakerdb.testing.servers.opensearch import OpenSearch
from speakerdb.types import SERVING_ALIAS, AliasAction, Document, Kind


@pytest.fixture(params=["embedded", "opensearch"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """An installation that was never started, on either index."""
    if request.param == "embedded":
        return fake_settings(tmp_path)
    server: OpenSearch = request.getfixturevalue("opensearch")
    prefix: str = request.getfixturevalue("opensearch_prefix")
    return fake_settings(
        tmp_path, opensearch=OpenSearchSettings(hosts=(server.url,), prefix=prefix, replicas=0, retry_seconds=1.0)
    )


def start(settings: Settings) -> SpeakerDB:
    return SpeakerDB.open(settings, executor=FakeExecutor())


def put(settings: Settings, name: str, *aliases: str, dimension: int = 24, documents: int = 1, **mark: str) -> None:
    """An index that is there already."""
    index = open_index(settings)
    index.create(name, dimension, mark)
    if documents:
        index.update_aliases([AliasAction.add("speakers_filling", name)])
        index.bulk(
            "speakers_filling",
            [
                Document(str(n), 5, "", Kind.SPEAKER, "lib_1", "rec", None, fake_vector(str(n), dimension))
                for n in range(documents)
            ],
        )
        index.update_aliases([AliasAction.remove("speakers_filling", name)])
        index.refresh(name)
    if aliases:
        index.update_aliases([AliasAction.add(alias, name) for alias in aliases])
    index.close()


def untouched(settings: Settings, *names: str) -> None:
    """Nothing was made, and SQL knows nothing."""
    index = open_index(settings)
    assert tuple(sorted(index.indices())) == names
    index.close()
    with SpeakerDB.open(settings, executor=FakeExecutor(), start=False) as db, db.catalog.read() as tx:
        assert journal.known_generations(tx) == {}


def test_nothing_is_there(settings: Settings) -> None:
    with start(settings) as db:
        assert db.serving.resolve().index == "speakers_v3"
        check(db)


def test_alias_and_index_are_there(settings: Settings) -> None:
    start(settings).close()
    with start(settings) as db:
        assert db.serving.resolve().generation.name == "v3"
        assert list(db.index.indices()) == ["speakers_v3"]
        check(db)


def test_only_the_alias_says_what_serves(settings: Settings) -> None:
    """Its index has another name than the setting would give it."""
    start(settings).close()
    settings = settings.model_copy(update={"serving": "v4"})
    with start(settings) as db:
        assert db.serving.resolve().generation.name == "v3"


def test_an_empty_index_that_a_first_start_left_is_used(settings: Settings) -> None:
    mark = {"generation": "v3", "fingerprint": settings.known_generations()["v3"].fingerprint}
    put(settings, "speakers_v3", documents=0, **mark)
    with start(settings) as db:
        check(db)


def test_indices_without_an_alias_are_not_guessed_at(settings: Settings) -> None:
    put(settings, "speakers_v3")
    put(settings, "speakers_v4", dimension=16)
    with pytest.raises(AliasMissing, match="speakers_v3, speakers_v4") as error:
        start(settings)
    assert "speakerdb index import speakers_v3" in error.value.hint
    assert "speakerdb index import speakers_v4" in error.value.hint
    untouched(settings, "speakers_v3", "speakers_v4")


def test_one_index_without_an_alias_is_not_guessed_at_either(settings: Settings) -> None:
    put(settings, "speakers_v3")
    with pytest.raises(AliasMissing):
        start(settings)
    untouched(settings, "speakers_v3")


def test_the_alias_is_another_applications(settings: Settings) -> None:
    put(settings, "speakers_of_old", SERVING_ALIAS)
    with pytest.raises(SafetyStop, match="knows no generation") as error:
        start(settings)
    assert "speakerdb index import speakers_of_old" in error.value.hint
    untouched(settings, "speakers_of_old")


def test_a_concrete_index_has_the_aliass_name(settings: Settings) -> None:
    put(settings, SERVING_ALIAS)
    with pytest.raises(SafetyStop, match="before speakerdb") as error:
        start(settings)
    assert "speakerdb index adopt" in error.value.hint
    untouched(settings, SERVING_ALIAS)


def test_a_concrete_index_has_the_aliass_name_even_where_a_library_is_used(settings: Settings) -> None:
    start(settings).close()
    index = open_index(settings)
    index.update_aliases([AliasAction.remove(SERVING_ALIAS, "speakers_v3")])
    index.close()
    put(settings, SERVING_ALIAS, documents=0)
    with pytest.raises(SafetyStop, match="before speakerdb"):
        start(settings)


def test_a_library_whose_alias_is_gone_starts_and_says_so(settings: Settings) -> None:
    with start(settings) as db:
        db.index.update_aliases([AliasAction.remove(SERVING_ALIAS, "speakers_v3")])
        index = db.index
        index.bulk("speakers_v3_write", [Document("x", 5, "", Kind.SPEAKER, "l", "r", None, fake_vector("x", 24))])
        index.refresh("speakers_v3")
    with start(settings) as db:
        problems = {problem.code: problem.command for problem in db.status().problems}
        assert problems["alias-missing"] == "speakerdb index rebuild v3"


@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_ACK])
@pytest.mark.parametrize("call", ["aliases", "indices", "create", "update_aliases"])
def test_an_error_while_asking_is_not_absence(tmp_path: Path, call: str, fault: Fault) -> None:
    """Each of the first start's calls fails in turn; it comes out, and the next start is as if it had been the first."""
    for nth in itertools.count():
        settings = fake_settings(tmp_path / str(nth))
        faults = FaultQueue()
        faults.next(call, *[Fault.PASS] * nth, fault)
        calls: list[str] = []
        index = FaultyIndex(open_index(settings), faults)
        index.on_call(lambda name, _when, calls=calls: calls.append(name))
        try:
            SpeakerDB.open(settings, index=index, executor=FakeExecutor()).close()
            met = False
        except IndexUnavailable:
            met = True
            asked = call in ("aliases", "indices") and not nth
            assert not asked or not {"create", "update_aliases"} & set(calls), "something was made before all was known"
        index.close()
        with start(settings) as db:
            check(db)
        if not met:
            assert faults.waiting, "the fault was met, and passed over"
            break
    assert nth, f"no first start calls {call}"


@pytest.mark.parametrize("call", ["aliases", "indices"])
def test_a_read_that_fails_makes_nothing_of_what_is_there(settings: Settings, call: str) -> None:
    put(settings, SERVING_ALIAS)
    faults = FaultQueue()
    faults.next(call, Fault.LOSE_REQUEST)
    index = FaultyIndex(open_index(settings), faults)
    with pytest.raises(IndexUnavailable):
        SpeakerDB.open(settings, index=index, executor=FakeExecutor())
    index.close()
    untouched(settings, SERVING_ALIAS)


def test_sql_that_cannot_be_read_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = fake_settings(tmp_path)
    SpeakerDB.upgrade(settings)

    def refuse(*_: object) -> tuple[str, ...]:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "live_generations", refuse)
        with pytest.raises(DatabaseUnavailable):
            start(settings)
    untouched(settings)
