"""The command hook: what it is run for, at least once, and what becomes of a command that fails."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from serve_kit import add, holder, wait_for

from speakerdb.catalog import cleaning, journal, leases
from speakerdb.catalog.catalog import Catalog
from speakerdb.errors import HookFailed, LeaseHeld
from speakerdb.events import KINDS
from speakerdb.hooks import CURSOR, FAR_BEHIND, FOR_A_PERSON, LEASE_NAME, Hooks, kinds_of
from speakerdb.scheduler import Service
from speakerdb.service import SpeakerDB
from speakerdb.settings import HookSettings, Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings
from speakerdb.testing.faults import SimulatedCrash

TAKE = """
import os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
text = sys.stdin.read()
with (folder / "got").open("a") as file:
    file.write(text)
if (folder / "fail").exists():
    sys.exit("the mail server is away")
"""


class Stand:
    """A library, and a command that writes down what it got; it fails while the file `fail` is there."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder = folder
        self.outcomes: Counter[str] = Counter()
        self.hook = HookSettings(on_event=(sys.executable, "-c", TAKE, str(folder)), **more)
        self.db = SpeakerDB.open(self.settings(), executor=FakeExecutor())
        self.hooks = self.another()

    def settings(self) -> Settings:
        return fake_settings(self.folder / "data", hooks=self.hook)

    def another(self) -> Hooks:
        """As another process has it."""
        return Hooks(self.db.catalog, self.hook, self)

    def hook_ran(self, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def happens(self, *kinds: str) -> None:
        with self.db.catalog.job() as tx:
            for kind in kinds:
                journal.record(tx, kind, "ada", self.db.catalog.now(), entity_id="v3", why="a test", number=len(kinds))

    @property
    def got(self) -> list[dict[str, Any]]:
        path = self.folder / "got"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.got]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    made: list[Stand] = []

    def build(**more: Any) -> Stand:
        made.append(Stand(tmp_path, **more))
        return made[-1]

    yield build
    for stand in made:
        stand.db.close()


def test_it_begins_with_what_comes_after_it_was_set(make: Callable[..., Stand]) -> None:
    stand = make()
    stand.happens("lease-broken")
    assert stand.hooks.deliver() == 0
    stand.happens("lease-broken", "recording-added", "rollback-ending")
    assert stand.hooks.deliver() == 2
    assert stand.kinds == ["lease-broken", "rollback-ending"]
    told = stand.got[0]
    assert set(told) == {"id", "at", "kind", "who", "source", "why", "migration", "entity", "data"}
    assert (told["who"], told["why"], told["entity"], told["data"]) == ("ada", "a test", "v3", {"number": 3})
    assert stand.hooks.deliver() == 0
    assert stand.outcomes == {"delivered": 2}
    assert holder(stand.db, LEASE_NAME) is None


def test_without_a_command_nothing_is_done_and_nothing_written(tmp_path: Path) -> None:
    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor()) as db:
        service = Service(db)
        assert "hooks" not in [view.name for view in service.jobs()]
        with db.catalog.read() as tx:
            assert cleaning.position(tx, CURSOR) is None


def test_a_service_that_was_down_tells_what_happened_meanwhile(make: Callable[..., Stand]) -> None:
    stand = make()
    stand.hooks.deliver()
    stand.happens("lease-broken")
    assert stand.another().deliver() == 1
    assert stand.hooks.deliver() == 0, "one of two delivers"


def test_a_failing_command_is_tried_again_and_then_passed_over(
    make: Callable[..., Stand], caplog: pytest.LogCaptureFixture
) -> None:
    stand = make(attempts=3)
    stand.hooks.deliver()
    (stand.folder / "fail").touch()
    stand.happens("lease-broken", "rollback-ending")
    for _ in range(2):
        with pytest.raises(HookFailed, match=r"exit status 1\. the mail server is away"):
            stand.hooks.deliver()
    assert stand.kinds == ["lease-broken"] * 2, "the next one waits for its turn"
    with pytest.raises(HookFailed):  # the third attempt of the first, and the first of the second
        stand.hooks.deliver()
    assert stand.kinds == ["lease-broken"] * 3 + ["rollback-ending"]
    assert stand.outcomes == {"failed": 4, "passed-over": 1}
    assert "hook-passed-over" in caplog.text
    (stand.folder / "fail").unlink()
    assert stand.hooks.deliver() == 1
    assert stand.kinds[-1] == "rollback-ending"


def test_a_crash_after_the_command_delivers_again(make: Callable[..., Stand], monkeypatch: pytest.MonkeyPatch) -> None:
    stand = make()
    stand.hooks.deliver()
    stand.happens("lease-broken")

    def die(*_: object) -> None:
        raise SimulatedCrash

    with monkeypatch.context() as patched:
        patched.setattr(cleaning, "move_to", die)
        with suppress(SimulatedCrash):
            stand.hooks.deliver()
    stand.db.catalog.break_lease(LEASE_NAME, "ada", why="its process died")
    assert stand.another().deliver() == 2, "the same once more, and that the lease was broken"
    assert stand.kinds == ["lease-broken"] * 3
    assert stand.got[0]["id"] == stand.got[1]["id"], "its number tells that it is the same"


