"""Random renames, assignments, splits, merges and undos against plain dicts that know nothing of the product.

What an undo must restore is a copy that the oracle kept from before the change; how the product undoes plays no part.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from speakerdb.catalog import library, people, schema
from speakerdb.errors import CannotUndo, Conflict, InvalidInput
from speakerdb.people.splitting import Choice
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, fake_vector
from speakerdb.testing.invariants import View, check, complete
from speakerdb.types import FloatArray
from tests.people.conftest import add

PICK = st.integers(0, 7)
NAMES = st.sampled_from(("Ada", "Bob", "Зоя", "Eve"))


@dataclass
class People:
    """Who talks when, and who they are."""

    turns: dict[str, list[tuple[float, float, str]]] = field(default_factory=dict)
    """By recording, in the order of time; each with the speaker's id."""
    speakers: dict[str, tuple[str, str, str | None, str | None]] = field(default_factory=dict)
    """Recording, label, name and profile by id."""
    profiles: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    names_of_merged: dict[str, str] = field(default_factory=dict)

    def living(self, profile: str) -> str:
        """Where a profile's id leads."""
        return self.merged.get(profile, profile)


@lru_cache
def prepared() -> Path:
    """The files of a library of three recordings with a person each, drained."""
    folder = Path(tempfile.mkdtemp(prefix="speakerdb-people-"))
    atexit.register(shutil.rmtree, folder)
    with SpeakerDB.open(fake_settings(folder / "library"), executor=FakeExecutor()) as db:
        for name, seconds in (("one", (4.0, 2.0, 3.0, 0.5, 6.0)), ("two", (3.0, 3.0, 3.0)), ("three", (9.0, 2.0))):
            ids = add(db, name, *seconds).speakers
            with db.catalog.change() as tx:  # people whom nobody made by a change that could be taken back
                people.restore(tx, f"prf_{name}", library.library_id(tx, "default"), f"Person {name}", 1)
                library.set_speaker(tx, ids["A"], profile_id=f"prf_{name}")
        db.work()
    return folder / "library"


