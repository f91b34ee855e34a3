"""What long work looks like, with and without a terminal."""

from __future__ import annotations

import io
import os
import pty
import sys
from pathlib import Path

import pytest
from cli_fake import event
from rich.console import Console

from speakerdb.cli.live import LineView, LiveView
from tests.cli.conftest import CommandLine


def console(width: int = 120, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, markup=False, highlight=False, emoji=False)


def written(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_lines_tell_everything() -> None:
    shown = console()
    with LineView(shown, interval=0.0001) as view:
        view(event(1))
    (line, *_) = written(shown).splitlines()
    for part in ("1/4 recordings", "0:30:00 of 2:00:00 audio", "180.0 x real time", "elapsed 0:00:1",
                 "left 0:00:05 to 0:00:09", "now 2.wav (v4, 12 turns, 2 speakers)"):  # fmt: skip
        assert part in line


def test_lines_come_at_once_and_at_the_end_but_not_for_every_step() -> None:
    shown = console()
    with LineView(shown, interval=3600) as view:
        for done in range(1, 5):
            view(event(done))
    lines = written(shown).splitlines()
    assert [line.split()[0] for line in lines] == ["1/4", "4/4"]


def test_lines_go_on_while_one_recording_takes_long() -> None:
    shown = console()
    with LineView(shown, interval=0.01) as view:
        view(event(1))
        while written(shown).count("1/4 recordings") < 3:
            pass
    assert written(shown).count("1/4 recordings") >= 3


def test_nothing_is_printed_without_work() -> None:
    shown = console()
    with LineView(shown, interval=3600):
        pass
    assert written(shown) == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_a_notice_is_printed_once(terminal: bool) -> None:
    shown = console(terminal=terminal)
    with LiveView(shown, lambda: False) if terminal else LineView(shown, 3600) as view:
        for _ in range(3):
            view(event(1, notice="CUDA failed; going on with the CPU."))
    assert written(shown).count("going on with the CPU") == 1


def test_the_live_view_shows_what_happens() -> None:
    from dataclasses import replace

    stopping: list[bool] = []
    shown = console(terminal=True)
    view = LiveView(shown, lambda: bool(stopping))
    shown.print(view.render())
    assert "starting" in written(shown)
    first = event(2)
    view(replace(first, progress=replace(first.progress, errors={"media-missing": 2, "not-finite": 1})))
    stopping.append(True)
    shown.print(view.render())
    text = written(shown)
    for part in ("2 of 4", "1:00:00 of 2:00:00", "3.wav", "12 turns, 2 speakers", "x real time", "0:00:05 to 0:00:09",
                 "failed 3 (media-missing 2, not-finite 1)", "stopping after this step"):  # fmt: skip
        assert part in text


def test_an_empty_queue_can_be_shown() -> None:
    from dataclasses import replace

    shown = console(terminal=True)
    view = LiveView(shown, lambda: False)
    one = event(0, eta=None, current=(), elapsed=0.0, audio_seconds=0.0)
    one = replace(one, progress=replace(one.progress, recordings_queued=3))
    view(replace(one, progress=replace(one.progress, recordings_total=0, audio_seconds_total=0.0)))
    shown.print(view.render())
    assert "0 of 0" in written(shown)
    assert "not known yet" in written(shown)


def test_the_report_ends_with_the_real_time_factor(cli: CommandLine) -> None:
    ran = cli("work")
    assert "real-time factor 0.0111 (90.0 x real time)" in ran.out
    assert "recordings" in ran.err


def in_a_terminal(code: str, tmp_path: Path) -> tuple[int, str]:
    """Runs Python code with a pseudo-terminal of its own; returns its exit status and what stood on the terminal."""
    child, terminal = pty.fork()
    if child == 0:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "SPEAKERDB_DATA_DIR": str(tmp_path)}
        os.execve(sys.executable, [sys.executable, "-c", code], environment)  # noqa: S606
    text = b""
    while True:
        try:
            got = os.read(terminal, 65536)
        except OSError:
            break
        if not got:
            break
        text += got
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), text.decode(errors="replace")


FAKE = f"""
import sys, signal
sys.path.insert(0, {str(Path(__file__).parent)!r})
import contextlib, cli_fake
from speakerdb.cli import session
from speakerdb.cli.main import main
db = cli_fake.FakeDB()
session.open_service = lambda settings: cli_fake.opened(db, [], settings)
"""


def test_on_a_terminal_there_are_bars(tmp_path: Path) -> None:
    wait = "import time\ndb.during_work = lambda: time.sleep(0.6)\nsys.exit(main(['work']))"
    status, text = in_a_terminal(FAKE + wait, tmp_path)
    assert status == 0
    assert "2 of 4" in text
    assert "3.wav (v4, 12 turns, 2 speakers)" in text
    assert "real-time factor" in text


def test_a_closed_terminal_does_not_end_the_step(tmp_path: Path) -> None:
    """The terminal goes away in the middle of a step: the step ends, is reported, and nothing raises."""
    done = tmp_path / "done"
    code = (
        FAKE
        + f"""
import os, pathlib, time
def during():
    print("ready", flush=True)
    for _ in range(2000):
        if os.path.exists({str(tmp_path / "hung-up")!r}):
            break
        time.sleep(0.005)
    time.sleep(0.3)
    pathlib.Path({str(done)!r}).write_text("step ended")
db.during_work = during
code = main(['work'])
pathlib.Path({str(done)!r}).write_text(f"step ended, exit code {{code}}")
"""
    )
    child, terminal = pty.fork()
    if child == 0:
        environment = {**os.environ, "TERM": "xterm", "SPEAKERDB_DATA_DIR": str(tmp_path)}
        os.execve(sys.executable, [sys.executable, "-c", code], environment)  # noqa: S606
    text = b""
    while b"ready" not in text:
        text += os.read(terminal, 65536)
    os.close(terminal)
    (tmp_path / "hung-up").touch()
    os.waitpid(child, 0)
    assert done.read_text() == "step ended, exit code 129"
