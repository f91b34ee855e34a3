from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs import quick_program


@pytest.fixture(scope="session")
def program() -> Iterator[Path]:
    """A folder for the front of a shell's path, with a `speakerdb` that starts quickly."""
    with _program() as folder:
        yield folder


@pytest.fixture(scope="session")
def program_with_models() -> Iterator[Path]:
    """The same, which has imported what real models need: each command would take seconds for it."""
    with _program("--models") as folder:
        yield folder


@contextmanager
def _program(*more: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="docs-") as name:
        folder = Path(name)
        command = [sys.executable, quick_program.__file__, str(folder / "link"), *more]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                quick_program.install(folder, folder / "link")
                yield folder
            finally:
                server.terminate()
