"""Speakers and profiles over HTTP: pages, names, splits, merges, undo; each safe to repeat or made as it was read."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from api_kit import Api

from speakerdb.testing import invariants


def every(api: Api, path: str, limit: int, **params: Any) -> list[dict[str, Any]]:
    """All items of a list, page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.ok("GET", path, params=params | cursor | {"limit": limit})
        assert len(page["items"]) <= limit
        found += page["items"]
        if page["next"] is None:
            return found
        assert page["items"], "a page that is not the last is not empty"
        cursor = {"cursor": page["next"]}


def speaker(api: Api, label: str = "SPEAKER_00", recording: str = "r0") -> str:
    return str(api.ok("GET", f"/v1/recordings/{recording}")["labels"][label])


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_lists_come_in_pages_that_hold_everything_once(api: Api, limit: int) -> None:
    for number in range(5):
        api.add(f"r{number}", library="ab"[number % 2])
    for name in ("Zoë", "Ada", "ada", "Bob", "Älfric"):
        api.ok("POST", "/v1/profiles", json={"name": name, "library": "a"})
    recordings = every(api, "/v1/recordings", limit)
    assert [each["id"] for each in recordings] == [f"r{n}" for n in range(5)]
    assert [each["id"] for each in every(api, "/v1/recordings", limit, library="b")] == ["r1", "r3"]
    speakers = every(api, "/v1/speakers", limit)
    assert [(s["recording_id"], s["label"]) for s in speakers] == [
        (f"r{n}", f"SPEAKER_0{v}") for n in range(5) for v in range(2)
    ]
    assert [s["recording_id"] for s in every(api, "/v1/speakers", limit, recording="r2")] == ["r2", "r2"]
    names = [each["name"] for each in every(api, "/v1/profiles", limit, library="a")]
    assert names == sorted(("Zoë", "Ada", "ada", "Bob", "Älfric"))
    ids = [event["id"] for event in every(api, "/v1/events", limit)]
    assert ids == sorted(ids)
    assert len(ids) == 10


def test_what_comes_and_goes_between_two_pages_hides_nothing_else(api: Api) -> None:
    for number in range(6):
        api.add(f"r{number}")
    first = api.ok("GET", "/v1/recordings", params={"limit": 2})
    api.db.remove("r1")  # what the cursor stands on
    api.db.remove("r0")
    api.add("r6")
    rest = api.ok("GET", "/v1/recordings", params={"limit": 10, "cursor": first["next"]})
    assert [each["id"] for each in rest["items"]] == ["r2", "r3", "r4", "r5", "r6"]


def test_a_cursor_of_elsewhere_is_refused(api: Api) -> None:
    for number in range(3):
        api.add(f"r{number}")
    cursor = api.ok("GET", "/v1/recordings", params={"limit": 1})["next"]
    for path in ("/v1/speakers", "/v1/profiles", "/v1/events", "/v1/migrations", "/v1/recordings/r0/turns"):
        api.refused("GET", path, 422, "invalid-input", params={"cursor": cursor})
    import base64

    tuples = (
        '["recordings",1]', '["recordings","1","x"]', '["recordings",true,"x"]', "[]", "{}", "1", "[" * 3000,
        '["recordings",99999999999999999999999,"x"]', '["recordings",1,"\\u0000"]', '["recordings",1,"\\ud800"]',
    )  # fmt: skip
    made = [base64.urlsafe_b64encode(each.encode()).decode().rstrip("=") for each in tuples]
    for wrong in ("", "x", "=", "ä", "../..", *made):
        api.refused("GET", "/v1/recordings", 422, "invalid-input", params={"cursor": wrong})


