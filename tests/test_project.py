"""The project's own promises: what it pins, what it imports, what its files hold."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from speakerdb import errors
from speakerdb.errors import SpeakerDBError

# Put together here, so that this file does not hold what it forbids.
_DOT = r"\."
REGISTRIES = [
    f"pypi{_DOT}org",
    f"pythonhosted{_DOT}org",
    f"download{_DOT}pytorch{_DOT}org",
    f"anaconda{_DOT}(?:org|com)",
    f"npmjs{_DOT}(?:org|com)",
    f"maven(?:{_DOT}apache)?{_DOT}org",
    f"repo1{_DOT}maven",
    r"(?:--|PIP_|UV_)(?:extra[-_])?index[-_]url[ =]+\S*:/{2}",
]
MACHINES = [
    r"/{1}home/\w",
    r"/{1}Users/\w",
    r"/{1}root/",
    r"/{1}work/\w",
    r"[A-Z]:\\+Users\\",
    r"\.pyenv/{1}versions",
]


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    """Every file that git tracks, or would if it were added."""
    git = shutil.which("git")
    if git is None or not (repository / ".git").exists():
        pytest.skip("needs a git checkout")
    command = [git, "-C", str(repository), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    files = [repository / name for name in names if name and (repository / name).is_file()]
    assert repository / "pyproject.toml" in files
    return files


@pytest.mark.parametrize("pattern", REGISTRIES + MACHINES)
def test_no_tracked_file_names_a_registry_or_a_machine(tracked: list[Path], repository: Path, pattern: str) -> None:
    forbidden = re.compile(pattern.encode())
    found = [str(path.relative_to(repository)) for path in tracked if forbidden.search(path.read_bytes())]
    assert found == []


@pytest.fixture(scope="module")
def lock(repository: Path) -> dict[str, tuple[Requirement, list[str]]]:
    """Requirement and hashes by canonical name."""
    entries: dict[str, tuple[Requirement, list[str]]] = {}
    text = (repository / "requirements.lock").read_text(encoding="utf-8")
    for logical in text.replace("\\\n", " ").splitlines():
        if not logical.strip() or logical.lstrip().startswith("#"):
            continue
        pin, *hashes = logical.split("--hash=")
        requirement = Requirement(pin.strip())
        name = canonicalize_name(requirement.name)
        assert name not in entries, f"{name} is pinned twice: every Python must get the same version"
        entries[name] = (requirement, [h.strip() for h in hashes])
    return entries


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def _pinned(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", requirement
    assert "*" not in specifier.version, requirement
    return specifier.version


def test_the_lock_pins_and_hashes_every_package(lock: dict[str, tuple[Requirement, list[str]]]) -> None:
    assert len(lock) > 100
    for requirement, hashes in lock.values():
        assert _pinned(requirement)
        assert requirement.url is None
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), requirement


def test_the_lock_holds_no_address(repository: Path) -> None:
    text = (repository / "requirements.lock").read_text(encoding="utf-8")
    assert re.findall(r"\w+:/{2}\S+|^ *-.*(?:index|find-links|trusted-host).*$", text, re.MULTILINE) == []


def test_torch_and_torchaudio_are_of_one_version(lock: dict[str, tuple[Requirement, list[str]]]) -> None:
    assert _pinned(lock["torch"][0]) == _pinned(lock["torchaudio"][0])
    # On every platform: a marker would leave one of them to chance.
    assert lock["torch"][0].marker is None
    assert lock["torchaudio"][0].marker is None


def test_the_lock_is_of_this_pyproject(
    lock: dict[str, tuple[Requirement, list[str]]], project: dict[str, Any], repository: Path
) -> None:
    build = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], *build, "uv"]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in lock, f"{name} is not in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(_pinned(lock[name][0])), f"{requirement}: run `make lock`"


PROBE = """
import json, sys
sys.argv = ["speakerdb", *sys.argv[1:]]
from speakerdb.cli.main import main
if sys.argv[1:]:
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, stopped.code
print()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize("arguments", [[], ["--help"], ["migrate", "--help"]], ids=["import", "help", "migrate-help"])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    command = [sys.executable, "-c", PROBE, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    if arguments:
        assert "Usage" in result.stdout
    loaded = set(json.loads(result.stdout.splitlines()[-1]))
    assert "speakerdb" in loaded
    assert loaded & {"torch", "torchaudio", "pyannote", "sqlalchemy", "alembic", "huggingface_hub", "av"} == set()


def _tree(cls: type[SpeakerDBError]) -> Iterator[type[SpeakerDBError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _tree(below)


ERRORS = sorted(
    {c for c in _tree(SpeakerDBError) if c.__module__.startswith(errors.__name__)}, key=lambda c: c.__name__
)


def test_error_codes_are_unique() -> None:
    # A class that inherits its code has none of its own, and is seen here as a second one.
    codes = [cls.code for cls in ERRORS]
    assert len(codes) > 30
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_every_error_is_complete(cls: type[SpeakerDBError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.code)
    assert inspect.cleandoc(cls.__doc__ or ""), "the docstring is the error's explanation"
    assert 0 < cls.exit_code < 126, "above are the shell's own"
    assert 400 <= cls.http_status < 600
    assert cls.scope in {"item", "recording", "run"}

    sent = cls("what happened", hint="what to do", number=3)
    got = pickle.loads(pickle.dumps(sent))  # noqa: S301  (errors cross process borders this way)
    assert type(got) is cls
    assert (got.message, got.hint, got.details) == ("what happened", "what to do", {"number": 3})
    assert cls("what happened").hint == cls.default_hint


def test_files_stay_small(repository: Path) -> None:
    files = sorted((repository / "speakerdb").rglob("*.py"))
    assert files
    lengths = {str(f.relative_to(repository)): len(f.read_text(encoding="utf-8").splitlines()) for f in files}
    assert {name: length for name, length in lengths.items() if length > 500} == {}, "a room that wants to be two"


def test_ci_runs_the_command_of_the_readme(repository: Path) -> None:
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert "make test" in readme
    assert "make demo" in readme


def test_the_network_is_refused(refuse_network: list[str]) -> None:
    with socket.socket() as outside, pytest.raises(AssertionError, match="do not use the network"):
        outside.connect(("192.0.2.1", 80))
    with pytest.raises(AssertionError, match="do not use the network"):
        socket.getaddrinfo("example.invalid", 80)
    assert refuse_network == ["connect 192.0.2.1", "look-up of example.invalid"]
    refuse_network.clear()


def test_loopback_is_not_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.sendall(b"x")
        accepted, _ = server.accept()
        with accepted:
            assert accepted.recv(1) == b"x"
