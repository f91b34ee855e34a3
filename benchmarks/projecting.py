"""Projection on OpenSearch: documents from SQL through the adapter, beside a load as one writes it by hand with opensearch-py.

In turns, with nothing being merged when a turn begins, and no refreshes until the end, for either: when a graph is cut off and
the next one begun decides what the next document costs. The projector works in a process of its own, whose memory is read.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from opensearchpy import OpenSearch

from benchmarks.libraries import GENERATION, SPEAKERS, add_unprojected
from benchmarks.report import Row, row, say
from benchmarks.working import GOAL_FLAT
from speakerdb.service import SpeakerDB
from speakerdb.types import FloatArray

GOAL_OVER_BY_HAND = 0.9
TURNS = 10
EARLY = 2
"""After so many turns the memory is read for the first time: at a fifth of the documents."""
BY_HAND_A_REQUEST = 1000
MERGES_SECONDS = 300.0


def projection(
    db: SpeakerDB, more: Mapping[str, Any], driver: OpenSearch, made: FloatArray
) -> tuple[list[Row], list[str]]:
    """Rows, and the speakers' ids in the order of `made`: all of them are in the index of the library afterwards."""
    begun = time.perf_counter()
    ids = add_unprojected(db, made)
    say(f"{len(made)} speakers made in {time.perf_counter() - begun:.1f} s")
    name = db.serving.index_of(db.generations[GENERATION])
    db.index.tune(name, loading=True)  # as a migration does; the copy has the same settings
    ours = db.settings.opensearch.prefix + name
    theirs = copy_of(driver, ours)
    part = len(made) // TURNS
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    peaks: list[float] = []
    with _projector(db.settings.data_dir, more) as project:
        for turn in range(TURNS):
            for who in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
                _until_merged(driver, (ours, theirs))
                if who == "ours":
                    found = project(part)
                    assert found["written"] == part
                    seconds[who].append(found["seconds"])
                    peaks.append(found["peak"])
                else:
                    begun = time.perf_counter()
                    load_by_hand(driver, theirs, made[turn * part : (turn + 1) * part], turn * part)
                    seconds[who].append(time.perf_counter() - begun)
            say(f"projection: {seconds['ours'][-1]:.1f} s, by hand {seconds['theirs'][-1]:.1f} s, {peaks[-1]:.0f} MiB")
    _until_merged(driver, (ours, theirs))
    begun = time.perf_counter()
    driver.indices.put_settings(index=theirs, body={"index": {"refresh_interval": None}})
    driver.indices.refresh(index=theirs)
    seconds["theirs"].append(time.perf_counter() - begun)
    begun = time.perf_counter()
    db.index.tune(name, loading=False)
    seconds["ours"].append(time.perf_counter() - begun)
    say(f"until it is seen: {seconds['ours'][-1]:.1f} s, by hand {seconds['theirs'][-1]:.1f} s")
    for index in (ours, theirs):
        assert driver.count(index=index)["count"] == part * TURNS
    driver.indices.delete(index=theirs)
    count = part * TURNS
    shown = f"projection of {count:,} documents to OpenSearch"
    rates = {who: count / sum(each) for who, each in seconds.items()}
    return [
        row(shown, rates["ours"], "documents/s"),
        row("the same by hand with opensearch-py", rates["theirs"], "documents/s"),
        row(f"{shown}, over by hand", rates["ours"] / rates["theirs"], "ratio of rates", at_least=GOAL_OVER_BY_HAND),
        row(f"peak memory after {part * EARLY:,} documents", peaks[EARLY - 1], "MiB"),
        row(f"peak memory after {count:,} documents", peaks[-1], "MiB"),
        row(
            f"{shown}, memory, over {part * EARLY:,}", peaks[-1] / peaks[EARLY - 1], "ratio of peaks", at_most=GOAL_FLAT
        ),
    ], ids


def copy_of(driver: OpenSearch, index: str) -> str:
    """Make an empty index of the same mapping and settings beside `index`."""
    (told,) = driver.indices.get(index=index).values()
    settings = told["settings"]["index"]
    for name in ("uuid", "creation_date", "provided_name", "version"):
        settings.pop(name, None)
    driver.indices.create(
        index=f"{index}-by-hand", body={"settings": {"index": settings}, "mappings": told["mappings"]}
    )
    return f"{index}-by-hand"


def load_by_hand(driver: OpenSearch, index: str, vectors: FloatArray, begin: int) -> None:
    """As one writes it who knows how: bodies of bytes, no versions, and only what a search needs."""
    for start in range(0, len(vectors), BY_HAND_A_REQUEST):
        lines = []
        for n, vector in enumerate(vectors[start : start + BY_HAND_A_REQUEST], begin + start):
            lines.append(b'{"index":{"_id":"spk_%09d"}}' % n)
            document = {
                "id": f"spk_{n:09}", "kind": "speaker", "library_id": "default",
                "recording_id": f"rec_{n // SPEAKERS:09}", "vector": vector,
            }  # fmt: skip
            lines.append(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
        answer = driver.bulk(body=b"\n".join(lines) + b"\n", index=index)
        assert not answer["errors"]


@contextmanager
def _projector(folder: Path, more: Mapping[str, Any]) -> Iterator[Callable[[int], dict[str, float]]]:
    """A process that projects as many documents as it is told, and says how long it took and what memory it has needed."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.child", "project", str(folder.resolve())],
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def tell(what: object) -> dict[str, float]:
            requests.write(json.dumps(what) + "\n")
            requests.flush()
            found: dict[str, float] = json.loads(answers.readline())
            return found

        tell(more)
        yield tell
        requests.close()
        assert process.wait() == 0


def _until_merged(driver: OpenSearch, indices: tuple[str, ...]) -> None:
    """Wait until nothing is merged, which would take the processor from whoever comes next."""
    deadline = time.monotonic() + MERGES_SECONDS
    while time.monotonic() < deadline:
        merges = driver.indices.stats(index=",".join(indices), metric="merge")["_all"]["total"]["merges"]
        if not merges["current"]:
            return
        time.sleep(0.2)
