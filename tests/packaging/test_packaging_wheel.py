"""The wheel is what a user gets: built without network, installed where this checkout cannot be imported, and used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from speakerdb import __version__
from tests.docs.pages import page
from tests.docs.reader import follow, furnish


def build(source: Path, into: Path, *targets: str) -> None:
    """Run the build backend of `pyproject.toml`, which is in the environment."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(into), *targets]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    build(repository, into, "--target", "wheel")
    (built,) = into.iterdir()
    assert built.name == f"speakerdb-{__version__}-py3-none-any.whl"
    return built


def names(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def sources(repository: Path, folder: str, packed: str) -> set[str]:
    top = repository / folder
    return {
        f"{packed}/{path.relative_to(top).as_posix()}"
        for path in top.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_the_migrations_and_the_index_definitions(wheel: Path, repository: Path) -> None:
    wanted = sources(repository, "speakerdb", "speakerdb")
    wanted |= sources(repository, "migrations", "speakerdb/_migrations")
    wanted |= sources(repository, "opensearch", "speakerdb/_opensearch")
    assert names(wheel) == wanted
    assert {"speakerdb/_migrations/env.py", "speakerdb/_opensearch/speakers_v4.json"} <= wanted


def test_the_source_archive_gives_the_same_wheel(wheel: Path, repository: Path, tmp_path: Path) -> None:
    build(repository, tmp_path / "archive", "--target", "sdist")
    (archive,) = (tmp_path / "archive").iterdir()
    with tarfile.open(archive) as packed:
        members = packed.getnames()
        packed.extractall(tmp_path / "unpacked", filter="data")
    top = tmp_path / "unpacked" / f"speakerdb-{__version__}"
    assert {f"{top.name}/{n}" for n in ("Makefile", "requirements.lock", "docs/index.md", "LICENSE")} <= set(members)
    strays = re.compile(r"/(\.git/|\.venv|\.demo|\.ci/|site/|dist/|\.env$|[\w.]*_cache/|__pycache__)")
    assert [name for name in members if strays.search(name)] == []
    build(top, tmp_path / "again", "--target", "wheel")
    (again,) = (tmp_path / "again").iterdir()
    first, second = zipfile.ZipFile(wheel), zipfile.ZipFile(again)
    assert {i.filename: i.CRC for i in first.infolist()} == {i.filename: i.CRC for i in second.infolist()}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment that holds the wheel, beside the dependencies of this environment."""
    folder = tmp_path_factory.mktemp("overlay")
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    # A folder that a .pth file names has its own .pth files left alone, and with them the editable install of the checkout.
    (own,) = (folder / "lib").glob("python*/site-packages")
    paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (own / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n", encoding="utf-8")
    command = [
        *(
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--offline",
            "--no-index",
            "--no-deps",
            "--no-cache",
        ),
        *("--python", str(programs / "python"), str(wheel)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return programs


def run(installed: Path, folder: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(installed / command[0]), *command[1:]],
        cwd=folder,
        env=environment | {"SPEAKERDB_DATA_DIR": str(folder / "data")},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


WHERE = """
import sys
import speakerdb
from speakerdb.catalog.upgrade import scripts
print(speakerdb.__file__, scripts(), *sys.path, sep="\\n")
"""


@pytest.mark.acceptance
def test_the_installed_program_comes_from_the_wheel_alone(installed: Path, repository: Path, tmp_path: Path) -> None:
    module, scripts, *path = run(installed, tmp_path, "python", "-c", WHERE).splitlines()
    assert Path(module).is_relative_to(installed.parent)
    assert Path(scripts).is_relative_to(installed.parent)
    assert str(repository) not in path
    assert run(installed, tmp_path, "speakerdb", "--version") == f"speakerdb {__version__}\n"
    assert "The schema is at" in run(installed, tmp_path, "speakerdb", "db", "upgrade")


@pytest.mark.acceptance
def test_the_installed_program_follows_the_quickstart_from_an_empty_folder(
    installed: Path, tmp_path: Path, standin_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    furnish(tmp_path, standin_models)
    printed = follow(page("docs/quickstart.md"), tmp_path, programs=(installed,), before="4. Name people")
    assert len(printed) >= 4
    assert any("decision: accept" in text for text in printed.values())


def test_the_changelog_says_what_this_version_brought(repository: Path) -> None:
    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert versions[0] == __version__
    assert versions == sorted(versions, key=lambda v: [int(part) for part in v.split(".")], reverse=True)
    assert "## [Unreleased]" in text
