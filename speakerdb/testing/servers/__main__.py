"""`make servers`: starts both servers, says how to reach them, and ends them at Ctrl-C.

`run -- COMMAND ...` runs a command in whose environment the settings name them, and ends them with it. `--fetch` only
fetches what OpenSearch is made of, so that a test run need not.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from speakerdb.testing.servers import downloads, given, servers
from speakerdb.testing.servers.opensearch import fresh_prefix
from speakerdb.testing.servers.run import NoServer

_TITLES = {"PostgreSQL": given.POSTGRES, "OpenSearch": given.OPENSEARCH}


def fetch() -> None:
    """Fetches what is not in the cache yet; nothing where an OpenSearch is given."""
    given.take()
    if given.get(given.OPENSEARCH) is not None:
        return
    for artifact in (downloads.OPENSEARCH, downloads.KNN):
        if not downloads.is_here(artifact):
            print(f"fetching {artifact.filename}, {artifact.megabytes} MB, into {downloads.cache()}", file=sys.stderr)
        downloads.obtain(artifact)


def announce() -> None:
    """Fetches what is missing, and says what is started and how long that takes."""
    fetch()
    missing = [title for title, name in _TITLES.items() if given.get(name) is None]
    if missing:
        print(f"starting {' and '.join(missing)}: half a minute", file=sys.stderr, flush=True)


def serve() -> None:
    """Starts both, prints their addresses as lines for a shell, and waits until it is told to end."""
    announce()
    begun = time.monotonic()
    with servers() as started:
        database = started.postgres.new_database()
        for name, value in (
            ("SPEAKERDB_DATABASE_URL", database),
            ("SPEAKERDB_OPENSEARCH__HOSTS", started.opensearch.url),
            (given.POSTGRES, started.postgres.url),
            (given.OPENSEARCH, started.opensearch.url),
        ):
            print(f"export {name}={shlex.quote(value)}")
        print(f"ready after {time.monotonic() - begun:.0f} s; Ctrl-C ends both", file=sys.stderr)
        sys.stdout.flush()
        while True:
            signal.pause()


def run(command: Sequence[str]) -> int:
    """Runs a command on both, with a database and a prefix of its own; its exit status."""
    announce()
    with servers() as started:
        prefix = fresh_prefix()
        settings = {
            "SPEAKERDB_DATABASE_URL": started.postgres.new_database(),
            "SPEAKERDB_OPENSEARCH__HOSTS": started.opensearch.url,
            "SPEAKERDB_OPENSEARCH__PREFIX": prefix,
            "SPEAKERDB_OPENSEARCH__REPLICAS": "0",
        }
        try:
            child = subprocess.Popen(command, env=os.environ | settings)
        except OSError as error:
            raise SystemExit(f"{command[0]} cannot be run: {error.strerror}") from error
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.terminate()
            return child.wait()
        finally:
            started.opensearch.remove(prefix)  # where it goes on, because it was given by its address


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise KeyboardInterrupt


def main() -> int:
    """The program; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m speakerdb.testing.servers", description=__doc__)
    parser.add_argument("--fetch", action="store_true", help="only fetch what OpenSearch is made of")
    parser.add_argument(
        "run", nargs=argparse.REMAINDER, help="run -- COMMAND ...: a command on both, which end with it"
    )
    wish = parser.parse_args()
    command = wish.run[1:]
    if command[:1] == ["--"]:
        del command[0]
    if wish.run and (wish.run[0] != "run" or not command):
        parser.error("what is to be run comes after `run --`")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if wish.fetch:
            fetch()
        elif command:
            return run(command)
        else:
            serve()
    except KeyboardInterrupt:
        return 0
    except NoServer as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