def test_a_command_that_takes_longer_than_the_lease_keeps_it(make: Callable[..., Stand], tmp_path: Path) -> None:
    """Else a second service would take it, run the command too, and both lose it to each other for ever."""
    stand = make()
    stand.hooks.deliver()
    stand.happens("lease-broken")
    catalog = Catalog(stand.db.settings.catalog_url, locks=tmp_path / "locks", lease_seconds=1.0)
    until = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)"
    patient = HookSettings(on_event=(sys.executable, "-c", until, str(tmp_path / "go")), timeout_seconds=60.0)
    answers: list[int] = []
    delivering = threading.Thread(target=lambda: answers.append(Hooks(catalog, patient, stand).deliver()))
    delivering.start()

    def lease() -> leases.LeaseRow | None:
        with stand.db.catalog.read() as tx:
            return leases.find(tx, LEASE_NAME)

    wait_for(lambda: (row := lease()) is not None and row.holder is not None, "taking the lease")
    taken = lease()
    assert taken is not None
    assert taken.expires_at is not None
    wait_for(
        lambda: (row := lease()) is not None and (row.expires_at or 0) > taken.expires_at + 1_000_000, "renewing it"
    )
    assert (row := lease()) is not None
    assert row.epoch == taken.epoch
    (tmp_path / "go").touch()
    delivering.join()
    catalog.close()
    assert answers == [1]


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(make: Callable[..., Stand], tmp_path: Path) -> None:
    stand = make(timeout_seconds=0.3)
    stand.hooks.deliver()
    stand.happens("lease-broken")
    child = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]])"
    slow = HookSettings(on_event=(sys.executable, "-c", start, str(tmp_path / "pid")), timeout_seconds=3.0)
    with pytest.raises(HookFailed, match="took more than 3 s"):
        Hooks(stand.db.catalog, slow, stand).deliver()
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not _alive(pid), "its child's end")


def test_a_command_is_ended_when_the_process_is_to_end_and_delivered_by_the_next(make: Callable[..., Stand]) -> None:
    stand = make()
    stand.hooks.deliver()
    stand.happens("lease-broken")
    slow = HookSettings(on_event=(sys.executable, "-c", "import time; time.sleep(600)"))
    asked = iter([False, False])
    assert Hooks(stand.db.catalog, slow, stand).deliver(stop=lambda: next(asked, True)) == 0
    assert stand.outcomes == {}
    assert stand.hooks.deliver() == 1


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_command_that_cannot_be_ended_uses_its_attempts_up_all_the_same(
    make: Callable[..., Stand], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that sudo has made another user's: nobody but root may end it."""
    stand = make(timeout_seconds=0.1, attempts=2)
    stand.hooks.deliver()
    stand.happens("lease-broken")
    stand.hook = stand.hook.model_copy(update={"on_event": (sys.executable, "-c", "import time; time.sleep(600)")})
    hooks = stand.another()
    left: list[int] = []

    def denied(pid: int, _number: int) -> None:
        left.append(pid)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", denied)
    try:
        with pytest.raises(HookFailed, match="took more than"):
            hooks.deliver()
        assert hooks.deliver() == 0, "it is passed over"
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert stand.outcomes == {"failed": 2, "passed-over": 1}
    assert caplog.text.count("hook-left-behind") == 2


def test_a_command_that_is_not_there_is_told(make: Callable[..., Stand]) -> None:
    stand = make()
    stand.hooks.deliver()
    stand.happens("lease-broken")
    with pytest.raises(HookFailed, match="cannot be started"):
        Hooks(stand.db.catalog, HookSettings(on_event=("/nowhere/notify",)), stand).deliver()


def test_only_one_process_delivers_at_a_time(make: Callable[..., Stand]) -> None:
    stand = make()
    stand.hooks.deliver()
    stand.happens("lease-broken")
    with stand.db.catalog.holding(LEASE_NAME), pytest.raises(LeaseHeld):
        stand.another().deliver()


def test_far_behind_it_moves_past_what_it_is_not_run_for(make: Callable[..., Stand]) -> None:
    stand = make(kinds=("lease-broken",))
    stand.hooks.deliver()
    stand.happens(*["recording-added"] * (FAR_BEHIND + 1))
    before = _position(stand.db.catalog)
    stand.hooks.deliver()
    assert _position(stand.db.catalog) > before + FAR_BEHIND
    stand.happens("lease-broken")
    assert stand.hooks.deliver() == 1


def test_kinds_are_chosen_by_patterns_and_must_exist() -> None:
    assert set(FOR_A_PERSON) <= set(KINDS)
    assert kinds_of(HookSettings()) == FOR_A_PERSON
    chosen = kinds_of(HookSettings(kinds=("migration-*", "quarantined")))
    assert "migration-finalized" in chosen
    assert all(kind.startswith("migration-") or kind == "quarantined" for kind in chosen)
    assert kinds_of(HookSettings(kinds=("*",))) == tuple(KINDS)
    with pytest.raises(ValidationError, match="no kind of event is like"):
        HookSettings(kinds=("migration_finalized",))


def test_the_service_runs_it_and_works_on_while_it_fails(make: Callable[..., Stand]) -> None:
    stand = make(kinds=("recording-added",), attempts=100)
    (stand.folder / "fail").touch()
    service = Service(stand.db)
    service.start()
    try:
        wait_for(lambda: _has_begun(stand.db.catalog), "its beginning")
        add(stand.db, "a")
        failing = lambda: next(view for view in service.jobs() if view.name == "hooks").code == "hook-failed"  # noqa: E731
        wait_for(failing, "its failure")
        wait_for(lambda: stand.db.progress().recordings_done == 1, "the work, all the same")
        wait_for(lambda: service.ready() == (True, []), "its readiness, all the same")
        (stand.folder / "fail").unlink()
        wait_for(lambda: not failing(), "its recovery")
        assert b'speakerdb_hook_runs_total{outcome="delivered"} 1.0' in service.metrics.render()
        assert set(stand.kinds) == {"recording-added"}
    finally:
        assert service.stop()


def _position(catalog: Catalog) -> int:
    with catalog.read() as tx:
        return cleaning.position(tx, CURSOR) or 0


def _has_begun(catalog: Catalog) -> bool:
    with catalog.read() as tx:
        return cleaning.position(tx, CURSOR) is not None


def _alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
