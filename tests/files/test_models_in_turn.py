"""Models side by side where they fit into memory, else in turn. What is free is said by the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from speakerdb.extraction.shelf import Keep, Place, Shelf
from speakerdb.models import memory
from speakerdb.models.registry import LoadedModel
from speakerdb.settings import Settings
from speakerdb.testing.factories import fake_settings
from speakerdb.types import Generation, ModelSpec, OperatingPoint

SIZE = 1_000_000
NEEDED = SIZE * memory.TIMES_ITS_FILE + memory.WORKING_BYTES


class Machine:
    """A shelf, the memory it is told of, and what was loaded in which order."""

    def __init__(self, folder: Path, keep: Keep, free: int | None) -> None:
        self.free = free
        self.loads: list[str] = []
        self.breaks: dict[str, list[type[Exception] | str]] = {}
        self.place = Place("cpu", None, keep)
        self.checkpoint = folder / "model.bin"
        self.checkpoint.write_bytes(b"\0" * SIZE)
        self.shelf = Shelf(free=lambda _: self.free)

    def get(self, name: str) -> LoadedModel:
        spec = ModelSpec("pyannote", name, 4, sources=(str(self.checkpoint), "hub"))
        generation = Generation(name, spec, OperatingPoint(0.7, 0.5, 0.1))
        return self.shelf.get(name, generation, self.place, lambda: self._load(name))

    def _load(self, name: str) -> LoadedModel:
        self.loads.append(name)
        broken = self.breaks.get(name, [])
        how = broken.pop(0) if broken else None
        if isinstance(how, type):
            raise how
        embedder: Any = SimpleNamespace(notices=(), out_of_memory=how == "fell back")
        return LoadedModel(embedder, "0" * 64, "file", (), name)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Machine]:
    return lambda keep="auto", free=None: Machine(tmp_path, keep, free)


@pytest.mark.parametrize(
    ("keep", "free", "loads"),
    [
        ("all", 0, ["v3", "v4"]),
        ("one", 10**12, ["v3", "v4", "v3"]),
        ("auto", 10**12, ["v3", "v4"]),
        ("auto", NEEDED, ["v3", "v4"]),
        ("auto", NEEDED - 1, ["v3", "v4", "v3"]),
        ("auto", None, ["v3", "v4"]),
    ],
)
def test_what_is_kept(machine: Callable[..., Machine], keep: Keep, free: int | None, loads: list[str]) -> None:
    given = machine(keep, free)
    first = given.get("v3")
    assert given.get("v3") is first
    given.get("v4")
    given.get("v4")
    given.get("v3")
    assert given.loads == loads
    told = given.shelf.take_notices()
    assert len(told) == (2 if keep == "auto" and len(loads) == 3 else 0)
    assert all("loaded in turn" in notice for notice in told)
    assert given.shelf.take_notices() == ()


@pytest.mark.parametrize("how", [MemoryError, "fell back"])
def test_a_model_that_turns_out_not_to_fit_is_loaded_again_alone(machine: Callable[..., Machine], how: Any) -> None:
    given = machine("auto", 10**12)
    given.get("v3")
    given.breaks["v4"] = [how]
    assert given.get("v4").description == "v4"
    assert given.loads == ["v3", "v4", "v4"]
    assert "v4 does not fit" in given.shelf.take_notices()[0]
    given.get("v3")
    assert given.loads[-1] == "v3", "it was let go of"


def test_a_model_that_does_not_fit_alone_is_an_error_and_not_tried_for_ever(machine: Callable[..., Machine]) -> None:
    given = machine("auto", 10**12)
    given.breaks["v3"] = [MemoryError, MemoryError, MemoryError]
    with pytest.raises(MemoryError):
        given.get("v3")
    assert given.loads == ["v3"], "nothing could have been let go of"
    given.breaks["v3"] = []
    given.get("v3")
    given.breaks["v4"] = [MemoryError, MemoryError]
    with pytest.raises(MemoryError):
        given.get("v4")
    assert given.loads == ["v3", "v3", "v4", "v4"]
    kept = machine("all", 10**12)
    kept.get("v3")
    kept.breaks["v4"] = [MemoryError]
    with pytest.raises(MemoryError):
        kept.get("v4")
    kept.get("v3")
    assert kept.loads == ["v3", "v4"]


def test_what_a_model_needs_is_estimated_without_loading_it_or_asking_anybody(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(b"\0" * SIZE)
    known = ModelSpec("pyannote", "x/y", 4, sources=("hub", str(tmp_path)))
    assert memory.needed_bytes(known) == NEEDED
    unknown = ModelSpec("pyannote", "x/y", 4, sources=("hub", str(tmp_path / "none")))
    assert memory.needed_bytes(unknown) > 500_000_000
    assert memory.needed_bytes(ModelSpec("spectral", "spectral-a", 64)) == 0


def test_what_is_free_is_the_least_of_machine_and_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_control_groups", lambda: iter([tmp_path / "inner", tmp_path]))
    assert memory.free_bytes("cpu") is None, "nobody knows"
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4000 kB\n")
    assert memory.free_bytes("cpu") == 4_096_000
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("5\n")
    assert memory.free_bytes("cpu") == 4_096_000
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300\nactive_file 5\n")
    assert memory.free_bytes("cpu") == 400


def test_the_setting_reaches_the_loader_of_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from speakerdb.extraction.extract import Loader
    from speakerdb.service import SpeakerDB

    given: Settings = fake_settings(tmp_path, models={"keep": "one"})
    with SpeakerDB.open(given) as db:
        load = db.extraction._load
        assert isinstance(load, Loader)
        assert load.keep == "one"
        seen: list[Place] = []
        monkeypatch.setattr(Shelf, "get", lambda *given: seen.append(given[3]))
        load(db.generations["v3"])
        assert seen == [Place("auto", given.models_folder, "one")]