def test_a_speaker_is_named_assigned_and_taken_out(api: Api) -> None:
    api.add("r0")
    one = speaker(api)
    where = f"/v1/speakers/{one}"
    assert api.ok("PUT", f"{where}/name", json={"name": "Ada", "why": "heard it"})["name"] == "Ada"
    found = api.ok("PUT", f"{where}/profile", json={"name": "Ada Lovelace", "create": True})
    assert found["profile_name"] == "Ada Lovelace"
    assert [s["id"] for s in api.ok("GET", "/v1/speakers", params={"profile": found["profile_id"]})["items"]] == [one]
    assert [s["id"] for s in api.ok("GET", "/v1/speakers", params={"name": "lovelace"})["items"]] == [one]
    assert len(api.ok("GET", "/v1/speakers", params={"unnamed": True})["items"]) == 1
    assert api.ok("DELETE", f"{where}/profile")["profile_id"] is None
    assert api.ok("PUT", f"{where}/profile", json={"profile": found["profile_id"]})["profile_id"] == found["profile_id"]
    assert api.ok("PUT", f"{where}/name", json={"name": None})["name"] is None
    details = api.ok("GET", where, params={"turns": 1})
    assert (details["turns_total"], len(details["turns"]), details["statistics"][0]["state"]) == (1, 1, "waiting")
    api.refused("PUT", f"{where}/profile", 404, "not-found", json={"name": "nobody"})
    api.refused("PUT", f"{where}/profile", 422, "invalid-input", json={"name": "x", "profile": "y"})
    api.refused("PUT", f"{where}/name", 422, "invalid-input", json={})
    api.refused("GET", "/v1/speakers/nobody", 404, "not-found")


def test_if_match_is_the_state_that_was_read(api: Api) -> None:
    api.add("r0")
    where = f"/v1/speakers/{speaker(api)}"
    seen = api.client.get(where).headers["etag"]
    first = api.client.put(f"{where}/name", json={"name": "Ada"}, headers={"If-Match": seen})
    assert (first.status_code, first.headers["etag"] != seen) == (200, True)
    problem = api.refused(
        "PUT", f"{where}/name", 412, "version-conflict", json={"name": "Eve"}, headers={"If-Match": seen}
    )
    assert problem["details"]["version"] == first.headers["etag"]
    api.ok("PUT", f"{where}/name", json={"name": "Bob"}, headers={"If-Match": f'"x", {first.headers["etag"]}'})
    api.ok("PUT", f"{where}/name", json={"name": "Cy"}, headers={"If-Match": "*"})
    api.refused("PUT", f"{where}/name", 412, "version-conflict", json={"name": "Di"}, headers={"If-Match": "W/x"})
    assert api.ok("GET", where)["name"] == "Cy"
    profile = api.client.post("/v1/profiles", json={"name": "Ada", "id": "ada"})
    tag = {"If-Match": profile.headers["etag"]}
    assert api.client.get("/v1/profiles/ada").headers["etag"] == profile.headers["etag"]
    api.ok("PUT", f"{where}/profile", json={"profile": "ada"})  # it has a member now
    api.refused("DELETE", "/v1/profiles/ada", 412, "version-conflict", headers=tag)
    api.refused("PUT", "/v1/profiles/ada/name", 412, "version-conflict", json={"name": "A"}, headers=tag)
    api.refused("PUT", "/v1/profiles/nobody/name", 404, "not-found", json={"name": "A"}, headers=tag)


