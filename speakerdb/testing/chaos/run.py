"""One run: a library, those who work on it and those who use it, what is done to them, and what is found at the end."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from speakerdb.errors import Conflict
from speakerdb.settings import RepairSettings, ScheduleSettings, Settings
from speakerdb.testing.backends import Backend
from speakerdb.testing.chaos import audit
from speakerdb.testing.chaos.looking import Damage, Looking
from speakerdb.testing.chaos.processes import Play, Process, Processes, Zygote
from speakerdb.testing.chaos.settling import settle
from speakerdb.testing.factories import fake_settings
from speakerdb.testing.history import Actor, History, Sample, operations
from speakerdb.testing.history_check import Violation, check
from speakerdb.testing.servers.process import free_ports

LEASE_SECONDS = 2.0
STOPPED_SHARE = 1.6
"""Of a lease's length: so long somebody is stopped, so that another one takes over."""
SAMPLE_SECONDS = 0.2
POLL_SECONDS = 0.02
HOUR = 3600
SERVICE_POINTS = 400
CLIENT_POINTS = 200
"""How many points a process passes at most before its next fate."""
MOST_STRANGERS = 5
"""Documents from nowhere in a run: a repair deletes no more than ten a day without a person's word."""


@dataclass
class Outcome:
    """What one run met and found."""

    seed: str
    backend: str
    points: Counter[str] = field(default_factory=Counter)
    """Crash points by what happened, and where."""
    operations: Counter[str] = field(default_factory=Counter)
    """By answer."""
    samples: int = 0
    commits: int = 0
    seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)

    @property
    def crash_points(self) -> int:
        """How many in all."""
        return self.points.total()


@contextmanager
def library(folder: Path, backend: Backend) -> Iterator[Settings]:
    """A new library for a run, with a short lease, and with the triggers that keep its commits."""
    data = folder / "data"
    data.mkdir(parents=True)
    given = backend.make(data, backend.empty())
    schedule = ScheduleSettings(check_minutes=0.02, walk_hours=0.001)
    settings = fake_settings(
        data,
        lease_seconds=LEASE_SECONDS,
        fence_seconds=1.0,
        batch_recordings=3,
        schedule=schedule,
        repair=RepairSettings(grace_seconds=0.2),
        **given,
    )
    audit.install(settings.catalog_url)
    try:
        yield settings
    finally:
        audit.uninstall(settings.catalog_url)
        backend.remove(settings)


