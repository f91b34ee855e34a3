"""The benchmarks run, at toy sizes, and what they keep has the promised shape. Nothing is said about time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import libraries, nearest, report, servers, serving, sound, swapping
from benchmarks.run import ServerSizes, Sizes, on_servers, run
from benchmarks.searching import plain_search
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings
from speakerdb.testing.servers.opensearch import OpenSearch, fresh_prefix
from speakerdb.testing.servers.postgres import Databases
from speakerdb.testing.servers.run import NoServer

TOY = Sizes(recordings=6, memory=(4, 8), speakers=(20, 40), rounds=2, batches=1, times=1, sound_seconds=14.0)
TOY_ON_SERVERS = ServerSizes(recordings=4, times=1, documents=40, rounds=2, swap_speakers=20, queries=20, swaps=2)
PRODUCT_PARTS = ("orchestration", "memory", "search")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run(tmp_path_factory.mktemp("bench"), quick=True, parts=PRODUCT_PARTS, sizes=TOY)


def test_what_is_kept_is_a_machine_and_rows(kept: dict, tmp_path: Path) -> None:
    report.write(tmp_path / "new" / "latest.json", kept)
    read = json.loads((tmp_path / "new" / "latest.json").read_text())
    assert set(read) == {"machine", "rows"}
    # Keys that name the machine itself have no place here.
    assert set(read["machine"]) == {
        "cpu", "cores", "memory_gib", "platform", "python", "numpy", "sqlite", "blas_threads", "load_at_start", "day", "sizes",
    }  # fmt: skip
    for row in read["rows"]:
        assert set(row) == {"name", "value", "unit", "goal", "holds"}
        assert isinstance(row["value"], float | int)
        assert (row["goal"] is None) == (row["holds"] is None)


def test_every_goal_of_the_project_has_its_rows(kept: dict) -> None:
    goals = [row["name"] for row in kept["rows"] if row["goal"]]
    for start, count in (
        ("orchestration", 1), ("memory", 1), ("match at", 2), ("batch of", 2), ("opening", 2), ("index of", 2),
    ):  # fmt: skip
        assert sum(name.startswith(start) for name in goals) == count, start


def test_names_are_unique_and_nothing_names_this_machine(kept: dict, tmp_path: Path) -> None:
    names = [row["name"] for row in kept["rows"]]
    assert len(set(names)) == len(names)
    text = json.dumps(kept)
    assert str(tmp_path.parent.parent) not in text
    assert str(Path.home()) not in text


def test_decoding_is_measured(tmp_path: Path) -> None:
    rows = sound.decoding(tmp_path, 14.0, times=1)
    assert [row.goal for row in rows] == [None, None]
    assert all(row.value > 0 for row in rows)


def test_serving_is_measured(tmp_path: Path) -> None:
    rows = serving.serving(tmp_path, serving.ServingSizes(20, 2, 2))
    assert sum(row.goal is not None for row in rows) == 3
    errors = next(row for row in rows if "errors" in row.name)
    assert (errors.value, errors.holds) == (0, True)
    assert all(row.value > 0 for row in rows if row.goal is None and "processor" not in row.name)


def test_a_bound_is_judged_from_its_side() -> None:
    assert report.row("rate", 499.99, "x", at_least=500) == report.Row("rate", 500.0, "x", ">= 500", False)
    assert report.row("ratio", 1.5, "x", at_most=2) == report.Row("ratio", 1.5, "x", "<= 2", True)
    assert report.row("free", 1.0, "x").holds is None


def test_the_plain_search_finds_the_best_rows_best_first() -> None:
    matrix = libraries.voices(50)
    found = plain_search(matrix, matrix[7], 5)
    assert found[0][0] == 7
    scores = (matrix @ matrix[7]).tolist()
    assert [score for _, score in found] == pytest.approx(sorted(scores, reverse=True)[:5])


def test_the_table_shows_every_goal_with_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        report.row("rate", 4.0, "x", at_least=5),
        report.row("ratio", 1.5, "y", at_most=2),
        report.row("z", 3.0, ""),
    ]
    report.show(report.document({"cpu": "c", "cores": 2, "python": "3"}, rows))
    shown = capsys.readouterr().out
    assert all(part in shown for part in (">= 5", "no", "<= 2", "yes", "z"))


def test_everything_on_servers_has_its_rows_and_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Databases, opensearch: OpenSearch
) -> None:
    prefixes = [fresh_prefix() for _ in range(2)]
    given = iter(prefixes)
    monkeypatch.setattr(servers, "fresh_prefix", lambda: next(given))
    made = postgres.made
    engines = servers.Engines(postgres, opensearch)
    rows = on_servers(tmp_path, engines, TOY_ON_SERVERS)
    goals = [row.name for row in rows if row.goal]
    for start, count in (
        ("orchestration on PostgreSQL", 2), ("swaps under load", 3), ("projection", 2), ("match on the servers", 1),
        ("recall", 3),
    ):  # fmt: skip
        assert sum(name.startswith(start) for name in goals) == count, start
    assert len({row.name for row in rows}) == len(rows)
    assert set(engines.versions) == {"postgresql", "opensearch"}
    assert list(given) == []
    assert [opensearch.ask("GET", f"/_cat/indices/{prefix}*?format=json") for prefix in prefixes] == [[], []]
    assert postgres.made == made


def test_without_servers_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def none(**_: object) -> Iterator[None]:
        raise NoServer("no network")
        yield

    monkeypatch.setattr(servers, "servers", none)
    kept = run(tmp_path, quick=True, parts=["servers"], sizes=TOY)
    assert kept["rows"] == []
    assert kept["machine"]["servers"] is None
    assert "NOT MEASURED" in capsys.readouterr().err


def test_an_answer_from_the_wrong_generation_is_seen(tmp_path: Path) -> None:
    voices = swapping.Voices(8)
    settings = fake_settings(tmp_path, dimensions=dict.fromkeys(swapping.GENERATIONS, swapping.DIMENSION))
    with SpeakerDB.open(settings, executor=FakeExecutor(voices.extracted)) as db:
        voices.add_to(db)
        found = db.match(speaker=voices.ids[3], k=swapping.K)
        foreign = db.match(vector=voices.matrices["v4"][3], k=swapping.K)
    indices = {name: f"speakers_{name}" for name in swapping.GENERATIONS}
    assert voices.judged(3, found, indices) is None
    assert "another generation's" in str(voices.judged(3, replace(found, generation="v4"), indices))
    assert "another generation's" in str(voices.judged(3, replace(found, index="speakers_v4"), indices))
    assert "a score of" in str(voices.judged(3, replace(found, generation="v4", index="speakers_v4"), indices))
    assert "a score of" in str(voices.judged(3, foreign, indices))
    assert "answers" in str(voices.judged(3, replace(found, path="fallback"), indices))
    assert "came first" in str(
        voices.judged(3, replace(found, matches=(*found.matches[1:], found.matches[0])), indices)
    )


@pytest.mark.parametrize("generation", swapping.GENERATIONS)
def test_each_voice_is_like_one_other_and_that_one_is_like_it(generation: str) -> None:
    voices = swapping.Voices(10)
    cosines = voices.matrices[generation] @ voices.matrices[generation].T
    np.fill_diagonal(cosines, -1.0)
    likes = [voices.like(generation, n) for n in range(10)]
    assert likes == cosines.argmax(axis=1).tolist()
    assert [likes[n] for n in likes] == list(range(10))


def test_a_body_is_asked_again_with_another_vector() -> None:
    body = {"size": 3, "query": {"knn": {"vector": {"vector": np.zeros(2), "k": 3}}}, "_source": ["kind"]}
    asked = nearest.about(body, np.array([0.25, 0.5], dtype=np.float32))
    assert asked == {"size": 3, "query": {"knn": {"vector": {"vector": [0.25, 0.5], "k": 3}}}, "_source": ["kind"]}
    assert isinstance(body["query"]["knn"]["vector"]["vector"], np.ndarray)
