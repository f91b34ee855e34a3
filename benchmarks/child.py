"""What is measured in a process of its own: `python -m benchmarks.child WHAT FOLDER` prints one JSON object."""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()  # before anything of speakerdb is imported

import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402


def opening(folder: Path) -> dict[str, float]:
    """Seconds: imports, `SpeakerDB.open`, and the first answer after it."""
    from speakerdb.service import SpeakerDB
    from speakerdb.settings import Settings

    imported, clock = time.perf_counter(), time.process_time()
    # The settings of benchmarks.libraries, without importing what only a benchmark needs.
    db = SpeakerDB.open(Settings(data_dir=folder, serving="v4", executor="inline"))
    opened = time.perf_counter()
    speaker = (folder / "speaker").read_text()
    found = db.match(speaker=speaker)
    answered, busy = time.perf_counter(), time.process_time() - clock
    assert len(found.matches) == 10
    db.close()
    return {"imports": imported - _BEGUN, "open": opened - imported, "answer": answered - opened, "cpu": busy}


def drain(folder: Path) -> dict[str, float]:
    """MiB: before the queue is drained, the peak until it is empty, and what the first search adds."""
    from benchmarks.libraries import null_executor, settings, voices
    from benchmarks.working import BATCH
    from speakerdb.service import SpeakerDB

    with SpeakerDB.open(settings(folder, batch=BATCH), executor=null_executor()) as db:
        start = resident("VmRSS")
        report = db.work(on_event=lambda _: None)
        assert report.recordings_done
        peak, after = resident("VmHWM"), resident("VmRSS")
        db.match(vector=voices(1)[0])
        return {"start": start, "peak": peak, "cache": resident("VmRSS") - after}


def bring(folder: Path) -> dict[str, float]:
    """Seconds and seconds of CPU that bringing in a manifest takes, how many it added, and the peak in MiB."""
    from benchmarks.libraries import null_executor, settings
    from speakerdb.service import SpeakerDB

    with SpeakerDB.open(settings(folder / "library"), executor=null_executor()) as db:
        begun, clock = time.perf_counter(), time.process_time()
        report = db.ingest.bring_in([folder / "library.jsonl"])
        taken, busy = time.perf_counter() - begun, time.process_time() - clock
        return {"seconds": taken, "cpu": busy, "added": report.added, "peak": resident("VmHWM")}


def project(folder: Path) -> dict[str, float]:
    """Projects as many documents as each line of the standard input says, and answers each with a line: how many were
    written, in how many seconds, and the peak in MiB so far. The first line names the servers of the library."""
    from benchmarks.libraries import GENERATION, null_executor, settings
    from speakerdb.projector import BATCH, Projector
    from speakerdb.service import SpeakerDB

    with SpeakerDB.open(settings(folder, **json.loads(sys.stdin.readline())), executor=null_executor()) as db:
        generation, written, peak = db.generations[GENERATION], 0, 0.0
        print("{}", flush=True)
        for line in sys.stdin:
            wanted, part, begun = int(line), 0, time.perf_counter()
            while part < wanted:
                # A projector of the product takes as many as it can; here a turn ends at its last document.
                report = Projector(db.catalog, db.index, batch=min(BATCH, wanted - part)).step(generation)
                assert report.written
                part += report.written
            seconds, peak = time.perf_counter() - begun, resident("VmHWM")
            print(json.dumps({"written": part, "seconds": seconds, "peak": peak}), flush=True)
            written += part
    return {"written": written, "peak": peak}


def repair_check(folder: Path) -> dict[str, float]:
    """Seconds of a cheap check of a library in sync (the middle of several), what it compared one by one, and the peak."""
    from benchmarks.libraries import null_executor
    from benchmarks.repairing import settings
    from speakerdb.service import SpeakerDB

    asked = json.loads((folder / "repair.json").read_text())
    seconds, compared = [], 0
    with SpeakerDB.open(settings(folder, asked["more"]), executor=null_executor()) as db:
        for _ in range(asked["times"]):
            begun = time.perf_counter()
            compared += db.repairer.check().generations[0].plan.compared
            seconds.append(time.perf_counter() - begun)
    return {"check": sorted(seconds)[len(seconds) // 2], "compared": compared, "peak": resident("VmHWM")}


def repair_drift(folder: Path) -> dict[str, float]:
    """Seconds until drift is found and planned, and until it is mended and read back; what was found, and the peak."""
    from benchmarks.libraries import null_executor
    from benchmarks.repairing import settings
    from speakerdb.service import SpeakerDB

    asked = json.loads((folder / "repair.json").read_text())
    with SpeakerDB.open(settings(folder, asked["more"]), executor=null_executor()) as db:
        begun = time.perf_counter()
        plan = db.repairer.plan().generations[0]
        planned = time.perf_counter()
        report = db.repairer.run()
        ended = time.perf_counter()
    assert report.generations[0].written == plan.found["missing"]
    peak = resident("VmHWM")
    return {"plan": planned - begun, "mend": ended - planned, "missing": plan.found["missing"], "peak": peak}


def resident(name: str) -> float:
    """This process's resident memory in MiB: now (VmRSS), or at most so far (VmHWM).

    `ru_maxrss` also counts what the process that started this one held, so it is only used where there is no /proc.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size / 2**20 if sys.platform == "darwin" else size / 2**10
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 2**10


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "opening": opening,
                "drain": drain,
                "bring": bring,
                "project": project,
                "repair_check": repair_check,
                "repair_drift": repair_drift,
            }[sys.argv[1]](Path(sys.argv[2]))
        )
    )
