"""What the processes of the state machine do: verbs with numbers that choose, and the library they begin with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from speakerdb.service import SpeakerDB
from speakerdb.testing import damage
from speakerdb.testing.backends import FILES, Backend, Saved
from speakerdb.testing.factories import silence
from speakerdb.testing.invariants import look
from speakerdb.testing.machine_model import UNKNOWN, Model
from speakerdb.testing.machine_world import World
from speakerdb.types import Turn

LABELS = ("A", "B", "C")
LENGTHS = (0.5, 3.0, 8.0)
"""Half a second of speech is too short to be embedded."""


@dataclass(frozen=True)
class Op:
    """One thing that a process does; the numbers choose among what there is."""

    verb: str
    one: int = 0
    other: int = 0


LIBRARY = ("add", "edit", "remove", "rename", "profile", "assign", "unassign", "merge", "rename-profile")
"""Verbs that change what the library holds. Each is one transaction."""
WORK = (
    "extract",
    "project",
    "repool",
    "work",
    "work",
    "retry",
    "waive",
    "gates",
    "rebuild",
    "check",
    "walk",
    "match",
    "match",
    "match-profile",
)
MOVE = ("start", "pause", "resume", "cancel", "finalize", "rollback", "rollback-now", "retire")
FITTING: dict[str | None, tuple[str, ...]] = {
    None: ("start",),
    "running": ("finalize", "finalize", "cancel", "pause", "resume", "finalize"),
    "finalizing": ("work", "finalize", "cancel", "rollback", "start"),
    "finalized": ("rollback", "rollback-now", "retire", "rollback", "retire", "finalize"),
    "rolling_back": ("work", "rollback", "finalize", "retire", "start"),
}
"""What `move` means, by the state of the migration: mostly what is allowed then."""

NUMBERS = st.integers(0, 5)
CHANGES = st.builds(Op, st.sampled_from(LIBRARY), NUMBERS, NUMBERS)
DEEDS = st.builds(Op, st.sampled_from(("move",) * 8 + WORK + MOVE), NUMBERS, NUMBERS)
ANYTHING = st.one_of(CHANGES, DEEDS)
PROCESSES = st.integers(0, 1)
BY_HAND = st.tuples(st.sampled_from(sorted(damage.HARMS)), st.integers(0, 20))
"""What somebody does to an index by hand, and to which document."""
POINTS = st.one_of(st.integers(1, 12), st.integers(12, 40))


def change_of(db: SpeakerDB, op: Op, model: Model, after: Model, number: int) -> Callable[[], Any] | None:
    """What makes a change of the library; None where there is nothing to change. `after` becomes what it must hold then.

    `number` is new each time, for names that are free.
    """
    recording = f"recording-{op.one}"
    voices = model.voices
    voice = voices[op.one % len(voices)] if voices else None
    profiles = sorted(model.profiles)
    profile = profiles[op.other % len(profiles)] if profiles else None
    match op.verb:
        case "add" | "edit":
            seconds = {label: LENGTHS[(op.one + op.other * (n + 1)) % 3] for n, label in enumerate(LABELS)}
            if op.verb == "edit":
                del seconds[LABELS[op.other % 3]]
            after.add(recording, seconds)
            begun = [sum(list(seconds.values())[:n]) for n in range(len(seconds))]
            turns = [
                Turn(start, start + length, label)
                for start, (label, length) in zip(begun, seconds.items(), strict=True)
            ]
            return lambda: db.add(None, turns, recording_id=recording, waveform=silence(60))
        case "remove" if recording in model.recordings:
            after.remove(recording)
            return lambda: db.remove(recording)
        case "profile" if len(profiles) < 4:
            name = after.profiles[UNKNOWN] = f"Person {number}"
            return lambda: db.create_profile(name)
        case "rename" if voice is not None:
            name = after.voice(voice.id).name = f"Name {number}"
            return lambda: db.rename_speaker(voice.id, name)
        case "rename-profile" if profile is not None:
            name = after.profiles[profile] = f"Person {number}"
            return lambda: db.rename_profile(profile, name)
        case "assign" | "unassign" if voice is not None and (profile is not None or op.verb == "unassign"):
            given = profile if op.verb == "assign" else None
            after.voice(voice.id).profile = given
            return lambda: db.assign(voice.id, given)
        case "merge" if profile is not None and len(profiles) > 1:
            source = profiles[(op.other + 1) % len(profiles)]
            after.merge(source, profile)
            return lambda: db.merge_profiles(source, profile)
    return None


@lru_cache
def populated(backend: Backend = FILES) -> tuple[Saved, Model]:
    """A small library that is drained, and what it holds."""
    with closing(World(backend=backend)) as world:
        db, model = world.processes[0].db, Model()
        for recording in ("recording-0", "recording-1"):
            seconds = {"A": 8.0, "B": 3.0}
            model.add(recording, seconds)
            turns = [Turn(0.0, 8.0, "A"), Turn(8.0, 11.0, "B")]
            db.add(None, turns, recording_id=recording, waveform=silence(60))
        model.profiles[UNKNOWN] = "Ada"
        ada = db.create_profile("Ada").id
        model.adopt(look(db))
        for voice in model.voices:
            if voice.label == "A":
                voice.profile = db.assign(voice.id, ada).profile_id
        db.work()
        assert (found := model.difference(look(db))) is None, found
        return world.save(), model
