"""What OpenSearch is made of: fetched once, checked by SHA-256 at every use, kept outside the work tree.

Fetching is a program of its own (`python -m speakerdb.testing.servers.downloads`): tests refuse connections to other
machines in their own process, and a process that hangs can be ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from speakerdb.testing.servers.run import NoServer

# Seconds for one file: enough for the larger one at 2 Mbit/s.
PATIENCE = 900.0


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a Maven repository: its coordinates, its SHA-256, its size in MB for whoever waits."""

    coordinates: str
    sha256: str
    megabytes: int

    @property
    def filename(self) -> str:
        """Its name in the cache: another version is another file."""
        _, name, kind, version = self.coordinates.split(":")
        return f"{name}-{version}.{kind}"


OPENSEARCH = Artifact(
    "org.opensearch.distribution.integ-test-zip:opensearch:zip:3.6.0",
    "a91faa1dc1cadc78cb278b4f63847e19e1627a4e9de698e14e7efc14ee37b286",
    162,
)
KNN = Artifact(
    "org.opensearch.plugin:opensearch-knn:zip:3.6.0.0",
    "ac392ca28a39b3bf290648a422ef30cb149dda2963a9d7feb26060e932341c9a",
    6,
)


def cache() -> Path:
    """The folder of what was fetched: `$XDG_CACHE_HOME/speakerdb/servers`, else `~/.cache/speakerdb/servers`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "speakerdb" / "servers"


def fetch(artifact: Artifact, target: Path) -> None:
    """Fetches one file in a process of its own. `NoServer` where that fails."""
    package = Path(__file__).parents[3]
    program = [sys.executable, "-m", __name__, artifact.coordinates, str(target)]
    try:
        done = subprocess.run(
            program,
            env={**os.environ, "PYTHONPATH": str(package)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NoServer(f"{artifact.coordinates} was not fetched within {PATIENCE:.0f} s") from error
    if done.returncode != 0:
        why = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise NoServer(f"{artifact.coordinates} could not be fetched: {why}")


def obtain(artifact: Artifact, fetch: Callable[[Artifact, Path], None] = fetch) -> Path:
    """The file in the cache, fetched where it is missing or damaged; two processes at once fetch it once.

    `NoServer` where it cannot be fetched, or has another checksum twice.
    """
    folder = cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{artifact.filename}.lock").open("a")
    except OSError as error:
        raise NoServer(
            f"{folder} cannot be written ({error.strerror}): set XDG_CACHE_HOME to a folder that can"
        ) from error
    file = folder / artifact.filename
    found = ""
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if file.exists() and checksum(file) == artifact.sha256:
            return file
        for _ in range(2):
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as beside:
                part = Path(beside) / artifact.filename
                fetch(artifact, part)
                found = checksum(part)
                if found == artifact.sha256:
                    part.replace(file)
                    return file
    raise NoServer(f"{artifact.coordinates} has the SHA-256 {found}, twice, and should have {artifact.sha256}")


def is_here(artifact: Artifact) -> bool:
    """Whether it lies in the cache, unchecked."""
    return (cache() / artifact.filename).exists()


def checksum(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def main(coordinates: str, target: str) -> None:
    """Fetches one file, from the repository that the package maven-artifact knows."""
    try:
        import maven_artifact
    except ModuleNotFoundError as error:
        raise SystemExit(f"the package {error.name} is missing: install speakerdb[dev]") from error
    try:
        maven_artifact.Downloader().download(maven_artifact.Artifact.parse(coordinates), filename=target)
    except (maven_artifact.requestor.RequestException, OSError) as error:
        raise SystemExit(" ".join(str(error).split())) from error


if __name__ == "__main__":
    main(*sys.argv[1:])
