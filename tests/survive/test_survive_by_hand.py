"""Somebody works on the cluster behind our back: indices, aliases and documents that change without us.

`status` says it, the command that it names mends it, and until then nothing wrong is shown.
"""

from __future__ import annotations

import base64
import urllib.error
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from survive_kit import Place, Told, codes
from survive_proxies import Answer, Exchange, HttpProxy

from speakerdb.errors import AliasMissing, GateFailed, IndexMissing, SpeakerDBError
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_vector
from speakerdb.testing.servers.opensearch import OpenSearch
from speakerdb.types import Document, Kind, WriteOutcome


def obey(db: SpeakerDB, *wanted: str) -> None:
    """Run the first command that `status` names for one of these problems, as a person would."""
    named = {problem.code: problem.command for problem in db.status().problems}
    command = next((named[code] for code in wanted if code in named), None)
    assert command is not None, f"status names none of {wanted}: {db.status().problems}"
    words = command.split()
    assert words[:3] == ["speakerdb", "index", "rebuild"], command
    for name in db.serving.live() if "--all" in words else [words[3]]:
        db.rebuild_index(name, serve="--serve" in words)


def migrating(db: SpeakerDB, told: Told) -> None:
    told.add(db, "one", "two", "three")
    db.work()
    told.remove(db, "two")
    db.start_migration("v4", force=True)
    told.settled(db)


# Indices


def test_the_index_that_serves_is_deleted_while_nobody_works(place: Place, opensearch: OpenSearch, told: Told) -> None:
    db = place.open()
    told.add(db, "one", "two")
    told.settled(db)
    told.remove(db, "two")
    opensearch.ask("DELETE", f"/{place.prefix}speakers_v3")
    db.serving.forget()
    with pytest.raises(AliasMissing) as caught:
        db.match(speaker=told.has["one"][0])
    assert (caught.value.exit_code, "index rebuild v3" in caught.value.hint) == (5, True)
    with pytest.raises(IndexMissing) as missing:
        db.work()
    assert (missing.value.exit_code, "index rebuild" in missing.value.hint) == (8, True)
    assert _indices(opensearch, place) == [], "it was made again, without its vectors"
    obey(db, "index-missing")
    told.settled(db)


def test_an_index_is_deleted_in_the_middle_of_a_drain(
    proxied: Place, proxy: HttpProxy, opensearch: OpenSearch, told: Told
) -> None:
    db = proxied.open(batch_recordings=1)
    told.add(db, "one")
    told.settled(db)
    told.add(db, "two", "three", "four")
    bulks = 0

    def plan(exchange: Exchange) -> Answer | None:
        nonlocal bulks
        bulks += "_bulk" in exchange.path
        if bulks == 2:
            opensearch.ask("DELETE", f"/{proxied.prefix}speakers_v3")
            bulks += 1
        return exchange.forward()

    proxy.plan = plan
    with pytest.raises(IndexMissing):
        db.work()
    assert bulks >= 3
    assert _indices(opensearch, proxied) == []
    told.kept(db)
    obey(db, "index-missing")
    told.settled(db)


@pytest.mark.parametrize("which", ["v3", "v4"])
def test_an_end_of_a_migration_is_deleted(place: Place, opensearch: OpenSearch, told: Told, which: str) -> None:
    db = place.open()
    migrating(db, told)
    told.add(db, "four")
    opensearch.ask("DELETE", f"/{place.prefix}speakers_{which}")
    with pytest.raises(SpeakerDBError) as caught:
        db.finalize()
    assert caught.value.code in ("index-missing", "alias-missing", "gate-failed")
    assert "index rebuild" in caught.value.hint, caught.value.hint
    obey(db, "index-missing")
    told.settled(db)
    db.finalize()
    told.settled(db)


@pytest.mark.parametrize("which", ["v3", "v4"])
def test_an_index_is_deleted_within_the_roll_back_period(
    place: Place, opensearch: OpenSearch, told: Told, which: str
) -> None:
    db = place.open()
    migrating(db, told)
    db.finalize()
    opensearch.ask("DELETE", f"/{place.prefix}speakers_{which}")
    obey(db, "index-missing")
    told.settled(db)
    db.rollback()
    told.settled(db)


# Aliases


