"""What every test stands on: no network, nothing of the developer's own settings, and nothing left running.

The environment is set here, before any test module is imported: pyannote.audio and huggingface_hub read it once, at
their first import.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import sqlalchemy.util
from hypothesis import HealthCheck, settings
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from speakerdb.testing.servers import given

ROOT = Path(__file__).resolve().parent.parent
SPEECH = ROOT.parent / "shared" / "assets" / "speech"
TOKENS = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGINGFACE_TOKEN", "HUGGINGFACE_ACCESS_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SWITCHES = ("PYANNOTE_MODE", "PYANNOTE_VERSION", "PYANNOTE_FALLBACK")
# Every process that a test starts inherits this mark, however far from its parent it ends up.
MARK = f"PYTEST_FAMILY={uuid.uuid4().hex}"
# Helpers of the standard library that end by themselves when the interpreter that started them does.
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

_folder = tempfile.TemporaryDirectory(prefix="speakerdb-tests-", ignore_cleanup_errors=True)
SCRATCH = Path(_folder.name)


def _isolate() -> None:
    for name in list(os.environ):
        if name.upper().startswith("SPEAKERDB_") or name in TOKENS + SWITCHES:
            del os.environ[name]
    os.environ.update(
        {
            "PYANNOTE_METRICS_ENABLED": "0",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            "HF_HOME": str(SCRATCH / "huggingface"),
            "XDG_DATA_HOME": str(SCRATCH / "data"),
            "NO_COLOR": "1",
            "COLUMNS": "160",
            # What is fastest on this machine is measured once for each folder of models, with some seconds of work, and every
            # test has a folder of its own. tests/models has the tests of that.
            "SPEAKERDB_EXTRACTOR__BACKEND": "torch",
        }
    )
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        os.environ.pop(name, None)
    # The workers share the cores; a model that takes them all in each of them is slower, not faster.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    name, _, value = MARK.partition("=")
    os.environ[name] = value


def _compile_once() -> None:
    """Engines share the statements that they have compiled, as a process with one engine does.

    A test opens a library several times, each with an engine of its own: compiling anew what they all ask took a third
    of the time of the tests that do nothing else.
    """
    shared = sqlalchemy.util.LRUCache[Any, Any](2000)

    def alike(self: Any, other: object) -> bool:
        return type(self) is type(other) and self.server_version_info == other.server_version_info  # type: ignore[attr-defined]

    # A statement is kept by the dialect it was compiled for, and each engine has an object of its own.
    for dialect in (SQLiteDialect_pysqlite, PGDialect_psycopg):
        dialect.__eq__, dialect.__hash__ = alike, lambda self: hash(type(self))  # type: ignore[method-assign]
    sqlalchemy.Engine._compiled_cache = property(lambda _: shared, lambda _, __: None)  # type: ignore[assignment]


_compile_once()
given.take()  # addresses of servers for the tests; the product must not see them
_isolate()
pytest_plugins = ["speakerdb.testing.servers.plugin"]

_COMMON: dict[str, Any] = {
    "deadline": None,  # no test asserts on time
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
IN_CI = bool(os.environ.get("CI"))
settings.register_profile("default", max_examples=40, stateful_step_count=25, derandomize=IN_CI, **_COMMON)
settings.register_profile("thorough", max_examples=1000, stateful_step_count=80, **_COMMON)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)
THOROUGH_SECONDS = 4 * 3600.0
"""After so long a test counts as hanging in the profile `thorough`, in which some take an hour."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Many more examples may take more time than a test usually has."""
    if PROFILE == "thorough":
        for item in items:
            item.add_marker(pytest.mark.timeout(THOROUGH_SECONDS), append=False)


class NetworkRefused(AssertionError):
    """A test tried to reach something outside this machine."""


def _is_loopback(host: str | bytes | None) -> bool:
    if host is None:
        return True
    name = (host.decode() if isinstance(host, bytes) else host).split("%")[0]
    if name in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture(autouse=True)
def refuse_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Refuses connections and name look-ups outside loopback, and fails the test even where the refusal was swallowed.

    Gives the list of what was refused; a test that provokes a refusal on purpose clears it.
    """
    refused: list[str] = []

    def check(host: Any, what: str) -> None:
        if not _is_loopback(host):
            refused.append(f"{what} {host}")
            raise NetworkRefused(f"{what} {host}: tests do not use the network")

    def guard(name: str) -> None:
        real: Callable[..., Any] = getattr(socket.socket, name)

        def guarded(self: socket.socket, *args: Any) -> Any:
            # The address is the last argument of connect, connect_ex and sendto alike.
            if self.family in (socket.AF_INET, socket.AF_INET6) and args and isinstance(args[-1], tuple):
                check(args[-1][0], name)
            return real(self, *args)

        monkeypatch.setattr(socket.socket, name, guarded)

    for name in ("connect", "connect_ex", "sendto"):
        guard(name)
    real_getaddrinfo = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        check(host, "look-up of")
        return real_getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield refused
    if refused:
        pytest.fail("used the network: " + "; ".join(refused), pytrace=False)


def _family() -> dict[int, str]:
    """Command by process id of the living processes that carry this session's mark. Linux only: empty elsewhere."""
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it ended while we looked, or it is another user's
            continue
        if not any(helper in command for helper in HELPERS):
            found[int(entry.name)] = command
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """The first fixture to begin and the last to end: when it ends, nothing that a test started may still run."""
    yield
    patience = time.monotonic() + 5.0
    while (left := _family()) and time.monotonic() < patience:
        time.sleep(0.1)
    if left:
        pytest.fail(f"left running: {left}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def working_directory(nothing_left_running: None) -> Iterator[Path]:
    """An empty working directory: a `.env` or `speakerdb.toml` of the developer's must not reach the tests."""
    before = Path.cwd()
    folder = SCRATCH / "cwd"
    folder.mkdir()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of this repository."""
    return ROOT


@pytest.fixture(scope="session")
def standin_models() -> Path:
    """The stand-in checkpoints of both model classes."""
    folder = ROOT / "tests" / "assets" / "models"
    assert folder.is_dir(), f"{folder} belongs to the repository"
    return folder


@pytest.fixture(scope="session")
def speech() -> Path:
    """Real speech with speaker labels, which lies beside the repository where it is there at all."""
    if not SPEECH.is_dir():
        pytest.skip("needs the speech in ../shared/assets/speech, which is not here")
    return SPEECH
