"""The models that a process holds: side by side where they fit into memory, else one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from speakerdb.models import memory
from speakerdb.models.registry import LoadedModel
from speakerdb.types import Generation

Keep = Literal["auto", "one", "all"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where models are kept and come from: the device, the folder of speakerdb's own models, and how many are held."""

    device: str
    folder: Path | None
    keep: Keep


class Shelf:
    """Models by key. `free` tells how many bytes are free on a device (None: not known, so whatever comes is tried)."""

    def __init__(self, free: Callable[[str], int | None] = memory.free_bytes) -> None:
        self._free = free
        self._held: dict[Hashable, LoadedModel] = {}
        self._notices: list[str] = []
        self._loads: list[float] = []
        self.crowded = 0
        """How often models were let go of because another one did not fit beside them."""
        self._one_at_a_time = threading.RLock()

    def get(self, key: Hashable, generation: Generation, place: Place, load: Callable[[], LoadedModel]) -> LoadedModel:
        """The model of a key, loaded where it is not held. Raises what `load` raises.

        Where it would not fit, or turns out not to, the others are let go of (unless `place.keep` is ``all``).
        """
        with self._one_at_a_time:
            if key not in self._held:
                begun = time.perf_counter()
                self._held[key] = self._loaded(generation, place, load)
                self._loads.append(time.perf_counter() - begun)
            return self._held[key]

    def take_notices(self) -> tuple[str, ...]:
        """What a person should read once; asked for again, only what is new."""
        taken, self._notices = tuple(self._notices), []
        return taken

    def take_loads(self) -> list[float]:
        """The seconds that each loading took; asked for again, only what is new."""
        taken, self._loads = self._loads, []
        return taken

    def _loaded(self, generation: Generation, place: Place, load: Callable[[], LoadedModel]) -> LoadedModel:
        if self._held and place.keep == "one":
            self._let_go()
        elif self._held and place.keep == "auto" and not self._fits(generation, place):
            self._make_room(generation)
        if not self._held or place.keep == "all":
            return load()
        try:
            loaded = load()
        except MemoryError:
            self._make_room(generation)
            return load()
        if getattr(loaded.embedder, "out_of_memory", False):
            # It fell back to the CPU, for want of memory on the device.
            del loaded
            self._make_room(generation)
            return load()
        return loaded

    def _fits(self, generation: Generation, place: Place) -> bool:
        needed = memory.needed_bytes(generation.model, place.folder)
        free = self._free(place.device) if needed else None
        return free is None or needed <= free

    def _make_room(self, generation: Generation) -> None:
        self._let_go()
        self.crowded += 1
        self._notices.append(
            f"The model of {generation.name} does not fit into memory beside the others: they are loaded in turn, which "
            "takes longer (setting models.keep)."
        )

    def _let_go(self) -> None:
        self._held.clear()
        memory.give_back()