def _move(*actions: tuple[str, str, str]) -> Callable[[OpenSearch, Place], None]:
    def moved(opensearch: OpenSearch, place: Place) -> None:
        opensearch.ask(
            "POST",
            "/_aliases",
            {
                "actions": [
                    {verb: {"alias": place.prefix + alias, "index": place.prefix + index}}
                    for verb, alias, index in actions
                ]
            },
        )

    return moved


ALIASES: dict[str, tuple[Callable[[OpenSearch, Place], None], str]] = {
    "moved": (_move(("remove", "speakers", "speakers_v3"), ("add", "speakers", "speakers_v4")), "alias-disagrees"),
    "deleted": (_move(("remove", "speakers", "speakers_v3")), "alias-missing"),
    "with a second target": (_move(("add", "speakers", "speakers_v4")), "alias-missing"),
    "write alias moved": (
        _move(("remove", "speakers_v3_write", "speakers_v3"), ("add", "speakers_v3_write", "speakers_v4")),
        "alias-moved",
    ),
    "write alias deleted": (_move(("remove", "speakers_v3_write", "speakers_v3")), "alias-moved"),
    "write alias with a second target": (_move(("add", "speakers_v3_write", "speakers_v4")), "alias-moved"),
}


@pytest.mark.parametrize(
    ("how", "work"),
    [(how, work) for how in ALIASES for work in (False, True) if work == how.startswith("write") or how == "moved"],
)
def test_an_alias_is_changed_by_hand(place: Place, opensearch: OpenSearch, told: Told, how: str, work: bool) -> None:
    change, code = ALIASES[how]
    db = place.open()
    migrating(db, told)
    change(opensearch, place)
    told.add(db, "four")
    told.remove(db, "three")
    if work:
        with suppress(IndexMissing):
            db.work()
    else:
        with pytest.raises(SpeakerDBError) as caught:
            db.finalize()
        assert caught.value.code in ("alias-moved", "alias-missing", "gate-failed")
    obey(db, code)
    told.settled(db)
    assert not {"alias-moved", "alias-missing", "alias-disagrees", "items-rejected"} & codes(db).keys()
    db.finalize()
    told.settled(db)


# Documents


def _path(place: Place, id: str) -> str:
    return f"/{place.prefix}speakers_v4/_doc/{id}"


def _write(opensearch: OpenSearch, place: Place, id: str, source: dict[str, Any], version: int) -> None:
    """As a person with curl would, at a version."""
    opensearch.ask("PUT", f"{_path(place, id)}?version={version}&version_type=external_gte&refresh=true", source)


def _read(opensearch: OpenSearch, place: Place, id: str) -> tuple[dict[str, Any], int]:
    found = opensearch.ask("GET", _path(place, id))
    return found["_source"], found["_version"]


def _with_vector(source: dict[str, Any], text: str) -> dict[str, Any]:
    vector = fake_vector(text, len(source["vector"]) if "vector" in source else 16)
    return source | {
        "vector": vector.tolist(),
        "vector_bytes": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
    }


def _newer(opensearch: OpenSearch, place: Place, told: Told) -> None:
    id = told.has["one"][0]
    source, version = _read(opensearch, place, id)
    _write(opensearch, place, id, _with_vector(source, "another voice") | {"version": version + 9}, version + 9)


def _other_vector(opensearch: OpenSearch, place: Place, told: Told) -> None:
    id = told.has["one"][0]
    source, version = _read(opensearch, place, id)
    _write(opensearch, place, id, _with_vector(source, "another voice"), version)


def _unknown(opensearch: OpenSearch, place: Place, told: Told) -> None:
    source, version = _read(opensearch, place, told.has["one"][0])
    _write(opensearch, place, "spk_nobody", source | {"id": "spk_nobody"}, version)


def _removed(opensearch: OpenSearch, place: Place, told: Told) -> None:
    opensearch.ask("DELETE", f"{_path(place, told.has['one'][0])}?refresh=true")


def _awake(opensearch: OpenSearch, place: Place, told: Told) -> None:
    """A removed voice is written in the place of its tombstone."""
    tombstone, version = _read(opensearch, place, told.gone["two"][0])
    source, _ = _read(opensearch, place, told.has["one"][0])
    _write(opensearch, place, tombstone["id"], source | {"id": tombstone["id"]}, version)


DOCUMENTS = {
    "newer": (_newer, "ahead"),
    "another vector of the same version": (_other_vector, "vector"),
    "unknown": (_unknown, "orphaned"),
    "removed": (_removed, "missing"),
    "in the place of a tombstone": (_awake, "different"),
}


