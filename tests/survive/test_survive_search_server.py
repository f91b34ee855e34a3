"""OpenSearch is stopped, killed and frozen in the middle of things, and started again on the same data."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from survive_kit import Place, Told, codes, wait_for
from survive_proxies import PATIENCE, Answer, Exchange, HttpProxy

from speakerdb.errors import IndexUnavailable, LeaseHeld
from speakerdb.service import SpeakerDB
from speakerdb.testing.servers.opensearch import OpenSearchServer
from speakerdb.types import Document, WriteOutcome

Ending = Callable[[OpenSearchServer, Exchange], None]
QUICK = {"retry_seconds": 0.5}


def killed_before_the_end(server: OpenSearchServer, exchange: Exchange) -> None:
    """It has half of the request, and is killed."""
    with exchange.sent(share=0.5):
        server.kill()


def killed_at_once(server: OpenSearchServer, exchange: Exchange) -> None:
    """It has all of the request, and is killed in the middle of it or before it begins."""
    with exchange.sent():
        server.kill()


def killed_before_its_answer(server: OpenSearchServer, exchange: Exchange) -> None:
    """It has done it and said so, and nobody heard it."""
    assert exchange.forward().status == 200
    server.kill()


def stopped(server: OpenSearchServer, exchange: Exchange) -> None:
    """In good order, while it is at it."""
    with exchange.sent():
        server.stop()


ENDINGS: dict[str, Ending] = {
    each.__name__: each for each in (killed_before_the_end, killed_at_once, killed_before_its_answer, stopped)
}
THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
CASES = [
    ("work", "killed_before_its_answer"),
    ("work", "stopped"),
    ("rebuild", "killed_at_once"),
]
"""Each costs a restart of the server; the thorough profile takes each verb with each end."""
VERBS: dict[str, Callable[[SpeakerDB], object]] = {
    "work": lambda db: db.work(),
    "rebuild": lambda db: db.rebuild_index("v3"),
    "finalize": lambda db: db.finalize(),
}


@pytest.fixture
def before_search(on_own_search: Place, own_opensearch: OpenSearchServer) -> Iterator[HttpProxy]:
    """Stands before the OpenSearch that the test may stop."""
    with closing(HttpProxy(own_opensearch.url)) as standing:
        on_own_search.search = standing.url
        yield standing


def ends_in_a_bulk(server: OpenSearchServer, ending: Ending) -> Callable[[Exchange], Answer | None]:
    """The first bulk write meets this end; until the server is there again nothing is answered."""
    lock = threading.Lock()

    def plan(exchange: Exchange) -> Answer | None:
        with lock:
            if "_bulk" in exchange.path and server.pid is not None:
                ending(server, exchange)
                return None
        return exchange.forward()

    return plan


@pytest.mark.parametrize(
    ("verb", "how"), [(verb, how) for verb in VERBS for how in ENDINGS if THOROUGH or (verb, how) in CASES]
)
def test_it_ends_in_the_middle_of_a_bulk(
    on_own_search: Place, own_opensearch: OpenSearchServer, before_search: HttpProxy, told: Told, verb: str, how: str
) -> None:
    db = on_own_search.open(search=QUICK)
    told.add(db, "one", "two", "three", "four")
    db.work()
    if verb == "finalize":
        db.start_migration("v4", force=True)
        db.work()
    stale = _documents(db, told, "two")
    told.remove(db, "two")
    if verb != "finalize":
        told.settled(db)  # the tombstones are written
        told.remove(db, "four")
    told.add(db, "five")
    before_search.plan = ends_in_a_bulk(own_opensearch, ENDINGS[how])

    with pytest.raises(IndexUnavailable) as caught:
        VERBS[verb](db)
    error = caught.value
    assert (error.code, error.exit_code, error.transient) == ("index-unavailable", 8, True)
    assert error.hint
    assert own_opensearch.pid is None, "it never came to a bulk"
    told.kept(db)
    assert "index-unavailable" in codes(db), "status answers, and says so"
    told.add(db, "six")  # SQL goes on

    before_search.plan = Exchange.forward
    own_opensearch.start()
    for result in db.index.bulk("speakers_v3_write", stale):  # a writer from before
        assert result.outcome is WriteOutcome.CONFLICT, "the tombstone is gone with the restart"
    told.settled(db)
    VERBS[verb](db)
    told.settled(db)


def _documents(db: SpeakerDB, told: Told, recording: str) -> list[Document]:
    return list(db.index.fetch("speakers_v3", told.has[recording]).values())


def test_a_server_that_says_nothing(on_own_search: Place, own_opensearch: OpenSearchServer, told: Told) -> None:
    """SIGSTOP: its sockets are open, and nothing comes. Everybody is told after the time that the settings give."""
    db = on_own_search.open(search={"timeout_seconds": 10.0})
    told.add(db, "one", "two")
    told.settled(db)
    told.remove(db, "two")
    told.add(db, "three")
    impatient = on_own_search.open(folder="impatient", search={"timeout_seconds": 0.7, "retry_seconds": 0.5})
    own_opensearch.pause()
    for verb in (
        lambda: impatient.match(speaker=told.has["one"][0]),
        impatient.work,
        lambda: impatient.rebuild_index("v3"),
    ):
        impatient.serving.forget()
        with pytest.raises(IndexUnavailable) as caught:
            verb()
        assert "opensearch.timeout_seconds" in caught.value.hint
        assert caught.value.transient
    assert "index-unavailable" in codes(impatient)
    assert [lease.held for lease in impatient.status().leases] == [False, False], "nobody holds a lease that has ended"
    own_opensearch.resume()
    told.settled(db)


def test_a_lease_that_runs_out_in_a_slow_bulk_is_lost_aloud(proxied: Place, proxy: HttpProxy, told: Told) -> None:
    """The first writes for longer than its lease; a second takes over; the first takes nothing more and says why."""
    first = proxied.open(batch_recordings=1, lease_seconds=1.0)
    second = proxied.open(folder="another")
    told.add(first, "one", "two", "three")
    slow, go_on = threading.Event(), threading.Event()

    def plan(exchange: Exchange) -> Answer | None:
        if "_bulk" in exchange.path and not slow.is_set():
            slow.set()
            go_on.wait(PATIENCE)
        return exchange.forward()

    proxy.plan = plan
    outcome: list[BaseException] = []

    def work() -> None:
        try:
            first.work()
        except BaseException as error:  # noqa: BLE001 - looked at below
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert slow.wait(PATIENCE)
    wait_for(lambda: _worked(second), "the end of the lease")
    go_on.set()
    thread.join(PATIENCE)
    assert [getattr(error, "code", error) for error in outcome] == ["lease-lost"]
    told.settled(second)


def _worked(db: SpeakerDB) -> bool:
    try:
        db.work()
    except LeaseHeld as error:
        held = error
    else:
        return True
    assert (held.exit_code, held.transient) == (5, True)
    return False