class PeopleMachine(RuleBasedStateMachine):
    """One library; a stack of what it was before each change."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="speakerdb-people-"))
        shutil.copytree(prepared(), self.folder / "library", dirs_exist_ok=True)
        self.db = SpeakerDB.open(fake_settings(self.folder / "library"), executor=FakeExecutor())
        self.now = self.read()
        self.before: list[People] = []
        self.made = {each: number for number, each in enumerate(sorted(self.now.profiles))}
        self.versions: dict[object, int] = {}

    # Looking

    def read(self) -> People:
        """The library's tables, read without the product's functions."""
        with self.db.catalog.read() as tx:
            found = People()
            for row in tx.execute(sa.select(schema.speakers)):
                found.speakers[row.id] = (row.recording_id, row.label, row.name, row.profile_id)
            for row in tx.execute(sa.select(schema.turns).order_by(schema.turns.c.ordinal)):
                found.turns.setdefault(row.recording_id, []).append((row.start, row.end, row.speaker_id))
            for row in tx.execute(sa.select(schema.profiles)):
                if row.merged_into is None:
                    found.profiles[row.id] = row.name
                else:
                    found.merged[row.id] = row.merged_into
                    found.names_of_merged[row.id] = row.name
        return found

    def changed(self, after: People) -> None:
        """A change was made; nothing that changed nothing can be taken back."""
        for each in after.profiles:
            self.made.setdefault(each, len(self.made))
        if after != self.now:
            self.before.append(self.now)
            self.now = after

    def speaker(self, pick: int) -> str:
        ids = sorted(self.now.speakers, key=lambda each: self.now.speakers[each][:2])
        return ids[pick % len(ids)]

    def profile(self, pick: int) -> str | None:
        """Any id of a profile, also of one that was merged, in the order in which they were made."""
        ids = sorted([*self.now.profiles, *self.now.merged], key=self.made.__getitem__)
        return ids[pick % len(ids)] if ids else None

    # Rules

    @rule(pick=PICK, name=st.one_of(st.none(), NAMES))
    def rename_speaker(self, pick: int, name: str | None) -> None:
        speaker, after = self.speaker(pick), deepcopy(self.now)
        recording, label, _, profile = after.speakers[speaker]
        after.speakers[speaker] = (recording, label, name, profile)
        self.db.people.rename_speaker(speaker, name)
        self.changed(after)

    @rule(pick=PICK, to=PICK, none=st.booleans())
    def assign(self, pick: int, to: int, none: bool) -> None:
        speaker, profile, after = self.speaker(pick), None if none else self.profile(to), deepcopy(self.now)
        recording, label, name, _ = after.speakers[speaker]
        after.speakers[speaker] = (recording, label, name, None if profile is None else after.living(profile))
        self.db.people.assign(speaker, profile)
        self.changed(after)

    @rule(pick=PICK, name=NAMES)
    def assign_by_name(self, pick: int, name: str) -> None:
        speaker, after = self.speaker(pick), deepcopy(self.now)
        made = self.db.people.assign_by_name(speaker, name, create=True).profile_id
        assert made is not None
        if name in after.profiles.values():
            assert after.profiles[made] == name
        else:
            after.profiles[made] = name
            self.changed(deepcopy(after))
        recording, label, own, _ = after.speakers[speaker]
        after.speakers[speaker] = (recording, label, own, made)
        self.changed(after)

    @rule(name=NAMES)
    def create(self, name: str) -> None:
        if name in self.now.profiles.values():
            with pytest.raises(InvalidInput):
                self.db.people.create_profile(name)
            return
        after = deepcopy(self.now)
        after.profiles[self.db.people.create_profile(name).id] = name
        self.changed(after)

    @rule(pick=PICK, name=NAMES)
    def rename_profile(self, pick: int, name: str) -> None:
        given, after = self.profile(pick), deepcopy(self.now)
        if given is None:
            return
        profile = after.living(given)
        if name in {other for key, other in after.profiles.items() if key != profile}:
            with pytest.raises(InvalidInput):
                self.db.people.rename_profile(given, name)
            return
        after.profiles[profile] = name
        self.db.people.rename_profile(given, name)
        self.changed(after)

    @rule(one=PICK, other=PICK)
    def merge(self, one: int, other: int) -> None:
        source, into = self.profile(one), self.profile(other)
        if source is None or into is None:
            return
        after = deepcopy(self.now)
        ends, stays = after.living(source), after.living(into)
        if ends == stays:
            with pytest.raises(InvalidInput):
                self.db.people.merge_profiles(source, into)
            return
        after.speakers = {
            key: (r, label, name, stays if profile == ends else profile)
            for key, (r, label, name, profile) in after.speakers.items()
        }
        after.names_of_merged[ends] = after.profiles.pop(ends)
        after.merged = {key: stays if to == ends else to for key, to in after.merged.items()} | {ends: stays}
        assert self.db.people.merge_profiles(source, into).id == stays
        self.changed(after)

    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        given, after = self.profile(pick), deepcopy(self.now)
        if given is None:
            return
        profile = after.living(given)
        used = any(row[3] == profile for row in after.speakers.values()) or profile in after.merged.values()
        if used:
            with pytest.raises(Conflict):
                self.db.people.delete_profile(given)
            return
        del after.profiles[profile]
        self.db.people.delete_profile(given)
        self.changed(after)

    @rule(pick=PICK, mask=st.integers(0, 31))
    def split(self, pick: int, mask: int) -> None:
        speaker, after = self.speaker(pick), deepcopy(self.now)
        recording = after.speakers[speaker][0]
        own = [place for place, turn in enumerate(after.turns[recording]) if turn[2] == speaker]
        chosen = [number for number in range(1, len(own) + 1) if mask >> (number - 1) & 1]
        choice = Choice(",".join(map(str, chosen)))
        if not chosen or len(chosen) == len(own):
            with pytest.raises(InvalidInput):
                self.db.people.split(speaker, choice)
            return
        report = self.db.people.split(speaker, choice)
        assert report.speaker_id is not None
        assert report.label not in {label for r, label, *_ in after.speakers.values() if r == recording}
        for number in chosen:
            start, end, _ = after.turns[recording][own[number - 1]]
            after.turns[recording][own[number - 1]] = (start, end, report.speaker_id)
        after.speakers[report.speaker_id] = (recording, report.label, None, None)
        self.changed(after)

    @rule(which=st.sampled_from(("merge", "assign", "split")), one=PICK, other=PICK, undo=st.booleans())
    def at_work(self, which: str, one: int, other: int, undo: bool) -> None:
        """What touches the vectors, each time with the indices brought to it before and after; often taken back at once."""
        self.work()
        if which == "merge":
            self.merge(one, other)
        elif which == "assign":
            self.assign(one, other, none=False)
        else:
            self.split(one, other)
        self.work()
        if undo and self.before:
            self.undo(dry_run=False)
            self.work()

    @rule()
    def work(self) -> None:
        """Extract and project what is waiting: from then on, every index is what SQL says."""
        self.db.work()
        view = check(self.db)
        for generation in view.live:
            complete(view, generation)
            alive = {key for key, document in view.documents[generation].items() if not document.deleted}
            assert alive <= {*self.now.speakers, *self.now.profiles}
            for key in alive & self.now.speakers.keys():
                document = view.documents[generation][key]
                assert (document.recording_id, document.profile_id) == (
                    self.now.speakers[key][0], self.now.speakers[key][3],
                )  # fmt: skip
            for profile in self.now.profiles:
                pooled = view.documents[generation].get(profile)
                self.is_pooled_from_its_members(view, generation, profile, None if pooled is None else pooled.vector)

    def is_pooled_from_its_members(self, view: View, generation: str, profile: str, vector: FloatArray | None) -> None:
        """A profile's vector is the mean of its members' vectors by seconds of speech, as the oracle has them."""
        total = np.zeros(view.generations[generation].dimension)
        for speaker, (recording, _, _, member_of) in self.now.speakers.items():
            seconds = sum(end - start for start, end, who in self.now.turns[recording] if who == speaker)
            if member_of == profile and seconds >= 1.0:
                text = f"{generation}/{speaker}/{view.recordings[recording].content_version}"
                total += seconds * fake_vector(text, total.size)
        assert (vector is None) == (not total.any()), profile
        if vector is not None:
            np.testing.assert_allclose(vector, total / np.linalg.norm(total), atol=1e-5)

    @rule(dry_run=st.booleans())
    def undo(self, dry_run: bool) -> None:
        if not self.before:
            with pytest.raises(CannotUndo):
                self.db.people.undo(dry_run=dry_run)
            return
        self.db.people.undo(dry_run=dry_run)
        if not dry_run:
            self.now = self.before.pop()

    # What must hold

    @invariant()
    def is_what_the_oracle_says(self) -> None:
        assert self.read() == self.now
        for profile in (*self.now.profiles, *self.now.merged):
            assert self.db.people.profile(profile).id == self.now.living(profile)
        for speaker in self.now.speakers:
            length = sum(end - start for turns in self.now.turns.values() for start, end, s in turns if s == speaker)
            assert self.db.people.speaker(speaker).speech_seconds == pytest.approx(length)

    @invariant()
    def versions_never_go_back(self) -> None:
        with self.db.catalog.read() as tx:
            found: dict[object, int] = {
                (row.generation, row.entity_id): row.version for row in tx.execute(sa.select(schema.projections))
            }
            found |= {row.id: row.content_version for row in tx.execute(sa.select(schema.recordings))}
            found |= {row.id: row.members_version for row in tx.execute(sa.select(schema.profiles))}
        for key, version in self.versions.items():
            assert found.get(key, version) >= version, key
            assert key in found or not isinstance(key, tuple), f"the projection of {key} vanished"
        self.versions |= found

    def teardown(self) -> None:
        """Everything is taken back, and the library is what it was at the start."""
        try:
            while self.before:
                self.db.people.undo()
                self.now = self.before.pop()
                self.is_what_the_oracle_says()
                self.versions_never_go_back()
            with pytest.raises(CannotUndo):
                self.db.people.undo()
            self.work()
            assert sorted(self.now.profiles.values()) == ["Person one", "Person three", "Person two"]
        finally:
            self.db.close()
            shutil.rmtree(self.folder)


TestPeople = PeopleMachine.TestCase
TestPeople.settings = settings(
    settings(), max_examples=max(12, settings().max_examples // 4), stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
