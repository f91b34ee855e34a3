"""Quantising a generation's network with what its own library sounds like.

Nothing is written to SQL or to an index: what comes out lies in the folder of models. It is made once. Every vector of the
generation depends on it, so where the generation has vectors it is not made again: that would be a new generation.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from pathlib import Path

import numpy as np

from speakerdb import media
from speakerdb.catalog import journal, library, samples
from speakerdb.catalog.catalog import Catalog
from speakerdb.core.pooling import pool
from speakerdb.core.sampling import SEED, Reservoir
from speakerdb.core.selection import select
from speakerdb.errors import ConfigurationError, Conflict, InvalidInput, MediaError, MediaMissing
from speakerdb.models.backends import checksum_of
from speakerdb.models.networks import Network, Networks
from speakerdb.models.openvino import OpenVinoEmbedder
from speakerdb.models.port import Embedder
from speakerdb.models.processor import this_machine
from speakerdb.models.quantising import quantise
from speakerdb.models.registry import FloatNetwork, float_network
from speakerdb.reports.calibrating import CalibrationProgress, CalibrationReport, OnCalibration
from speakerdb.reports.recipes import Voice
from speakerdb.settings import Settings
from speakerdb.types import FloatArray, Generation, Span, Unembeddable

LEAST_SEGMENTS, MOST_SEGMENTS = 10, 1000
COMPARED = 6
"""Voices that are left out of the calibration, to be compared."""
AIMED_SEGMENT, AIMED_SPEAKER = 0.98, 0.995
"""Cosines to the float network below which a person is told."""


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """A voice with the segments that the recipe chooses of it."""

    recording_id: str
    segments: list[FloatArray]


class Calibrating:
    """Makes the quantised networks of a library."""

    def __init__(
        self,
        catalog: Catalog,
        generations: Mapping[str, Generation],
        settings: Settings,
        *,
        media_roots: Sequence[Path] = (),
    ) -> None:
        self._catalog = catalog
        self._generations = generations
        self._settings = settings
        self._media_roots = tuple(media_roots)

    def calibrate(
        self, generation: str, *, segments: int = 40, on_progress: OnCalibration = lambda _: None
    ) -> CalibrationReport:
        """Quantise the network of a generation whose recipe says int8, with `segments` segments of its library.

        The same library gives the same segments. `ConfigurationError` for a generation that is none or is computed in float;
        `Conflict` where it has vectors already, or the library has too little speech; what loading the model raises.
        """
        begun = time.monotonic()
        chosen = self._checked(generation, segments)
        on_progress(CalibrationProgress("loading"))
        network = self._network(chosen)
        skipped: dict[str, str] = {}
        voices = list(islice(self._heard(chosen, network, segments, skipped, on_progress), COMPARED + segments))
        compared, others = voices[:COMPARED], voices[COMPARED:]
        picked = _in_turn([voice.segments for voice in others], segments)
        if len(picked) < LEAST_SEGMENTS:
            why = f" Unread: {'; '.join(sorted(skipped.values())[:3])}" if skipped else ""
            raise Conflict(
                f"The library has {len(picked)} segments to calibrate with; {LEAST_SEGMENTS} are the least.{why}",
                hint="Add more recordings with their turns first; a dozen speakers will do.",
            )
        recordings = len({voice.recording_id for voice in others[: len(picked)]})
        on_progress(CalibrationProgress("quantising"))
        made = quantise(network.network, picked, self._stated(chosen, len(picked), recordings))
        on_progress(CalibrationProgress("comparing"))
        embedder = OpenVinoEmbedder(made, model_id=network.embedder.model_id)
        cosines, lowest_speaker = _compare(network.embedder, embedder, compared)
        folder = self._keep(made, chosen)
        return CalibrationReport(
            generation=chosen.name,
            model=network.description,
            segments=len(picked),
            recordings=recordings,
            compared_speakers=len(compared),
            compared_segments=len(cosines),
            lowest_segment=min(cosines),
            median_segment=float(np.median(cosines)),
            lowest_speaker=lowest_speaker,
            folder=str(folder),
            checksum=checksum_of(made.about.checkpoint, made),
            seconds=time.monotonic() - begun,
            skipped=tuple(f"{recording}: {why}" for recording, why in sorted(skipped.items())),
            notices=tuple(_told(min(cosines), lowest_speaker)),
        )

    def _network(self, generation: Generation) -> FloatNetwork:
        settings = self._settings
        return float_network(
            generation.model,
            allow_unknown=settings.allow_unknown_checkpoints,
            telemetry=settings.telemetry,
            offline=settings.models.offline,
            folder=settings.models_folder,
        )

    def _stated(self, generation: Generation, segments: int, recordings: int) -> dict[str, object]:
        """What the network's manifest says of how it was made."""
        return {
            "generation": generation.name,
            "recipe": generation.recipe.digest,
            "segments": segments,
            "recordings": recordings,
            "made_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "made_on": str(this_machine()),
            "nncf": metadata.version("nncf"),
            "openvino": metadata.version("openvino"),
        }

    def _keep(self, made: Network, generation: Generation) -> Path:
        folder = self._settings.models_folder
        try:
            return Networks(folder, metadata.version("openvino")).put(made, generation.name)
        except OSError as error:
            raise ConfigurationError(
                f"The folder of models {folder} cannot be written: {error.strerror}.",
                hint="Make it writable, or set `models.folder` (SPEAKERDB_MODELS__FOLDER) to another.",
            ) from error

    def _checked(self, name: str, segments: int) -> Generation:
        if name not in self._generations:
            raise ConfigurationError(
                f"There is no generation {name!r}.", hint=f"Known: {', '.join(sorted(self._generations))}."
            )
        if not LEAST_SEGMENTS <= segments <= MOST_SEGMENTS:
            raise InvalidInput(
                f"A network is calibrated with {LEAST_SEGMENTS} to {MOST_SEGMENTS:,} segments.", hint="40 are enough."
            )
        chosen = self._generations[name]
        if chosen.recipe.arithmetic != "int8":
            raise ConfigurationError(
                f"The recipe of {name} is {chosen.recipe.name}, which is computed in float: there is nothing to calibrate.",
                hint="Define a new generation with the recipe spread-30-int8, calibrate it, and migrate to it.",
            )
        with self._catalog.read() as tx:
            known = journal.checksum(tx, name)
        if known is not None:
            raise Conflict(
                f"{name} has vectors already, and they depend on the network that made them.",
                hint="If that one is lost, or another is wanted, define a new generation, calibrate it, and migrate to it.",
            )
        return chosen

    def _heard(
        self,
        generation: Generation,
        network: FloatNetwork,
        segments: int,
        skipped: dict[str, str],
        on_progress: OnCalibration,
    ) -> Iterator[_Heard]:
        """Voices in random order, each with its segments. There are some to spare: files may be unreadable."""
        sample = Reservoir[Voice](2 * (COMPARED + segments))
        with self._catalog.read() as tx:
            for voice in samples.voices_with_files(tx, None, generation.recipe.minimum_seconds):
                sample.offer(voice)
        # By its own order: a reservoir that is not full has them by profile.
        voices = sorted(sample.kept, key=lambda voice: voice.speaker_id)
        random.Random(SEED).shuffle(voices)  # noqa: S311
        for number, voice in enumerate(voices):
            on_progress(CalibrationProgress("decoding", number, min(len(voices), COMPARED + segments)))
            try:
                found = self._segments(generation, network, voice)
            except MediaError as error:
                skipped[voice.recording_id] = error.message
                continue
            if found:
                yield _Heard(voice.recording_id, found)

    def _segments(self, generation: Generation, network: FloatNetwork, voice: Voice) -> list[FloatArray]:
        with self._catalog.read() as tx:
            found = library.snapshot(tx, [voice.recording_id])
        if voice.recording_id not in found:
            return []  # it was removed meanwhile
        row, turns = found[voice.recording_id]
        chosen = select(turns, generation.recipe, duration=row.seconds).get(voice.speaker_id)
        if chosen is None or isinstance(chosen, Unembeddable):
            return []
        if row.path is None:
            raise MediaMissing("Its sound was given in memory.")
        spans: list[Span] = sorted(chosen)
        path = media.check_allowed(Path(row.path), self._media_roots)
        return [
            sound for sound in media.decode_spans(path, spans, network.sample_rate) if sound.size >= network.min_samples
        ]


