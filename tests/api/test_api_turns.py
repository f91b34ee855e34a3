"""Thirty-two at once, who read and write: each gets an answer, and the database's connections are enough for all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from api_kit import Api

from speakerdb.testing import invariants

CLIENTS = 32
ROUNDS = 4


def test_thirty_two_who_read_and_write_meet_no_error(make_api: Callable[..., Api]) -> None:
    api = make_api(threads=8)
    for number in range(4):
        api.add(f"r{number}")
    api.db.work()
    ids = [speaker.id for speaker in api.db.speakers()]
    answers: Counter[int] = Counter()
    gate = threading.Barrier(CLIENTS)

    def ask(client: int) -> None:
        gate.wait()
        for number in range(ROUNDS):
            one = ids[(client + number) % len(ids)]
            for method, path, body in (
                ("GET", "/v1/speakers", None),
                ("POST", "/v1/matches", {"speaker": one}),
                ("PUT", f"/v1/speakers/{one}/name", {"name": f"N{client}-{number}"}),
                ("POST", "/v1/profiles", {"id": f"p{number}", "name": f"P{number}"}),
                ("GET", "/v1/status", None),
            ):
                answers[api.client.request(method, path, json=body).status_code] += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {200, 201}
    assert answers[201] == ROUNDS
    assert answers.total() == CLIENTS * ROUNDS * 5
    invariants.check(api.db)
