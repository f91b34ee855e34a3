"""Recordings, names, people and edits, diarized again and again and brought back, beside a model that shares no code with it.

Nobody who has a name goes unasked; ids, names and profiles stay with whom most of the time and the voice says; a revert
restores exactly what it says; and after work every vector and every document is of what the recording is now.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rediarize_kit import by_hand, said_of, state_of, turns_of

from speakerdb.catalog import library
from speakerdb.diarizers.asked import Asked
from speakerdb.errors import CannotUndo, InvalidInput, NamesUnmapped, NotFound
from speakerdb.people.splitting import Choice
from speakerdb.testing import invariants
from speakerdb.testing.factories import fake_vector, silence
from speakerdb.types import Turn
from tests.listen.conftest import Ear

SLOT, SLOTS = 5.0, 6
KEPT = 10
RECORDINGS = ("r0", "r1")
Stretch: TypeAlias = tuple[float, float, str]
Pairs: TypeAlias = frozenset[tuple[str, str]]

talk = st.lists(st.sampled_from([None, "A", "B", "C", "D"]), min_size=SLOTS, max_size=SLOTS)
shifts = st.sampled_from([0.0, 0.5, 1.0])
names = st.sampled_from([None, "Ann", "Ben", "Cem"])
recordings = st.sampled_from(RECORDINGS)
numbers = st.integers(0, 1000)


def stretches(slots: list[str | None], shift: float) -> list[Stretch]:
    """A turn for each slot that somebody has, begun `shift` late."""
    return [(n * SLOT + shift, (n + 1) * SLOT, who) for n, who in enumerate(slots) if who is not None]


@dataclass(frozen=True)
class Voice:
    label: str
    name: str | None = None
    profile: str | None = None

    @property
    def named(self) -> bool:
        return self.name is not None or self.profile is not None


@dataclass(frozen=True)
class State:
    """What a recording is: turns with speaker ids, and the speakers."""

    turns: tuple[Stretch, ...]
    voices: Mapping[str, Voice]


@dataclass
class Recording:
    now: State
    version: int = 1
    sets: list[State] = field(default_factory=list)
    """The newest first."""

    def replaced_by(self, new: State, *, grown: bool = True) -> None:
        self.sets = [self.now, *self.sets][:KEPT]
        self.now = new
        self.version += grown


@dataclass
class Edit:
    """A change of a name or a profile that may be taken back."""

    event: int
    recording: str
    speaker: str
    what: str
    old: str | None
    new: str | None


def _scrambled(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()


def allowed_mappings(before: State, found: list[Stretch], cosines: Mapping[tuple[str, str], float]) -> set[Pairs]:
    """Every best one-to-one assignment, by trying all of them, without the pairs that are too unlike."""

    def shared(one: list[Stretch], other: list[Stretch]) -> float:
        return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in one for b in other)

    def length(of: list[Stretch]) -> float:
        return sum(end - start for start, end, _ in of)

    def of(turns: Any, who: str) -> list[Stretch]:
        return [turn for turn in turns if turn[2] == who]

    olds = sorted({turn[2] for turn in before.turns})
    news = sorted({turn[2] for turn in found})
    score = {}
    for old, new in itertools.product(olds, news):
        mine, theirs = of(before.turns, old), of(found, new)
        known = [shared(mine, theirs) / min(length(mine), length(theirs))]
        if (old, new) in cosines:
            known.append(min(1.0, max(0.0, (cosines[old, new] - 0.2) / 0.5)))
        score[old, new] = sum(known) / len(known)
    if len(olds) <= len(news):
        every = [list(zip(olds, chosen, strict=True)) for chosen in itertools.permutations(news, len(olds))]
    else:
        every = [list(zip(chosen, news, strict=True)) for chosen in itertools.permutations(olds, len(news))]
    best = max((sum(score[pair] for pair in pairs) for pairs in every), default=0.0)
    return {
        frozenset(pair for pair in pairs if score[pair] >= 0.35)
        for pairs in every
        if sum(score[pair] for pair in pairs) > best - 1e-9
    }


class RediarizeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="speakerdb-rediarize-")
        self.ear = Ear()
        self.made = pytest.MonkeyPatch()
        ids = itertools.count()
        # Which speaker is meant, and how alike voices are, depends on ids: they are the same whenever a run is repeated.
        self.made.setattr(library, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=_scrambled(next(ids)))))
        self.db = by_hand(Path(self.folder.name), self.ear)
        self.model: dict[str, Recording] = {}
        self.profiles: dict[str, str | None] = {}
        """Where each was merged into; deleted ones are left out."""
        self.edits: list[Edit] = []
        self.names = itertools.count()

    def teardown(self) -> None:
        self.made.undo()
        self.db.close()
        self.folder.cleanup()

    @initialize(migrating=st.booleans(), slots=st.lists(st.sampled_from("ABC"), min_size=SLOTS, max_size=SLOTS))
    def begin(self, migrating: bool, slots: list[str]) -> None:
        """A recording in which somebody has a name, somebody a profile, and each talks more than once as a rule."""
        if migrating:
            self.db.start_migration("v4", force=True)
        self.create_profile()
        self.create_profile()
        self.add("r0", list(slots))
        self.rename(0, "Ann")
        self.assign(1, 0, False)

    # Small parts

    def work(self) -> None:
        for name in self.model:
            self.db.extraction.keep(name, silence(SLOT * SLOTS))
        self.db.work()

    def speakers(self) -> list[tuple[str, str]]:
        return [(name, id) for name, known in self.model.items() for id in known.now.voices]

    def said(self, recording: str, speaker: str, **changes: str | None) -> None:
        known = self.model[recording]
        voices = {**known.now.voices, speaker: replace(known.now.voices[speaker], **changes)}  # type: ignore[arg-type]
        known.now = State(known.now.turns, voices)

    def observed(self, recording: str) -> State:
        voices = {id: Voice(*said) for id, said in said_of(self.db, recording).items()}
        return State(tuple(sorted(turns_of(self.db, recording))), voices)

    def living(self, profile: str | None) -> str | None:
        while profile is not None and profile in self.profiles and self.profiles[profile] is not None:
            profile = self.profiles[profile]
        return profile if profile in self.profiles else None

    def last_event(self, kind: str) -> int:
        return next(int(e["id"]) for e in self.db.events(limit=5) if e["kind"] == kind)

    # What the library holds

    @precondition(lambda self: len(self.model) < len(RECORDINGS))
    @rule(name=recordings, slots=talk)
    def add(self, name: str, slots: list[str | None]) -> None:
        if name in self.model or not any(slots):
            return
        given = [Turn(*each) for each in stretches(slots, 0.0)]
        self.db.add(None, given, recording_id=name, waveform=silence(SLOT * SLOTS))
        self.model[name] = Recording(self.observed(name))
        assert [(t[0], t[1]) for t in self.model[name].now.turns] == [(t.start, t.end) for t in given]

    @precondition(lambda self: self.model)
    @rule(which=numbers, often=st.integers(0, 5))
    def remove(self, which: int, often: int) -> None:
        if often:  # seldom, or there would be little to do
            return
        name = sorted(self.model)[which % len(self.model)]
        self.db.remove(name)
        del self.model[name]
        self.edits = [edit for edit in self.edits if edit.recording != name]

    # People

    @precondition(lambda self: self.speakers())
    @rule(which=numbers, name=names)
    def rename(self, which: int, name: str | None) -> None:
        recording, speaker = self.speakers()[which % len(self.speakers())]
        old = self.model[recording].now.voices[speaker].name
        self.db.rename_speaker(speaker, name)
        self.said(recording, speaker, name=name)
        if old != name:
            self.edits.append(Edit(self.last_event("speaker-renamed"), recording, speaker, "name", old, name))

    @rule()
    def create_profile(self) -> None:
        if len(self.profiles) < 4:
            self.profiles[self.db.create_profile(f"person {next(self.names)}").id] = None

    @precondition(lambda self: self.speakers() and self.profiles)
    @rule(which=numbers, whose=numbers, taken=st.booleans())
    def assign(self, which: int, whose: int, taken: bool) -> None:
        recording, speaker = self.speakers()[which % len(self.speakers())]
        living = sorted(id for id, into in self.profiles.items() if into is None)
        profile = None if taken or not living else living[whose % len(living)]
        old = self.model[recording].now.voices[speaker].profile
        self.db.assign(speaker, profile)
        self.said(recording, speaker, profile=profile)
        if old != profile:
            self.edits.append(Edit(self.last_event("speaker-assigned"), recording, speaker, "profile", old, profile))

    @precondition(lambda self: sum(into is None for into in self.profiles.values()) >= 2)
    @rule(which=numbers)
    def merge(self, which: int) -> None:
        living = sorted(id for id, into in self.profiles.items() if into is None)
        source, into = living[which % len(living)], living[(which + 1) % len(living)]
        self.db.merge_profiles(source, into)
        self.profiles[source] = into
        for recording, speaker in self.speakers():
            if self.model[recording].now.voices[speaker].profile == source:
                self.said(recording, speaker, profile=into)

    @precondition(lambda self: self.profiles)
    @rule(which=numbers)
    def delete_profile(self, which: int) -> None:
        profile = sorted(self.profiles)[which % len(self.profiles)]
        used = any(self.model[r].now.voices[s].profile == profile for r, s in self.speakers())
        if self.profiles[profile] is not None or used or profile in self.profiles.values():
            return
        self.db.people.delete_profile(profile)
        del self.profiles[profile]

    @precondition(lambda self: self.edits)
    @rule(which=numbers)
    def undo(self, which: int) -> None:
        edit = self.edits.pop(which % len(self.edits))
        voice = self.model[edit.recording].now.voices.get(edit.speaker)
        stands = voice is not None and getattr(voice, edit.what) == edit.new
        if edit.what == "profile" and edit.old is not None:
            stands = stands and self.profiles.get(edit.old, "gone") is None
        if not stands:
            with pytest.raises(CannotUndo):
                self.db.people.undo(edit.event)
            return
        self.db.people.undo(edit.event)
        self.said(edit.recording, edit.speaker, **{edit.what: edit.old})

    @precondition(lambda self: self.speakers())
    @rule(which=numbers)
    def split(self, which: int) -> None:
        recording, speaker = self.speakers()[which % len(self.speakers())]
        known = self.model[recording]
        own = [turn for turn in known.now.turns if turn[2] == speaker]
        if len(own) < 2:
            with pytest.raises(InvalidInput):
                self.db.people.split(speaker, Choice(turns="1"))
            return
        made = self.db.people.split(speaker, Choice(turns="1"))
        assert made.speaker_id is not None
        turns = tuple((*turn[:2], made.speaker_id) if turn == own[0] else turn for turn in known.now.turns)
        voices = {**known.now.voices, made.speaker_id: Voice(made.label)}
        known.now, known.version = State(tuple(sorted(turns)), voices), known.version + 1

    # Again

    @precondition(lambda self: self.model)
    @rule(which=numbers, voices=st.lists(numbers, max_size=4), moved=numbers, accept=st.booleans())
    def rediarize_alike(self, which: int, voices: list[int], moved: int, accept: bool) -> None:
        """Nearly what it is, under other labels, later by a bit: one slot is somebody else's, or nobody's."""
        known = self.model[sorted(self.model)[which % len(self.model)]]
        order = {id: "DCBA"[n % 4] for n, id in enumerate(sorted(known.now.voices))}
        slots: list[str | None] = [None] * SLOTS
        for _, end, id in known.now.turns:
            slots[round(end / SLOT) - 1] = order[id]
        slots[moved % SLOTS] = [None, "A", "B", "C", "D"][moved % 5]
        self.rediarize(which, slots, 0.5, accept, voices, dry=bool(moved % 2))

    @precondition(lambda self: any(known.sets for known in self.model.values()))
    @rule(which=numbers, back=st.integers(0, 2), said=st.sampled_from(["nothing", "a name", "a merge"]))
    def something_is_said_and_the_old_comes_back(self, which: int, back: int, said: str) -> None:
        if said == "a name" and self.speakers():
            self.rename(which, f"name {next(self.names)}")
        living = sum(into is None for into in self.profiles.values())
        if said == "a merge" and living >= 2:
            self.merge(which)
            self.create_profile()
        place = next(n for n, name in enumerate(sorted(self.model)) if self.model[name].sets)
        self.revert(place, back, "now", True)

    @precondition(lambda self: self.model)
    @rule(
        which=numbers,
        slots=talk,
        shift=shifts,
        accept=st.booleans(),
        voices=st.lists(numbers, max_size=4),
        dry=st.booleans(),
    )
    def rediarize(
        self, which: int, slots: list[str | None], shift: float, accept: bool, voices: list[int], dry: bool
    ) -> None:
        name = sorted(self.model)[which % len(self.model)]
        known = self.model[name]
        self.work()  # so that everybody who talks has a voice
        before, found = known.now, stretches(slots, shift)
        labels, ids = sorted({turn[2] for turn in found}), sorted(before.voices)
        heard = {label: ids[n % len(ids)] for label, n in zip(labels, voices, strict=False)} if ids else {}
        self.ear.turns, self.ear.voices = [Turn(*turn) for turn in found], heard
        vectors = {id: fake_vector(f"v3/{id}/{known.version}", 24) for id in ids}
        cosines = {
            (id, label): float(np.dot(vectors[id], vectors[whose])) for id in ids for label, whose in heard.items()
        }
        self.db.extraction.keep(name, silence(SLOT * SLOTS))
        if dry:
            planned = self.db.rediarizing.look(name, Asked(accept_lost=accept))
            assert self.observed(name) == before
            self.db.extraction.keep(name, silence(SLOT * SLOTS))
        self.db.rediarizing.queue([name], Asked(accept_lost=accept))
        report = self.db.work()
        after = self.observed(name)
        allowed = allowed_mappings(before, found, cosines)
        if report.recordings_failed:
            assert [error.code for error in report.errors] == ["names-unmapped"]
            assert not accept
            assert after == before
            assert any(self.refused(before, pairs) for pairs in allowed)
            assert not dry or planned.refused
            return
        assert state_of(self.db, name) == "done"
        label_of = {(start, end): label for start, end, label in found}
        assert sorted(label_of) == sorted((start, end) for start, end, _ in after.turns)
        pairs = frozenset((id, label_of[start, end]) for start, end, id in after.turns if id in before.voices)
        assert pairs in allowed
        assert accept or not self.refused(before, pairs)
        assert {id: after.voices[id] for id, _ in pairs} == {id: before.voices[id] for id, _ in pairs}
        new = {id: voice for id, voice in after.voices.items() if id not in before.voices}
        assert not any(voice.named for voice in new.values())
        assert not {voice.label for voice in new.values()} & {voice.label for voice in before.voices.values()}
        assert {id for _, _, id in after.turns} == set(after.voices)
        if dry:
            assert {(one.speaker.id, one.found_as) for one in planned.mapped} == pairs
            assert {one.label for one in planned.new} == {voice.label for voice in new.values()}
            assert {one.id for one in planned.lost} == set(before.voices) - set(after.voices)
            assert planned.changed == (after != before)
        if after != before:
            known.replaced_by(after)

    @staticmethod
    def refused(before: State, pairs: Pairs) -> bool:
        stay = {id for id, _ in pairs}
        return any(voice.named for id, voice in before.voices.items() if id not in stay)

    @precondition(lambda self: self.model)
    @rule(which=numbers, back=numbers, whose=st.sampled_from(["now", "then"]), accept=st.booleans())
    def revert(self, which: int, back: int, whose: Any, accept: bool) -> None:
        name = sorted(self.model)[which % len(self.model)]
        known = self.model[name]
        sets = self.db.rediarizing.sets(name)
        if not sets:
            with pytest.raises(NotFound):
                self.db.rediarizing.revert(name)
            return
        place = back % len(sets)
        then, now = known.sets[place], known.now
        voices = {}
        for id, voice in then.voices.items():
            last = next(one.voices[id] for one in [now, *known.sets] if id in one.voices)
            wanted = voice if whose == "then" else last
            voices[id] = Voice(voice.label, wanted.name, self.living(wanted.profile))
        wanted_state = State(then.turns, voices)
        gone = [voice for id, voice in now.voices.items() if id not in voices]
        if wanted_state == now:
            assert not self.db.rediarizing.revert(name, to=sets[place].number, names=whose).done
            return
        if any(voice.named for voice in gone) and not accept:
            with pytest.raises(NamesUnmapped):
                self.db.rediarizing.revert(name, to=sets[place].number, names=whose)
            return
        report = self.db.rediarizing.revert(name, to=sets[place].number, names=whose, accept_lost=accept)
        assert report.done
        assert len(report.gone) == len(gone)
        same_turns = then.turns == now.turns and {i: v.label for i, v in now.voices.items()} == {
            i: v.label for i, v in voices.items()
        }
        known.replaced_by(wanted_state, grown=not same_turns)

    # What holds

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        for name, known in self.model.items():
            assert self.observed(name) == known.now
            kept = self.db.rediarizing.sets(name)
            assert [one.turns for one in kept] == [len(one.turns) for one in known.sets]
            for view, one in zip(kept, known.sets, strict=True):
                assert {s.id: Voice(s.label, s.name, s.profile_id) for s in view.speakers} == one.voices
        for profile, into in self.profiles.items():
            members = sum(
                voice.profile == profile for known in self.model.values() for voice in known.now.voices.values()
            )
            view_ = self.db.people.profile(profile) if into is None else None
            assert view_ is None or view_.speakers == members

    @rule()
    def everything_is_found_after_work(self) -> None:
        self.work()
        view = invariants.check(self.db)
        living = {id for _, id in self.speakers()}
        for generation in view.live:
            found = {
                document.id
                for document in view.documents[generation].values()
                if not document.deleted and document.kind.value == "speaker"
            }
            assert found == living
            for profile, into in self.profiles.items():
                members = [
                    v for known in self.model.values() for v in known.now.voices.values() if v.profile == profile
                ]
                if into is None:
                    assert (view.embeddings[generation, profile].vector is not None) == bool(members)
            for name, known in self.model.items():
                for id in known.now.voices:
                    assert view.embeddings[generation, id].content_version == known.version, (name, id)


TestRediarize = RediarizeMachine.TestCase
TestRediarize.settings = settings(max_examples=max(10, settings().max_examples // 6))