def _in_turn(voices: Sequence[Sequence[FloatArray]], count: int) -> list[FloatArray]:
    """`count` segments, one of each voice, then a second one of each, and so on."""
    longest = max(map(len, voices), default=0)
    return [voice[number] for number in range(longest) for voice in voices if number < len(voice)][:count]


def _compare(exact: Embedder, quantised: Embedder, voices: Sequence[_Heard]) -> tuple[list[float], float]:
    """Cosines between what both give for each segment, and the lowest of those of whole speakers."""
    cosines: list[float] = []
    speakers: list[float] = []
    for voice in voices:
        ours, others = exact.embed(voice.segments), quantised.embed(voice.segments)
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(others, axis=1)
        cosines += ((ours * others).sum(axis=1) / lengths).tolist()
        seconds = [segment.size / exact.sample_rate for segment in voice.segments]
        speakers.append(float(pool(ours, seconds).vector @ pool(others, seconds).vector))
    return cosines, min(speakers)


def _told(lowest_segment: float, lowest_speaker: float) -> Iterator[str]:
    if lowest_segment < AIMED_SEGMENT or lowest_speaker < AIMED_SPEAKER:
        yield (
            f"The vectors are farther from those of the float network than is aimed at ({AIMED_SEGMENT:g} a segment, "
            f"{AIMED_SPEAKER:g} a speaker). More segments may bring them closer; see the gates before you finalize."
        )