class Chaos:
    """Two or three services and those who use them, on one library."""

    def __init__(
        self,
        zygote: Zygote,
        folder: Path,
        settings: Settings,
        seed: str,
        *,
        services: int = 2,
        clients: int = 2,
    ) -> None:
        self._settings = settings
        self.processes = Processes(zygote, folder, settings, seed)
        self.looking = Looking(settings)
        self.driver = Actor(self.processes.history, "driver")
        self._chance = random.Random(seed)  # noqa: S311
        self._cast: list[tuple[Play, str]] = [
            *(("service", f"service{n}") for n in range(services)),
            *(("client", f"client{n}") for n in range(clients)),
            ("far", "far"),
            ("operator", "operator"),
        ]  # fmt: skip
        self._ports = {f"service{n}": port for n, port in enumerate(free_ports(services))}
        self._samples: list[Sample] = []
        self._wake: dict[str, float] = {}
        self._next_deed = 0.0
        self._strangers = 0
        self.outcome = Outcome(seed, "files" if not settings.opensearch.hosts else "servers")

    def run(self, points: int) -> Outcome:
        """Harm them at so many points at least, let all settle, and judge."""
        began = time.monotonic()
        try:
            self.driver.ask("opened", lambda: None, serving=self._settings.serving)
            for play, role in self._cast:
                self._start(play, role)
            with self.watched():
                while self.harmed() < points:
                    self._turn()
                    time.sleep(POLL_SECONDS)
                self.calm()
                self.outcome.violations += settle(self.processes, self.driver, self.looking, self._settings)
            self.judge()
        finally:
            self.close()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    # Harm

    def _start(self, play: Play, role: str) -> None:
        if play == "service":
            args = ("serve", "--port", str(self._ports[role]), "--log", "json")
            self.processes.start(play, role, longest=SERVICE_POINTS, args=args)
        else:
            self.processes.start(play, role, longest=CLIENT_POINTS, ports=list(self._ports.values()))

    def harmed(self) -> int:
        """How many crash points there were."""
        return self.outcome.crash_points + sum(len(process.fates()) for process in self.processes.started)

    def _turn(self) -> None:
        for process in self.processes.look():
            if process.ended:
                self.buried(process)
                play = next(play for play, role in self._cast if role == process.role)
                self._start(play, process.role)
        self.wake_up()
        if time.monotonic() >= self._next_deed:
            self._next_deed = time.monotonic() + self._chance.uniform(0.5, 3.0)
            self._do_harm()

    def _do_harm(self) -> None:
        """From outside, at any moment: in the middle of whatever they do."""
        runs = [process for process in self.processes.started if process.state == "runs"]
        victim = self._chance.choice(runs) if runs else None
        deed = self._chance.choices(("kill", "stop", "jump", "damage", "drop"), (12, 4, 4, 4, 1))[0]
        if deed == "jump":
            self.processes.set_clock(self._chance.choice((-HOUR, 0, HOUR)))
        elif deed in ("damage", "drop"):
            if not self._harm_index(deed):
                return
        elif victim is not None:
            victim.send(signal.SIGKILL if deed == "kill" else signal.SIGSTOP)
        self.outcome.points[f"{deed} at any moment"] += 1

    def _harm_index(self, deed: str) -> bool:
        """Whether it could be done: there may be no such index, or somebody else writes to it."""
        generation = self._chance.choice(sorted(self._settings.generations))
        index = self.looking.index_of(generation)
        if index is None:
            return False
        if deed == "drop":
            answer = self.driver.ask("drop-index", lambda: self.looking.drop(index), generation=generation)
            return answer == "acknowledged"
        hows: list[Damage] = ["lost", "vector"]
        # A document in front of a database that has no row yet is refused until a person builds the index again, as it
        # should be: nothing would heal by itself.
        if self._strangers < MOST_STRANGERS and self.looking.has_rows(generation):
            hows.append("stranger")
        how = self._chance.choice(hows)
        self._strangers += how == "stranger"
        try:
            self.looking.damage(index, how, self._chance)
        except Conflict:
            return False
        return True

    def wake_up(self) -> None:
        """Who was stopped for longer than a lease goes on."""
        for process in self.processes.started:
            if process.state == "stopped":
                due = self._wake.setdefault(
                    process.name, time.monotonic() + STOPPED_SHARE * self._settings.lease_seconds
                )
                if time.monotonic() >= due:
                    del self._wake[process.name]
                    process.send(signal.SIGCONT)
                    process.state = "runs"

    def buried(self, process: Process) -> None:
        """A process is gone: what it asked for and was not answered happened by now, or will not."""
        self.driver.ask("gone", lambda: None, actor=process.name)

    def calm(self) -> None:
        """Everybody is killed, and the clock is right again."""
        for process in self.processes.started:
            if not process.ended:
                process.send(signal.SIGKILL)
        while any(not process.ended for process in self.processes.started):
            for process in self.processes.look():
                if process.ended:
                    self.buried(process)
            time.sleep(POLL_SECONDS)
        self.processes.set_clock(0)

    def close(self) -> None:
        """Nothing runs and nothing is written any more."""
        self.calm()
        self.driver.close()

    # Seeing

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Meanwhile samples are taken."""
        over = threading.Event()
        failed: list[Exception] = []

        def look() -> None:
            try:
                while not over.wait(SAMPLE_SECONDS):
                    self._samples.append(self.looking.sample())
            except Exception as error:  # noqa: BLE001  it is raised where the run ends
                failed.append(error)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        if failed:
            raise failed[0]

    def judge(self) -> list[Violation]:
        """What the history proves wrong, and what nobody should ever have logged."""
        self._samples.append(self.looking.sample(documents=True))
        outcome = self.outcome
        history = History(operations(self.processes.history), self._samples, audit.commits(self._settings.catalog_url))
        outcome.violations += check(history)
        for process in self.processes.started:
            outcome.points.update(process.fates())
            outcome.violations += list(_unforeseen(process))
        outcome.operations = Counter(op.answer for op in history.operations)
        outcome.samples, outcome.commits = len(history.samples), len(history.commits)
        return outcome.violations


def _unforeseen(process: Process) -> Iterator[Violation]:
    for line in process.said().splitlines():
        if "Traceback" in line or '"internal"' in line:
            yield Violation("broken", f"{process.name} logged {line[:600]}")
