"""Those who use a library while it is being harmed: clients change it and ask, an operator migrates. Each writes a history."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from speakerdb.core.lifecycle import State
from speakerdb.errors import SpeakerDBError
from speakerdb.service import SpeakerDB
from speakerdb.testing.chaos.far import Far
from speakerdb.testing.factories import silence
from speakerdb.testing.history import Actor
from speakerdb.types import Kind, Turn

RECORDINGS = 8
PROFILES = 5
PAUSE_SECONDS = 0.02
CLIENT_OPS = {
    "add": 8, "remove": 2, "rename": 5, "create-profile": 2, "rename-profile": 2, "assign": 5, "merge": 1,
    "delete-profile": 1, "match": 6, "match-profiles": 2,
}  # fmt: skip


class Client:
    """Changes the library, and asks; in this process, or over HTTP, by which it adds no recordings."""

    def __init__(self, db: SpeakerDB | Far, actor: Actor, chance: random.Random, number: int) -> None:
        """`number` is this client's alone, among all of a run."""
        self._db = db
        self._actor = actor
        self._chance = chance
        self._unique = number * 1000

    def step(self) -> None:
        """One thing. What it chooses among is read from the library, which may fail."""
        self._unique += 1
        verb = self._chance.choices(list(CLIENT_OPS), list(CLIENT_OPS.values()))[0]
        if verb == "add" and isinstance(self._db, Far):
            return
        with suppress(SpeakerDBError):
            getattr(self, f"_{verb.replace('-', '_')}")()

    def _add(self) -> None:
        db = self._db
        assert isinstance(db, SpeakerDB)
        recording = f"recording-{self._chance.randrange(RECORDINGS)}"
        seconds = content_of(self._unique, self._chance)
        turns, begin = [], 0.0
        for label, length in seconds.items():
            turns.append(Turn(begin, begin + length, label))
            begin += length
        self._ask(
            "add", lambda: db.add(None, turns, recording_id=recording, waveform=silence(120)),
            recording=recording, seconds=seconds,
        )  # fmt: skip

    def _remove(self) -> None:
        recording = f"recording-{self._chance.randrange(RECORDINGS)}"
        self._ask("remove", lambda: self._db.remove(recording), recording=recording)

    def _rename(self) -> None:
        speaker = self._speaker()
        name = f"Name {self._unique}"
        self._ask("rename", lambda: self._db.rename_speaker(speaker, name), speaker=speaker, name=name)

    def _create_profile(self) -> None:
        if len(self._db.profiles()) >= PROFILES:
            return
        profile, name = f"person-{self._unique}", f"Person {self._unique}"
        self._ask(
            "create-profile", lambda: self._db.people.make_profile(name, profile_id=profile), profile=profile, name=name
        )

    def _rename_profile(self) -> None:
        profile, name = self._profile(), f"Person {self._unique}"
        self._actor.ask(
            "rename-profile", lambda: {"profile": self._db.rename_profile(profile, name).id}, profile=profile, name=name
        )

    def _assign(self) -> None:
        speaker = self._speaker()
        profile = self._profile() if self._chance.random() < 0.8 else None
        self._ask("assign", lambda: self._db.assign(speaker, profile), speaker=speaker, profile=profile)

    def _merge(self) -> None:
        source, into = self._profile(), self._profile()
        if source != into:
            self._ask("merge", lambda: self._db.merge_profiles(source, into), source=source, into=into)

    def _delete_profile(self) -> None:
        profile = self._profile()
        act = lambda: {"profile": self._db.people.delete_profile(profile).id}  # noqa: E731
        self._actor.ask("delete-profile", act, profile=profile)

    def _match(self) -> None:
        speaker = self._speaker()
        self._actor.ask("match", lambda: told_of(self._db.match(speaker=speaker, k=5)), speaker=speaker)

    def _match_profiles(self) -> None:
        speaker = self._speaker()
        act = lambda: told_of(self._db.match(speaker=speaker, k=5, kind=Kind.PROFILE))  # noqa: E731
        self._actor.ask("match", act, speaker=speaker)

    def _ask(self, op: str, act: Callable[[], Any], **args: Any) -> None:
        self._actor.ask(op, act, **args)

    def _speaker(self) -> str:
        return self._one([view.id for view in self._db.speakers()])

    def _profile(self) -> str:
        return self._one([view.id for view in self._db.profiles()])

    def _one(self, found: list[str]) -> str:
        if not found:
            raise _Nothing("There is nothing to choose from yet.")
        return self._chance.choice(sorted(found))


class _Nothing(SpeakerDBError):
    """There is nothing to choose from."""


class Operator:
    """Starts migrations and brings them to one of their ends, and builds indices again. One of them at a time."""

    def __init__(self, db: SpeakerDB, actor: Actor, chance: random.Random) -> None:
        self._db = db
        self._actor = actor
        self._chance = chance

    def step(self) -> None:
        """One thing that fits the state of the migration, mostly."""
        with suppress(SpeakerDBError):
            live, aliases = self._db.serving.live(), self._db.index.aliases()
            gone = [name for name in live if self._db.generations[name].write_alias not in aliases]
            if gone or self._chance.random() < 0.1:
                self.rebuild(self._chance.choice(gone or live))
            else:
                self._move()
        time.sleep(5 * PAUSE_SECONDS)

    def rebuild(self, generation: str) -> None:
        """Build an index again."""
        self._actor.ask("rebuild", lambda: self._db.rebuild_index(generation), generation=generation)

    def _move(self) -> None:
        db, found = self._db, self._db.migration()
        state = None if found is None else State(found.state)
        if found is None or state in (State.CANCELLED, State.ROLLED_BACK, State.RETIRED):
            serving = db.serving.resolve(fresh=True).generation.name
            target = next(name for name in sorted(db.generations) if name != serving)
            self._actor.ask("start", lambda: db.start_migration(target, force=True), target=target)
            return
        source, target = found.source, found.target
        at_once = lambda: db.rollback(now=True)  # noqa: E731
        moves: dict[str, tuple[Callable[[], Any], dict[str, str]]] = {
            "finalize": (db.finalize, {"to": target}), "rollback": (db.rollback, {"to": source}),
            "rollback-now": (at_once, {"to": source}), "cancel": (db.cancel, {}), "retire": (db.retire, {}),
        }  # fmt: skip
        forward = state in (State.RUNNING, State.FINALIZING)
        move = self._chance.choice(["finalize"] * 5 + ["cancel"] if forward else ["rollback", "rollback-now", "retire"])
        act, args = moves[move]
        self._actor.ask(move.removesuffix("-now"), act, **args)


def content_of(unique: int, chance: random.Random) -> dict[str, float]:
    """Lengths of voices that no other number gives. Voices C and D come and go; a D is too short to be embedded."""
    seconds = {"A": 2 + unique % 5000 / 1000, "B": 2 + unique // 5000 / 1000}
    return seconds | {label: length for label, length in (("C", 4.0), ("D", 0.5)) if chance.random() < 0.5}


def told_of(result: Any) -> dict[str, Any]:
    """What an answer named."""
    return {
        "generation": result.generation,
        "matches": [
            {"kind": m.kind, "id": m.id, "name": m.name, "profile": m.profile_id, "profile_name": m.profile_name}
            for m in result.matches
        ],
    }
