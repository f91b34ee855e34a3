"""The file of the embedded index: read-only, damaged, full, foreign, closed, and used by several threads."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from speakerdb.errors import (
    BackendError,
    ConfigurationError,
    DatabaseReadOnly,
    IndexMissing,
    IndexUnavailable,
    InvalidInput,
    SchemaNewer,
    StorageFull,
)
from speakerdb.index.embedded import EmbeddedIndex
from speakerdb.testing.index_oracle import DIMENSION, W, document, outcomes, vectors
from speakerdb.types import AliasAction, Document

NOBODY = 65534


def fill(path: Path, count: int = 50, dimension: int = DIMENSION) -> EmbeddedIndex:
    index = EmbeddedIndex(path)
    index.create("a", dimension, {"generation": "v0"})
    index.update_aliases([AliasAction.add("w", "a")])
    index.bulk("w", [document(f"id-{number}", vector=v) for number, v in enumerate(vectors(count, 0, dimension))])
    return index


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "index #1 %41.db"


# Durable, and one file


def test_opening_makes_the_folder_and_keeps_what_is_there(path: Path) -> None:
    fill(path).close()
    index = EmbeddedIndex(path)
    assert index.indices()["a"].documents == 50
    index.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_commits_are_durable(path: Path) -> None:
    index = fill(path)
    assert index._file._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert index._file._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    index.close()


def test_a_closed_index_says_so(path: Path) -> None:
    index = fill(path)
    index.close()
    index.close()
    calls: list[Callable[[], object]] = [
        index.indices,
        lambda: index.bulk("w", []),
        lambda: index.search("a", vectors(1), 1),
        lambda: index.scan("a"),
    ]
    for call in calls:
        with pytest.raises(IndexUnavailable):
            call()


# Errors


def test_a_file_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE indices (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError):
        EmbeddedIndex(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(path: Path) -> None:
    fill(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaNewer):
        EmbeddedIndex(path)


def test_a_folder_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(IndexUnavailable):
        EmbeddedIndex(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(IndexUnavailable):
        EmbeddedIndex(tmp_path / "file" / "index.db")


@pytest.mark.parametrize("size", [100, 600, 20_000])
def test_random_bytes_are_no_index(path: Path, size: int) -> None:
    path.parent.mkdir()
    path.write_bytes(np.random.default_rng(size).bytes(size))
    with pytest.raises(IndexUnavailable):
        EmbeddedIndex(path)


def test_damage_is_an_error_or_harmless_but_never_a_crash(path: Path) -> None:
    fill(path, 300).close()
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        place = int(rng.integers(0, len(whole) - 400))
        size = int(rng.integers(1, 400))
        damaged[place : place + size] = rng.bytes(size)
        path.write_bytes(damaged if rng.random() < 0.9 else whole[:place])
        try:
            index = EmbeddedIndex(path)
        except (BackendError, ConfigurationError):
            refused += 1
            continue
        try:
            index.indices()
            index.aliases()
            index.search("a", vectors(1), 400)
            list(index.scan("a"))
            index.fetch("a", ["id-1"])
        except BackendError:
            refused += 1
        finally:
            index.close()
    assert refused > 10


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE documents_1 SET kind = 'person'",
        "UPDATE documents_1 SET version = 'x'",
        "UPDATE documents_1 SET vector = x'00'",
    ],
)
def test_a_row_that_no_one_of_us_wrote_is_damage(path: Path, change: str) -> None:
    fill(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(change)
    connection.commit()
    connection.close()
    index = EmbeddedIndex(path)
    for read in (
        lambda: index.search("a", vectors(1), 1),
        lambda: index.fetch("a", ["id-1"]),
        lambda: list(index.scan("a")),
    ):
        with pytest.raises(IndexUnavailable, match="damaged"):
            read()
    index.close()


def test_a_full_disk_leaves_what_was_there(path: Path) -> None:
    index = fill(path)
    (pages,) = index._file._writer.execute("PRAGMA page_count").fetchone()
    index._file._writer.execute(f"PRAGMA max_page_count = {pages + 5}")
    more = [document(f"more-{number}", vector=v) for number, v in enumerate(vectors(5000))]
    with pytest.raises(StorageFull):
        index.bulk("w", more)
    assert index.indices()["a"].documents == 50
    assert len(index.search("a", vectors(1), 9999)[0]) == 50
    index._file._writer.execute("PRAGMA max_page_count = 1000000")
    assert outcomes(index, "w", more) == [W] * 5000
    assert len(index.search("a", vectors(1), 9999)[0]) == 5050
    index.close()


def test_a_locked_file_is_unavailable_and_then_works_again(path: Path) -> None:
    index = fill(path)
    index._file._writer.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(IndexUnavailable):
        index.bulk("w", [document("late")])
    assert len(index.search("a", vectors(1), 99)[0]) == 50
    other.execute("ROLLBACK")
    other.close()
    assert outcomes(index, "w", [document("late")]) == [W]
    index.close()


def test_bad_arguments(path: Path) -> None:
    index = fill(path)
    lone = "\ud800"
    for name, dimension, metadata in (("", 4, {}), ("b", 0, {}), ("b", 4, {"x": float("nan")}), ("b", 4, {"x": b""})):
        with pytest.raises(InvalidInput):
            index.create(name, dimension, metadata)
    with pytest.raises(InvalidInput):
        index.update_aliases([AliasAction("move", "w", "a")])
    with pytest.raises(InvalidInput):
        index.fetch("a", [lone])
    bad = [
        document(""),
        document("x", -1, vectors(1)[0]),
        document("y", 2**63),
        Document(lone, 1, "", *_rest(document("z"))),
    ]
    assert [result.outcome.value for result in index.bulk("w", bad)] == ["rejected"] * 4
    assert index.indices()["a"].documents == 50
    index.close()


def _rest(d: Document) -> tuple[object, ...]:
    return d.kind, d.library_id, d.recording_id, d.profile_id, d.vector


# Read-only


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that nobody's rights reach: pytest's own are private to the user who runs it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def unprivileged() -> Iterator[Callable[[], None]]:
    """A call after which file rights count, also where the tests run as root."""
    root = os.geteuid() == 0

    def give_up() -> None:
        if root:
            os.seteuid(NOBODY)

    yield give_up
    if root:
        os.seteuid(0)


@pytest.mark.parametrize("writer", [True, False], ids=["beside a writer", "at rest"])
def test_read_only_folder(open_folder: Path, unprivileged: Callable[[], None], writer: bool) -> None:
    at_work = fill(open_folder / "index.db")
    if not writer:
        at_work.close()
    for file in open_folder.iterdir():
        file.chmod(0o444)
    open_folder.chmod(0o555)
    unprivileged()
    index = EmbeddedIndex(open_folder / "index.db")
    index.create("a", DIMENSION, {"generation": "v0"})
    assert len(index.search("w", vectors(1), 99)[0]) == 50
    assert sum(1 for _ in index.scan("a")) == 50
    assert set(index.fetch("a", ["id-1"])) == {"id-1"}
    changes: list[Callable[[], object]] = [
        lambda: index.bulk("w", [document("x")]),
        lambda: index.create("b", DIMENSION, {}),
        lambda: index.drop("a"),
        lambda: index.update_aliases([AliasAction.remove("w", "a")]),
    ]
    for change in changes:
        with pytest.raises(DatabaseReadOnly):
            change()
    assert index.aliases() == {"w": ("a",)}
    index.close()
    if writer:
        at_work.close()


def test_read_only_folder_with_an_unfinished_log(open_folder: Path, unprivileged: Callable[[], None]) -> None:
    """What waits in the log was acknowledged: an answer without it would be a wrong one."""
    at_work = fill(open_folder / "first.db")
    for name in ("", "-wal"):
        (open_folder / f"index.db{name}").write_bytes((open_folder / f"first.db{name}").read_bytes())
    at_work.close()
    open_folder.chmod(0o555)
    unprivileged()
    with pytest.raises(IndexUnavailable):
        EmbeddedIndex(open_folder / "index.db")


def test_no_index_can_be_made_in_a_read_only_folder(open_folder: Path, unprivileged: Callable[[], None]) -> None:
    open_folder.chmod(0o555)
    unprivileged()
    with pytest.raises(IndexUnavailable):
        EmbeddedIndex(open_folder / "index.db")
    with pytest.raises(IndexUnavailable):
        EmbeddedIndex(open_folder / "deeper" / "index.db")


# Scans, caches, threads


def test_a_scan_that_is_given_up_lets_go_of_its_snapshot(path: Path) -> None:
    index = fill(path)

    def log_is_held() -> bool:
        index.bulk("w", [document("x", index.indices()["a"].documents + 1)])
        return bool(index._file._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])

    index._file._writer.execute("PRAGMA busy_timeout = 10")
    assert not log_is_held()
    for begun in (False, True):
        scan = index.scan("a")
        if begun:
            next(scan)
        index.bulk("w", [document(f"during-{begun}")])
        assert index._file._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        scan.close()
        assert not index._file._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    forgotten = index.scan("a")
    del forgotten
    assert not log_is_held()
    index.close()


def test_a_scan_outlives_drop_and_close(path: Path) -> None:
    index = fill(path)
    scan = index.scan("a")
    index.drop("a")
    index.close()
    assert sum(1 for _ in scan) == 50


def test_a_scan_needs_little_memory(path: Path) -> None:
    index = fill(path, 5000, 256)
    tracemalloc.start()
    try:
        assert sum(1 for _ in index.scan("a")) == 5000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    index.close()


def test_the_cache_of_a_dropped_index_is_let_go(path: Path) -> None:
    index = fill(path)
    index.create("b", DIMENSION, {})
    for name in "ab":
        index.search(name, vectors(1), 1)
    other = index.reopened()
    other.drop("a")
    other.close()
    kept = list(index._matrices.values())[1]
    index.search("b", vectors(1), 1)
    assert list(index._matrices.values()) == [kept]
    with pytest.raises(IndexMissing):
        index.search("a", vectors(1), 1)
    index.close()


def test_only_what_changed_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = fill(path)
    index.search("a", vectors(1), 1)
    (matrix,) = index._matrices.values()
    applied: list[int] = []
    apply = matrix.apply
    monkeypatch.setattr(matrix, "apply", lambda rows: (applied.append(len(rows)), apply(rows)))
    index.search("a", vectors(1), 1)
    assert applied == []
    index.bulk("w", [document("x"), document("id-1", 2, deleted=True)])
    index.search("a", vectors(1), 1)
    assert applied == [2]
    index.close()


def test_threads_write_search_and_scan_at_once(path: Path) -> None:
    index = fill(path)
    stop = threading.Event()

    def write(thread: int) -> None:
        for number in range(40):
            index.bulk("w", [document(f"t{thread}-{number}-{part}") for part in range(3)])
            index.bulk("w", [document(f"t{thread}-{number}-0", 2, deleted=True)])

    def read() -> None:
        last = 0
        while not stop.is_set():
            (hits,) = index.search("a", vectors(1), 10_000)
            assert len({hit.id for hit in hits}) == len(hits)
            assert len(hits) >= 50
            count = sum(1 for _ in index.scan("a"))
            assert count >= last
            last = count

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [pool.submit(write, thread) for thread in range(3)]:
            writer.result()
        stop.set()
        for reader in readers:
            reader.result()
    assert len(index.search("a", vectors(1), 10_000)[0]) == 50 + 3 * 40 * 2
    info = index.indices()["a"]
    assert (info.documents, info.tombstones) == (290, 120)
    assert json.dumps(dict(info.metadata)) == '{"generation": "v0"}'
    index.close()
