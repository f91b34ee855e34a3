"""Thousands of crash points, in runs of some dozens, each on a library of its own: `make soak`.

A run is known by back end, seed and number. What each met is written into the report at once, so a soak that was ended goes on
where it was: the runs that the report holds are not run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from speakerdb import __version__
from speakerdb.catalog import upgrade
from speakerdb.catalog.database import Database
from speakerdb.testing.backends import FILES, Backend
from speakerdb.testing.chaos.processes import Zygote
from speakerdb.testing.chaos.run import Chaos, Outcome, library
from speakerdb.testing.servers import servers
from speakerdb.testing.servers.postgres import Databases

REPORT = Path("benchmarks/results/soak.json")
POINTS_A_RUN = 50
BACKENDS = ("files", "servers")


class _Fresh:
    """A new database for each run."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def lend(self) -> str:
        url = self._databases.new_database()
        made = Database(url)
        upgrade.upgrade(made)
        made.close()
        return url

    def give_back(self, url: str) -> None:
        self._databases.drop([url])


@contextmanager
def backend_of(name: str) -> Iterator[tuple[Backend, dict[str, str]]]:
    """Where the libraries of a soak lie, and the versions of what they lie on."""
    if name == "files":
        yield FILES, {"sqlite": sqlite3.sqlite_version}
        return
    with servers() as started:
        engine = started.opensearch.ask("GET", "/")["version"]["number"]
        yield Backend(_Fresh(started.postgres), started.opensearch), {"opensearch": engine}


def main(argv: list[str]) -> int:
    """One soak; 1 where something was violated."""
    given = _parser().parse_args(argv)
    report = Report(given.report, given.backend, given.seed, given.points)
    print(f"{given.points} crash points on {given.backend}, seed {given.seed}; {report.points} are in {given.report}")
    if report.points < given.points:
        keep = Path(tempfile.mkdtemp(prefix="speakerdb-soak-"))
        with backend_of(given.backend) as (backend, versions), Zygote() as zygote:
            report.versions |= versions
            try:
                while report.points < given.points:
                    _one(report, backend, zygote, keep / f"run-{report.runs}", given.points)
            except KeyboardInterrupt:
                shutil.rmtree(keep / f"run-{report.runs}", ignore_errors=True)
                print(f"ended; the same command goes on after {report.points} points")
                return 130
            finally:
                if not any(keep.iterdir()):
                    keep.rmdir()
    return 1 if report.violations else 0


def _one(report: Report, backend: Backend, zygote: Zygote, folder: Path, wanted: int) -> None:
    """One run, which is kept in the report, and where something was violated in its folder too."""
    folder.mkdir()
    with library(folder, backend) as settings:
        chaos = Chaos(zygote, folder, settings, report.seed, services=2 + report.runs % 2)
        outcome = chaos.run(min(POINTS_A_RUN, wanted - report.points))
    report.take(outcome)
    _tell(wanted, report, outcome)
    if outcome.violations:
        print(f"  its history is in {folder}")
    else:
        shutil.rmtree(folder)


class Report:
    """What is kept of all soaks of a file, and the one that this process does."""

    def __init__(self, path: Path, backend: str, seed: str, wanted: int) -> None:
        self._path = path
        self._known = {"backend": backend, "seed": seed}
        fresh: dict[str, Any] = self._known | {
            "runs": 0, "crash_points": 0, "seconds": 0.0, "points": {}, "operations": {}, "samples": 0, "commits": 0,
            "violations": [],
        }  # fmt: skip
        self._own = next((each for each in self._kept() if self._is_own(each)), fresh)
        self._own["wanted"] = wanted
        self.versions: dict[str, str] = {
            "speakerdb": __version__, "python": platform.python_version(), "system": platform.system(),
        }  # fmt: skip

    def _kept(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        kept: list[dict[str, Any]] = json.loads(self._path.read_text(encoding="utf-8"))["soaks"]
        return kept

    def _is_own(self, soak: dict[str, Any]) -> bool:
        return self._known.items() <= soak.items()

    @property
    def seed(self) -> str:
        """Of the run that is next."""
        return f"{self._known['seed']}/{self.runs}"

    @property
    def points(self) -> int:
        """Crash points so far."""
        return int(self._own["crash_points"])

    @property
    def runs(self) -> int:
        """Runs so far."""
        return int(self._own["runs"])

    @property
    def seconds(self) -> float:
        """How long they took together."""
        return float(self._own["seconds"])

    @property
    def violations(self) -> int:
        """How much was wrong."""
        return len(self._own["violations"])

    def take(self, outcome: Outcome) -> None:
        """Keep one more run, at once."""
        own = self._own
        own["violations"] += [{"run": own["runs"]} | asdict(each) for each in outcome.violations]
        own["runs"] += 1
        own["crash_points"] += outcome.crash_points
        own["seconds"] = round(own["seconds"] + outcome.seconds, 1)
        own["samples"] += outcome.samples
        own["commits"] += outcome.commits
        for name, more in (("points", outcome.points), ("operations", outcome.operations)):
            own[name] = dict(sorted((Counter(own[name]) + more).items()))
        own["day"] = datetime.now(UTC).date().isoformat()
        own["versions"] = self.versions
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        soaks = [*(each for each in self._kept() if not self._is_own(each)), own]
        soaks.sort(key=lambda each: (each["backend"], each["seed"]))
        part.write_text(json.dumps({"soaks": soaks}, indent=1) + "\n", encoding="utf-8")
        part.replace(self._path)


def _tell(wanted: int, report: Report, outcome: Outcome) -> None:
    left = max(0, wanted - report.points) * report.seconds / max(1, report.points)
    told = f"{report.points:6d} of {wanted}   run {report.runs - 1}: {outcome.crash_points} in {outcome.seconds:.0f} s,"
    told += (
        f" {outcome.operations.total()} operations, {len(outcome.violations)} violations; {report.violations} in all;"
    )
    print(f"{time.strftime('%H:%M:%S')} {told} {left / 60:.0f} min left", flush=True)
    for violation in outcome.violations[:10]:
        print(f"  {violation}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m speakerdb.testing.chaos", description=__doc__)
    parser.add_argument("--points", type=int, default=1000, help="how many crash points in all (1000)")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="files", help="SQLite and the embedded index, or real servers"
    )
    parser.add_argument(
        "--seed", default="1", help="the same seed gives the same fates, and goes on where it was ended (1)"
    )
    parser.add_argument("--report", type=Path, default=REPORT, help=f"where the report is kept ({REPORT})")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
