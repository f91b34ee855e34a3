"""Opening a library in a fresh process, and building its index again from SQL."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.libraries import GENERATION, null_executor, settings
from benchmarks.report import Row, median, row, say
from benchmarks.working import child
from speakerdb.service import SpeakerDB

GOAL_OPEN_SECONDS = 1.0
GOAL_DOCUMENTS_A_SECOND = 20_000.0


def opening(folder: Path, speakers: int, *, times: int = 5) -> list[Row]:
    """A library that `searching.match` left: opened, and asked its first question, in processes of their own."""
    found = [child("opening", folder) for _ in range(times)]
    say(f"opening: {found}")
    imports, opened = (median([each[part] for each in found]) for part in ("imports", "open"))
    whole = median([each["open"] + each["answer"] for each in found])
    name = f"opening {speakers:,} speakers"
    return [
        row(name, opened, "s", at_most=GOAL_OPEN_SECONDS),
        row(f"{name}, until the first answer", whole, "s", at_most=GOAL_OPEN_SECONDS),
        row(
            f"{name}, until the first answer, by the processor's clock",
            median([each["cpu"] for each in found]),
            "s of CPU",
        ),
        row("imports before it", imports, "s"),
    ]


def rebuild(folder: Path, *, times: int = 3) -> list[Row]:
    """Every document of a library written again from SQL: beside itself and compared, and into an index that was lost."""
    rates: list[float] = []
    lost: list[float] = []
    busy: list[float] = []
    with SpeakerDB.open(settings(folder), executor=null_executor()) as db:
        generation = db.generations[GENERATION]
        for _ in range(times):
            for kept in (True, False):
                if not kept:
                    db.index.drop(db.serving.index_of(generation))
                begun, clock = time.perf_counter(), time.process_time()
                written = db.rebuild_index(GENERATION).documents
                busy.append(written / (time.process_time() - clock))
                (rates if kept else lost).append(written / (time.perf_counter() - begun))
        assert db.index.indices()[db.serving.index_of(generation)].documents == written
    say(f"index rebuilt: {rates} beside itself, {lost} anew")
    goal = GOAL_DOCUMENTS_A_SECOND
    return [
        row(f"index of {written:,} rebuilt from SQL, anew", median(lost), "documents/s", at_least=goal),
        row(f"index of {written:,} rebuilt from SQL, beside itself", median(rates), "documents/s", at_least=goal),
        row(f"index of {written:,} rebuilt from SQL, by the processor's clock", median(busy), "documents/s of CPU"),
    ]
