"""The folder of converted networks, beside the checkpoints: what OpenVINO reads, one folder a network, with a manifest.

A float network can be made again from its checkpoint at any time: it is named by the checkpoint's SHA-256, the version of the
way it is made, and OpenVINO's. One that was quantised cannot: it is named by its generation, and every vector of that
generation depends on it. Either comes in whole or not at all, and is compared with its checksums whenever it is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from speakerdb.models.features import Fbank

logger = logging.getLogger(__name__)

CONVERTER = 1
"""Grows when a network would be converted in another way."""
FOLDER = "networks"
GRAPH, WEIGHTS, MANIFEST = "network.xml", "network.bin", "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class About:
    """What a network is. `fbank` None: it takes the waveform itself. `calibration` says with what it was quantised."""

    checkpoint: str
    architecture: str
    dimension: int
    sample_rate: int
    min_samples: int
    fbank: Fbank | None
    arithmetic: str = "float"
    calibration: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A converted network: what it is, and OpenVINO's two files."""

    about: About
    graph: bytes = field(repr=False)
    weights: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 over both files."""
        found = hashlib.sha256(self.graph)
        found.update(self.weights)
        return found.hexdigest()


class Networks:
    """The networks of a folder of models, which need not exist before something is put there."""

    def __init__(self, folder: Path, openvino: str) -> None:
        """`openvino` is the version that is installed."""
        self._folder = folder / FOLDER
        self._version = openvino

    def place(self, checkpoint: str) -> Path:
        """Where a checkpoint's float network lies, or would."""
        return self._folder / f"{checkpoint}-{CONVERTER}-{quote(self._version, safe='')}"

    def quantised_place(self, generation: str, checkpoint: str) -> Path:
        """Where a generation's quantised network lies, or would."""
        return self._folder / f"int8-{quote(generation, safe='')}-{checkpoint[:16]}"

    def get(self, checkpoint: str) -> Network | None:
        """A checkpoint's float network. None where there is none, or a damaged one (logged): it is to be made anew."""
        return self._read(self.place(checkpoint), checkpoint, "float")

    def get_quantised(self, generation: str, checkpoint: str) -> Network | None:
        """A generation's quantised network; None where there is none, or a damaged one (logged)."""
        return self._read(self.quantised_place(generation, checkpoint), checkpoint, "int8")

    def quantised(self, generation: str, checkpoint: str) -> About | None:
        """What a generation's quantised network says of itself; its files are not read. None where there is none."""
        try:
            about = _about(_manifest(self.quantised_place(generation, checkpoint)))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # reading it says what is wrong
        return about

    def put(self, network: Network, generation: str | None = None) -> Path:
        """Keep a network (a quantised one: of a generation); what was in its place, damaged or not, is replaced.

        `OSError` where the folder cannot be written.
        """
        about = network.about
        place = self.place(about.checkpoint)
        if generation is not None:
            place = self.quantised_place(generation, about.checkpoint)
        staging = self._folder / f".incoming-{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        try:
            made = staging / "made"
            made.mkdir()
            _write(made / GRAPH, network.graph)
            _write(made / WEIGHTS, network.weights)
            manifest = asdict(about) | {"files": {GRAPH: _sum(network.graph), WEIGHTS: _sum(network.weights)}}
            _write(made / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
            _replace(made, place, staging / "former")
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return place

    def remove(self, checkpoint: str) -> int:
        """Remove what can be made again from a checkpoint: its float networks, of whatever version. Bytes that it frees."""
        freed = 0
        for place in self._folder.glob(f"{checkpoint}-*"):
            freed += size_of(place)
            shutil.rmtree(place, ignore_errors=True)
        return freed

    def size(self, checkpoint: str) -> int:
        """Bytes that `remove` would free."""
        return sum(size_of(place) for place in self._folder.glob(f"{checkpoint}-*"))

    def _read(self, place: Path, checkpoint: str, arithmetic: str) -> Network | None:
        try:
            return _checked(place, checkpoint, arithmetic)
        except FileNotFoundError as error:
            if place.is_dir():
                logger.warning("network-damaged: %s cannot be used: %s", place, error)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("network-damaged: %s cannot be used: %s", place, error)
        return None


def _checked(place: Path, checkpoint: str, arithmetic: str) -> Network:
    """The network of a folder. `OSError`, or `ValueError`, `KeyError` or `TypeError` where it is not what it must be."""
    manifest = _manifest(place)
    network = Network(_about(manifest), (place / GRAPH).read_bytes(), (place / WEIGHTS).read_bytes())
    if network.about.checkpoint != checkpoint or network.about.arithmetic != arithmetic:
        raise ValueError("it is another checkpoint's, or of another arithmetic")
    if manifest["files"] != {GRAPH: _sum(network.graph), WEIGHTS: _sum(network.weights)}:
        raise ValueError("its files do not have their checksums")
    return network


def _manifest(place: Path) -> Any:
    if (place / MANIFEST).stat().st_size > MAX_MANIFEST_BYTES:
        raise ValueError("its manifest is too large")
    return json.loads((place / MANIFEST).read_text(encoding="utf-8"))


def size_of(folder: Path) -> int:
    """Bytes in the files of a folder; 0 where there is none."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _about(manifest: Any) -> About:
    given = {name: manifest[name] for name in About.__dataclass_fields__}
    fbank = given.pop("fbank")
    about = About(fbank=None if fbank is None else Fbank(**fbank), **given)
    numbers = (about.dimension, about.sample_rate, about.min_samples)
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError("its manifest holds numbers that cannot be")
    return about


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace(made: Path, place: Path, aside: Path) -> None:
    """Rename a folder into its place; what is there steps aside first, because a folder cannot be renamed onto one that is
    not empty. Another process may do the same at once: then one of the two, whole, is there."""
    aside.mkdir()
    while True:
        try:
            os.rename(made, place)
        except OSError as error:
            # Whether something is there now says nothing: the other process may have moved it in this very moment.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        with suppress(FileNotFoundError):  # the other process has just moved it
            os.rename(place, aside / uuid.uuid4().hex)