@pytest.mark.parametrize("how", DOCUMENTS)
def test_a_document_that_is_written_by_hand_is_found_by_the_gates_and_shown_to_nobody(
    place: Place, opensearch: OpenSearch, told: Told, how: str
) -> None:
    by_hand, difference = DOCUMENTS[how]
    db = place.open()
    told.add(db, "one", "two", "three")
    db.start_migration("v4", force=True)
    db.work()
    told.remove(db, "two")
    told.settled(db)
    by_hand(opensearch, place, told)

    with pytest.raises(GateFailed) as caught:
        db.finalize()
    assert (caught.value.exit_code, "index rebuild v4" in caught.value.hint) == (10, True)
    equality = next(check for check in caught.value.details["report"].checks if check.name == "equality")
    assert difference in equality.value, equality
    known = {each for both in told.has.values() for each in both}
    for speaker in known:
        assert {match.id for match in db.match(speaker=speaker, generation="v4").matches} <= known

    db.rebuild_index("v4")
    told.settled(db)
    db.finalize()
    told.settled(db)


def test_a_newer_document_is_overtaken_when_its_voice_changes(place: Place, opensearch: OpenSearch, told: Told) -> None:
    db = place.open()
    told.add(db, "one", "two")
    db.start_migration("v4", force=True)
    told.settled(db)
    _newer(opensearch, place, told)
    db.assign(told.has["one"][0], db.create_profile("Ada").id)
    db.work()
    told.settled(db)
    db.finalize()


def test_a_tombstone_that_is_removed_by_hand_lets_nothing_be_shown(
    place: Place, opensearch: OpenSearch, told: Told
) -> None:
    """What stops a stale writer is gone, so one may write; what it wrote is still no answer, and the gates find it."""
    db = place.open()
    told.add(db, "one", "two")
    db.start_migration("v4", force=True)
    told.settled(db)
    dead = told.has["two"][0]
    before = db.index.fetch("speakers_v4", [dead])[dead]
    told.remove(db, "two")
    told.settled(db)
    assert db.index.bulk("speakers_v4_write", [before])[0].outcome is WriteOutcome.CONFLICT
    opensearch.ask("PUT", f"/{place.prefix}speakers_v4/_settings", {"index.gc_deletes": "0s"})
    opensearch.ask("DELETE", f"{_path(place, dead)}?refresh=true")
    opensearch.ask("PUT", f"{_path(place, dead)}?refresh=true", _with_vector(_filters(before), "x"))

    shown = {match.id for match in db.match(speaker=told.has["one"][0], generation="v4", k=9).matches}
    assert dead not in shown
    with pytest.raises(GateFailed):
        db.finalize()
    db.rebuild_index("v4")
    told.settled(db)
    db.finalize()


def _filters(document: Document) -> dict[str, Any]:
    return {
        "id": document.id, "version": document.version, "content_hash": document.content_hash,
        "kind": Kind.SPEAKER.value, "library_id": document.library_id, "bucket": 0, "digest": 0,
    }  # fmt: skip


REFUSED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a wrong dimension": lambda source: source | {"vector": source["vector"][:-1]},
    "a wrong type": lambda source: source | {"vector": "not a vector"},
    "a text where a number is": lambda source: source | {"version": "tomorrow"},
    "a field that nobody knows": lambda source: source | {"name": "Ada"},
    "no vector's length": lambda source: source | {"vector": [0.0] * len(source["vector"])},
}


@pytest.mark.parametrize("how", REFUSED)
def test_the_mapping_refuses_what_does_not_fit(place: Place, opensearch: OpenSearch, told: Told, how: str) -> None:
    db = place.open()
    told.add(db, "one", "two")
    db.start_migration("v4", force=True)
    told.settled(db)
    id = told.has["one"][0]
    source, version = _read(opensearch, place, id)
    with pytest.raises(urllib.error.HTTPError) as caught:
        _write(opensearch, place, id, REFUSED[how](source), version + 1)
    with caught.value:
        assert caught.value.code == 400
    db.finalize()
    told.settled(db)


def _indices(opensearch: OpenSearch, place: Place) -> list[str]:
    listing = opensearch.ask("GET", f"/_cat/indices/{place.prefix}speakers*?format=json&h=index")
    return sorted(row["index"].removeprefix(place.prefix) for row in listing)
