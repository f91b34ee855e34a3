"""What a library must hold, kept in plain dicts by somebody who has never seen the product's code.

The model knows the recordings with their voices, the names and the people, and from `fake_vector` what every vector must be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np

from speakerdb.reports import MatchResult
from speakerdb.testing.factories import fake_vector
from speakerdb.testing.invariants import View
from speakerdb.types import FloatArray

TOLERANCE = 1e-4
UNKNOWN = "?"
"""An id that the library made and that nobody has seen yet."""


@dataclass
class Voice:
    """A speaker. `seconds` of its turns by content version of its recording."""

    recording: str
    label: str
    id: str = UNKNOWN
    name: str | None = None
    profile: str | None = None
    seconds: dict[int, float] = field(default_factory=dict)


@dataclass
class Model:
    """Recordings (content versions by id), voices, and people."""

    recordings: dict[str, int] = field(default_factory=dict)
    voices: list[Voice] = field(default_factory=list)
    profiles: dict[str, str] = field(default_factory=dict)
    """Names of living profiles by id."""
    merged: dict[str, str] = field(default_factory=dict)

    def copy(self) -> Model:
        """An independent copy."""
        return deepcopy(self)

    def of(self, recording: str) -> list[Voice]:
        """The voices of a recording."""
        return [voice for voice in self.voices if voice.recording == recording]

    def voice(self, speaker: str) -> Voice:
        """A voice by id."""
        return next(voice for voice in self.voices if voice.id == speaker)

    # What the library's verbs do

    def add(self, recording: str, seconds: Mapping[str, float]) -> None:
        """A recording comes, or its turns change: labels that stay keep their voice."""
        version = self.recordings[recording] = self.recordings.get(recording, 0) + 1
        kept = {voice.label: voice for voice in self.of(recording)}
        self.voices = [voice for voice in self.voices if voice.recording != recording or voice.label in seconds]
        for label, length in seconds.items():
            voice = kept.get(label)
            if voice is None:
                voice = Voice(recording, label)
                self.voices.append(voice)
            voice.seconds[version] = length

    def remove(self, recording: str) -> None:
        """A recording goes, with its voices."""
        del self.recordings[recording]
        self.voices = [voice for voice in self.voices if voice.recording != recording]

    def merge(self, source: str, into: str) -> None:
        """Two people are one."""
        for voice in self.voices:
            if voice.profile == source:
                voice.profile = into
        self.merged = {one: into if other == source else other for one, other in self.merged.items()}
        self.merged[source] = into
        del self.profiles[source]

    # Comparing

    def adopt(self, view: View) -> None:
        """Learn the ids that the library made."""
        known = {(row.recording_id, row.label): row.id for row in view.speakers.values()}
        for voice in self.voices:
            if voice.id == UNKNOWN:
                voice.id = known.get((voice.recording, voice.label), UNKNOWN)
        if UNKNOWN in self.profiles:
            name = self.profiles.pop(UNKNOWN)
            found = [row.id for row in view.profiles.values() if row.name == name and row.merged_into is None]
            self.profiles[found[0] if found else UNKNOWN] = name

    def difference(self, view: View) -> str | None:
        """The first thing in which SQL is not what it must be."""
        sql: object
        for what, mine, sql in (
            ("recordings", self.recordings, {key: row.content_version for key, row in view.recordings.items()}),
            (
                "speakers",
                {v.id: (v.recording, v.label, v.name, v.profile) for v in self.voices},
                {k: (row.recording_id, row.label, row.name, row.profile_id) for k, row in view.speakers.items()},
            ),
            (
                "profiles",
                self.profiles,
                {key: row.name for key, row in view.profiles.items() if row.merged_into is None},
            ),
            (
                "merged profiles",
                self.merged,
                {key: row.merged_into for key, row in view.profiles.items() if row.merged_into is not None},
            ),
        ):
            if mine != sql:
                return f"{what}: must be {mine}, SQL has {sql}"
        return None

    def vector(self, view: View, generation: str, voice: Voice, version: int) -> FloatArray | None:
        """What a voice's vector must be, computed from the content of this version; None where it is too short."""
        if voice.seconds[version] < view.generations[generation].recipe.minimum_seconds:
            return None
        return fake_vector(f"{generation}/{voice.id}/{version}", view.generations[generation].dimension)

    def check_vectors(self, view: View) -> None:
        """Every embedding in SQL is the one that its content gives; pooled ones too, unless they are dirty."""
        for (generation, entity), row in view.embeddings.items():
            if row.kind == "speaker":
                _same(row.vector, self.vector(view, generation, self.voice(entity), row.content_version), entity)
                assert row.reason in (None, "too-short"), row
            elif row.content_version == view.profiles[entity].members_version:
                _same(row.vector, self.pooled(view, generation, entity), entity)

    def current(self, view: View, generation: str, entity: str) -> FloatArray | None:
        """The vector SQL has of a voice or a person; None where there is none, or it is of older content, or of voices of
        which none is the person's any more."""
        row = view.embeddings.get((generation, entity))
        if row is None or row.vector is None:
            return None
        if row.kind == "speaker" and row.content_version != self.recordings[self.voice(entity).recording]:
            return None
        dirty = row.kind == "profile" and row.content_version != view.profiles[entity].members_version
        if dirty and not any(voice.profile == entity for voice in self.voices):
            return None
        return np.frombuffer(row.vector, "<f4")

    def pooled(self, view: View, generation: str, profile: str) -> FloatArray | None:
        """What a profile's vector must be, from the embeddings its members have in SQL of what they are now."""
        total = np.zeros(view.generations[generation].dimension)
        for voice in self.voices:
            vector = self.current(view, generation, voice.id)
            if voice.profile == profile and vector is not None:
                total += voice.seconds[self.recordings[voice.recording]] * vector.astype(np.float64)
        length = float(np.linalg.norm(total))
        return None if length == 0 else (total / length).astype(np.float32)

    def check_match(self, view: View, result: MatchResult, generations: Iterable[str], *, k: int) -> None:
        """An answer names one generation and one path, only what lives, by its name of now, best first.

        Where nothing of the generation waits, it is exactly what a search of all vectors gives. `generations`: those
        that may answer, in order of preference; the first that has the query's vector must.
        """
        having = [name for name in generations if self.current(view, name, result.query) is not None]
        assert having, f"{result.query} has no vector in {list(generations)}, and was answered"
        assert result.generation == having[0], f"answered by {result.generation}, not {having[0]}"
        assert result.index == view.concrete(result.generation)
        scores = [match.score for match in result.matches]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) <= k
        for match in result.matches:
            voice = self.voice(match.id)
            named = None if voice.profile is None else self.profiles[voice.profile]
            told = (match.name, match.profile_id, match.profile_name, match.recording_id, match.label)
            assert told == (voice.name, voice.profile, named, voice.recording, voice.label), match
        name = result.generation
        if any(row.version != row.indexed_version for (one, _), row in view.projections.items() if one == name):
            return
        itself = view.speakers.get(result.query)
        others = {
            voice.id: vector
            for voice in self.voices
            if voice.id != result.query and (itself is None or voice.recording != itself.recording_id)
            if (vector := self.current(view, name, voice.id)) is not None
        }
        query = self.current(view, name, result.query)
        assert query is not None
        best = sorted((float(vector @ query) for vector in others.values()), reverse=True)[:k]
        assert np.allclose(scores, best, atol=TOLERANCE), f"scores {scores}, a plain search gives {best}"
        for match in result.matches:
            assert abs(match.score - float(others[match.id] @ query)) < TOLERANCE, match


def _same(stored: bytes | None, wanted: FloatArray | None, entity: str) -> None:
    assert (stored is None) == (wanted is None), f"{entity} has a vector: {stored is not None}"
    if stored is not None and wanted is not None:
        assert np.allclose(np.frombuffer(stored, "<f4"), wanted, atol=1e-5), f"{entity} has another vector than it must"
