"""A change of aliases whose answer does not come, and which the cluster carries out late: after its sender gave up, or
after another process decided what had become of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from survive_kit import Place, Told, wait_for
from survive_proxies import PATIENCE, Exchange, Held, HttpProxy

from speakerdb.errors import BackendError, Conflict, IndexUnavailable, NoMigration
from speakerdb.service import SpeakerDB
from speakerdb.testing.servers.opensearch import OpenSearch
from speakerdb.types import SERVING_ALIAS

REFUSED = range(400, 500)


def moves(alias: str) -> Callable[[Exchange], bool]:
    """Whether a request gives an alias another index."""

    def found(exchange: Exchange) -> bool:
        return any(action["add"]["alias"].endswith(alias) for action in _actions(exchange) if "add" in action)

    return found


def drops(exchange: Exchange) -> bool:
    """Whether a request removes an index."""
    return any("remove_index" in action for action in _actions(exchange))


def hands_over(exchange: Exchange) -> bool:
    """Whether a request moves the token of a drop to its other place."""
    kinds = [next(iter(action)) for action in _actions(exchange)]
    return sorted(kinds) == ["add", "remove"] and "-drop-" in exchange.body.decode()


def _actions(exchange: Exchange) -> list[dict[str, dict[str, str]]]:
    if not exchange.path.startswith("/_aliases"):
        return []
    actions: list[dict[str, dict[str, str]]] = json.loads(exchange.body)["actions"]
    return actions


def _running(db: SpeakerDB, told: Told) -> None:
    told.add(db, "one", "two", "three")
    db.work()
    told.remove(db, "two")
    db.start_migration("v4", force=True)
    db.work()


def _finalized(db: SpeakerDB, told: Told) -> None:
    _running(db, told)
    db.finalize()


def _plain(db: SpeakerDB, told: Told) -> None:
    told.add(db, "one", "two")
    db.work()


Verb = Callable[[SpeakerDB], object]
CASES: dict[str, tuple[Callable[[SpeakerDB, Told], None], Verb, Callable[[Exchange], bool]]] = {
    "finalize": (_running, lambda db: db.finalize(), moves(SERVING_ALIAS)),
    "rollback": (_finalized, lambda db: db.rollback(), moves(SERVING_ALIAS)),
    "cancel": (_running, lambda db: db.cancel(), drops),
    "retire": (_finalized, lambda db: db.retire(), drops),
    "retire, the token": (_finalized, lambda db: db.retire(), hands_over),
    "rebuild": (_plain, lambda db: db.rebuild_index("v3"), moves("speakers_v3_write")),
}
"""What goes before, the verb, and the request of it that is held."""


@pytest.mark.parametrize("case", CASES)
def test_its_sender_gave_up_and_is_told_what_became_of_it(
    proxied: Place, proxy: HttpProxy, opensearch: OpenSearch, told: Told, case: str
) -> None:
    before, verb, chosen = CASES[case]
    db = proxied.open()
    before(db, told)
    told.settled(db)
    serving = _serving(opensearch, proxied)
    proxy.plan = held = Held(chosen)

    with pytest.raises(IndexUnavailable) as caught:
        verb(db)
    assert (caught.value.code, caught.value.exit_code, caught.value.transient) == ("index-unavailable", 8, True)
    assert "speakerdb status" in caught.value.hint
    assert _serving(opensearch, proxied) == serving, "the request is still under way"
    db.work()  # of a drop the state came first, and whoever works next does it

    late = held.let_go()
    assert late.status in REFUSED, f"it was carried out late: {late.body!r}"
    told.settled(db)
    _goes_on(db, case)
    told.settled(db)


OTHERS: dict[str, tuple[Verb, ...]] = {
    "decides": (lambda db: db.work(),),
    "finalizes": (lambda db: db.finalize(),),
    "goes there and back": (
        lambda db: db.finalize(),
        lambda db: db.rollback(),
        lambda db: db.start_migration("v4", force=True),
        lambda db: db.work(),
    ),
}


@pytest.mark.parametrize(
    ("case", "other"),
    [*(("finalize", other) for other in OTHERS), ("rollback", "goes there and back"), ("retire", "decides")],
)
def test_another_process_decided_it_meanwhile(
    proxied: Place, proxy: HttpProxy, opensearch: OpenSearch, told: Told, case: str, other: str
) -> None:
    before, verb, chosen = CASES[case]
    first = proxied.open(lease_seconds=1.0)
    before(first, told)
    second = proxied.open(folder="another", search={"hosts": (opensearch.url,)})
    proxy.plan = held = Held(chosen, seconds=PATIENCE)

    with ThreadPoolExecutor(1) as thread:
        outcome = thread.submit(verb, first)
        wait_for(lambda: held.holds, "the request")
        wait_for(lambda: _taken_over(second), "the end of the first one's lease")
        for step in OTHERS[other]:
            with suppress(Conflict):  # the state that was reached may not know this verb
                step(second)
        serving = _serving(opensearch, proxied)
        late = held.let_go()
        assert late.status in REFUSED, f"it was carried out late: {late.body!r}"
        error = outcome.exception()
    assert isinstance(error, Conflict | BackendError), f"the first one believes that it succeeded: {outcome}"
    assert _serving(opensearch, proxied) == serving
    told.settled(second)


def test_the_first_alias_that_comes_late_gives_no_second_target(
    proxied: Place, proxy: HttpProxy, opensearch: OpenSearch, told: Told
) -> None:
    proxy.plan = held = Held(moves(SERVING_ALIAS))
    with pytest.raises(IndexUnavailable):
        proxied.open(lease_seconds=1.0)
    second = proxied.open(folder="another", search={"hosts": (opensearch.url,)}, lease_seconds=1.0)
    told.add(second, "one")
    second.work()
    second.start_migration("v4", force=True)
    second.work()
    second.finalize()

    late = held.let_go()
    assert late.status in REFUSED, f"it was carried out late: {late.body!r}"
    assert _serving(opensearch, proxied) == ["speakers_v4"]
    told.settled(second)
    second.retire()
    told.settled(proxied.open())


def _taken_over(db: SpeakerDB) -> bool:
    try:
        db.work()
        lease = db.catalog.acquire("migration")
    except Conflict:
        return False
    db.catalog.release(lease)
    return True


def _serving(opensearch: OpenSearch, place: Place) -> list[str]:
    """What the alias names, asked without the product."""
    found = opensearch.ask("GET", f"/_alias/{place.prefix}{SERVING_ALIAS}")
    return sorted(index.removeprefix(place.prefix) for index in found)


def _goes_on(db: SpeakerDB, case: str) -> None:
    """What was asked for can be had afterwards; that it is done already is an answer too."""
    with suppress(NoMigration):
        CASES[case][1](db)