def test_of_many_who_rename_what_they_read_one_wins(api: Api) -> None:
    api.add("r0")
    where = f"/v1/speakers/{speaker(api)}"
    seen = {"If-Match": api.client.get(where).headers["etag"]}
    barrier = threading.Barrier(8)
    answers: list[int] = []

    def rename(number: int) -> None:
        barrier.wait()
        answers.append(api.client.put(f"{where}/name", json={"name": f"N{number}"}, headers=seen).status_code)

    threads = [threading.Thread(target=rename, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [412] * 7
    assert len(api.events("speaker-renamed")) == 1


def test_many_who_create_the_same_create_it_once(api: Api) -> None:
    barrier = threading.Barrier(8)
    answers: list[tuple[int, str]] = []

    def create() -> None:
        barrier.wait()
        answer = api.client.post("/v1/profiles", json={"id": "ada", "name": "Ada"})
        answers.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    assert len({text for _, text in answers}) == 1
    assert len(api.events("profile-created")) == 1


def test_a_profile_that_is_another_one_by_now_is_no_repetition(api: Api) -> None:
    for name in ("ada", "eve"):
        api.ok("POST", "/v1/profiles", json={"id": name, "name": name})
    for other in ({"name": "Ada"}, {"name": "ada", "library": "radio"}):
        api.refused("POST", "/v1/profiles", 409, "already-exists", json={"id": "ada"} | other)
    api.refused("POST", "/v1/profiles", 422, "invalid-input", json={"id": "other", "name": "ada"})
    merged = api.ok("POST", "/v1/profiles/eve/merge", json={"into": "ada"})
    assert merged["id"] == "ada"
    assert api.ok("GET", "/v1/profiles/eve")["id"] == "ada"
    api.refused("POST", "/v1/profiles", 409, "already-exists", json={"id": "eve", "name": "eve"})
    api.refused("POST", "/v1/profiles/ada/merge", 422, "invalid-input", json={"into": "eve"})
    api.refused("DELETE", "/v1/profiles/ada", 409, "conflict")


def test_a_split_may_be_repeated_and_undone(api: Api) -> None:
    from speakerdb.types import Turn

    turns = tuple(Turn(n * 2.0, n * 2.0 + 2, "AAB"[n % 3]) for n in range(9))
    from speakerdb.testing.factories import silence

    made = api.db.add(None, turns, recording_id="r0", waveform=silence(20))
    api.db.work()
    where = f"/v1/speakers/{made.speakers['A']}/split"
    would = api.ok("POST", where, json={"turns": "2-3"}, params={"dry_run": True})
    assert (would["speaker_id"], len(would["turns"]), would["turns_left"]) == (None, 2, 4)
    body = {"turns": "2-3", "id": "the-other", "label": "C", "why": "two people"}
    first = api.ok("POST", where, json=body)
    assert first["speaker_id"] == "the-other"
    assert api.ok("POST", where, json=body) == first
    api.refused("POST", where, 409, "already-exists", json=body | {"turns": "2"})
    api.refused("POST", where, 409, "already-exists", json=body | {"id": made.speakers["B"]})
    api.refused("POST", where, 422, "invalid-input", json={"turns": "77"})
    api.refused("POST", where, 422, "invalid-input", json={"turns": "1", "start": 1})
    assert len(api.events("speaker-split")) == 1
    planned = api.ok("POST", "/v1/undo", json={}, params={"dry_run": True})
    assert (planned["undone"], planned["kind"], planned["why"]) == (False, "speaker-split", "two people")
    undone = api.ok("POST", "/v1/undo", json={"event": planned["event"], "why": "one person after all"})
    assert undone["undone"] is True
    api.refused("GET", "/v1/speakers/the-other", 404, "not-found")
    api.refused("POST", "/v1/undo", 409, "cannot-undo", json={"event": planned["event"]})
    api.refused("POST", "/v1/undo", 404, "not-found", json={"event": 10_000})
    api.db.work()
    invariants.check(api.db)


def test_a_shortened_id_and_one_with_a_slash_are_found(api: Api) -> None:
    made = api.ok("POST", "/v1/profiles", json={"name": "Ada"})
    assert api.ok("GET", f"/v1/profiles/{made['id'][:12]}")["id"] == made["id"]
    for given in ("a/b", "a/../b", "ä b", "a?b#c", "turns"):
        from urllib.parse import quote

        api.ok("POST", "/v1/profiles", json={"id": given, "name": given})
        assert api.ok("GET", f"/v1/profiles/{quote(given, safe='')}")["id"] == given
    assert api.ok("GET", f"/v1/explain/{made['id']}")["kind"] == "profile"
    api.refused("GET", "/v1/explain/nobody", 404, "not-found")
