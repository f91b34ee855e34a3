"""Proves from a history that nothing acknowledged was lost, nothing deleted came back, and no stale write was ever seen.

Knows nothing of the product's code. What can be changed by one operation at a time (a recording, the name of a speaker, which
index serves) is a *register*: whoever reads it must find a value that some operation wrote which nothing acknowledged has
replaced before the reading began. An operation whose answer is unknown may be found or not, a refused one never: so each
writes a value that nobody else writes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from speakerdb.testing.history import ENDLESS, History, Operation, Sample, Values

Key: TypeAlias = tuple[str, str]
"""What kind of register, and whose."""
ABSENT = "absent"
LIVING = "living"
MERGED = "merged"
LATEST = 5_000_000_000
"""Nanoseconds within which a server ends what a client had asked who has gone, or has lost its connection."""
BY_OTHERS = frozenset({"finalize", "rollback", "start", "cancel", "retire", "rebuild", "set-alias"})
"""What another process brings to its end where one dies in the middle: at any time."""


@dataclass(frozen=True)
class Violation:
    """Something that must never be, in one sentence."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class _Write:
    value: Any
    begin: int
    end: int
    sure: bool
    by: str


def check(history: History) -> list[Violation]:
    """Everything that is wrong; empty where all is well."""
    history = replace(history, operations=bounded(history.operations))
    return list(dict.fromkeys([*_Registers(history).violations(), *_lives(history), *_alone(history)]))


def bounded(operations: Sequence[Operation]) -> list[Operation]:
    """The same, where an operation of unknown answer that nobody else continues ends a while after its actor went on or went."""
    gone = {op.args["actor"]: op.end for op in operations if op.op == "gone"}
    following: dict[str, int] = {}
    found = []
    for op in sorted(operations, key=lambda each: (each.begin, each.number), reverse=True):
        if op.end == ENDLESS and op.op not in BY_OTHERS and not op.lasting:
            over = following.get(op.actor, gone.get(op.actor, ENDLESS))
            if over < ENDLESS:
                op = replace(op, end=over + LATEST)
        following[op.actor] = op.begin
        found.append(op)
    return found[::-1]


def content(seconds: Mapping[str, float]) -> str:
    """What tells one content of a recording from another: how long each of its voices talks."""
    return json.dumps({label: round(length, 3) for label, length in sorted(seconds.items())})


class _Registers:
    """Every register, with what was written and what was read."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._writes: defaultdict[Key, list[_Write]] = defaultdict(list)
        self._merged: defaultdict[str, set[str]] = defaultdict(set)
        self._found: list[Violation] = []
        asked = [op.args for op in history.operations if op.op == "merge" and op.answer != "refused"]
        while self._follow(asked):
            pass
        for op in history.operations:
            if op.answer == "refused":
                continue
            for (kind, whose), value in _writes_of(op):
                # The id of a merged person leads to another one, and what is asked of it is done there; the answer says where.
                for one in {whose, *(self._leads_to(whose) if kind.startswith("profile") else ())}:
                    done_to = whose if op.op == "merge" else op.told.get("profile", whose)
                    sure = op.answer == "acknowledged" and one == done_to
                    self._writes[kind, one].append(_Write(value, op.begin, op.end, sure, str(op)))

    def violations(self) -> list[Violation]:
        """Every reading that finds what it could not find."""
        for sample in self._history.samples:
            self._sample(sample)
        for op in self._history.operations:
            if op.answer == "acknowledged" and op.op == "match":
                self._match(op)
            elif op.op == "remove" and op.code == "not-found":
                self._read(("recording", op.args["recording"]), ABSENT, op.begin, op.end, str(op))
        return self._found

    def _sample(self, sample: Sample) -> None:
        begin, end, sql = sample.begin, sample.end, sample.sql

        def read(key: Key, value: Any) -> None:
            self._read(key, value, begin, end, "SQL")

        recordings, speakers, profiles = sql["recordings"], sql["speakers"], sql["profiles"]
        for kind, what in (("recording", recordings), ("profile", profiles)):
            for known in {key[1] for key in self._writes if key[0] == kind} - what.keys():
                read((kind, known), ABSENT)
        for id, (_, _, seconds) in recordings.items():
            read(("recording", id), content(seconds))
        for id, (name, into) in profiles.items():
            read(("profile", id), LIVING if into is None else MERGED)
            read(("profile-name", id), name)
            if into is not None and into not in self._leads_to(id):
                self._add("lost", f"the profile {id} leads to {into}, and nobody merged it there")
        for id, (_, _, name, profile) in speakers.items():
            read(("name", id), name)
            read(("profile-of", id), profile)
        targets = sample.aliases.get("speakers", [])
        if len(targets) == 1:
            self._read(("serving", ""), _generation(targets[0]), begin, end, "the alias")

    def _match(self, op: Operation) -> None:
        for hit in op.told["matches"]:
            profile = hit["profile"]
            if hit["kind"] == "profile":
                self._read(("profile", hit["id"]), LIVING, op.begin, op.end, str(op))
                self._read(("profile-name", hit["id"]), hit["profile_name"], op.begin, op.end, str(op))
                continue
            self._read(("name", hit["id"]), hit["name"], op.begin, op.end, str(op))
            self._read(("profile-of", hit["id"]), profile, op.begin, op.end, str(op))
            if profile is not None:
                self._read(("profile", profile), LIVING, op.begin, op.end, str(op))
                self._read(("profile-name", profile), hit["profile_name"], op.begin, op.end, str(op))

    def _read(self, key: Key, value: Any, begin: int, end: int, by: str) -> None:
        writes = [_Write(_initial(key), -1, -1, True, "nobody"), *self._writes[key]]
        replaced = max((write.begin for write in writes if write.sure and write.end < begin), default=-2)
        if any(self._is(key, write.value, value) and write.begin <= end and write.end >= replaced for write in writes):
            return
        last = max((write for write in writes if write.sure and write.end < begin), key=lambda write: write.begin)
        wrote = next((write for write in writes if self._is(key, write.value, value)), None)
        what = f"{key[0]} {key[1]}".strip()
        kind = "half-done" if wrote is None else "came-back" if last.value == ABSENT else "lost"
        came = "nobody wrote that" if wrote is None else f"that was written by {wrote.by}"
        self._add(kind, f"{what} is {value!r} for {by}; {came}, and since then {last.by} wrote {last.value!r}")

    def _is(self, key: Key, written: Any, read: Any) -> bool:
        if key[0] == "profile-of" and written is not None and read is not None:
            return read == written or read in self._leads_to(written)
        return bool(written == read)

    def _follow(self, asked: Sequence[Values]) -> bool:
        """What the id of a merged person leads to is merged in its place, in whichever order two were. Whether that was news."""
        news = False
        for args in asked:
            for source in (args["source"], *self._leads_to(args["source"])):
                news |= args["into"] not in self._merged[source]
                self._merged[source].add(args["into"])
        return news

    def _leads_to(self, profile: str) -> set[str]:
        found: set[str] = set()
        waiting = [profile]
        while waiting:
            for into in self._merged[waiting.pop()] - found:
                found.add(into)
                waiting.append(into)
        return found

    def _add(self, kind: str, text: str) -> None:
        self._found.append(Violation(kind, text))


def _writes_of(op: Operation) -> Iterator[tuple[Key, Any]]:
    args = op.args
    match op.op:
        case "add":
            yield ("recording", args["recording"]), content(args["seconds"])
        case "remove":
            yield ("recording", args["recording"]), ABSENT
        case "rename":
            yield ("name", args["speaker"]), args["name"]
        case "assign":
            yield ("profile-of", args["speaker"]), args["profile"]
        case "create-profile":
            yield ("profile", args["profile"]), LIVING
            yield ("profile-name", args["profile"]), args["name"]
        case "rename-profile":
            yield ("profile-name", args["profile"]), args["name"]
        case "delete-profile":
            yield ("profile", args["profile"]), ABSENT
        case "merge":
            yield ("profile", args["source"]), MERGED
        case "finalize" | "rollback" | "set-alias":
            yield ("serving", ""), args["to"]
        case "opened":
            yield ("serving", ""), args["serving"]


def _initial(key: Key) -> Any:
    return ABSENT if key[0] in ("recording", "profile", "profile-name") else None


# Who lives


def _lives(history: History) -> Iterator[Violation]:
    """A voice that is gone is never seen again: its id is made up once. Nothing of it is left, no answer names it."""
    seen: dict[str, int] = {}
    """When a voice was seen first."""
    home: dict[str, tuple[str, str]] = {}
    dead: dict[str, tuple[int, str]] = {}
    """From when on a voice is certainly gone, and why."""
    for sample in history.samples:
        for id, (recording, label, *_) in sample.sql["speakers"].items():
            seen.setdefault(id, sample.end)
            home[id] = (recording, label)
        for id in seen.keys() - sample.sql["speakers"].keys():
            _bury(dead, id, sample.end, "it was not in SQL any more")
    by_recording = defaultdict(list)
    for id, (recording, label) in home.items():
        by_recording[recording].append((id, label))
    gone: dict[str, tuple[int, str]] = {}
    """The same of people."""
    for op in history.operations:
        if op.answer != "acknowledged":
            continue
        if op.op in ("add", "remove"):
            left = op.args.get("seconds", {})
            for id, label in by_recording[op.args["recording"]]:
                if label not in left and seen[id] < op.begin:
                    _bury(dead, id, op.end, str(op))
        elif op.op in ("merge", "delete-profile"):
            _bury(gone, op.args["source"] if op.op == "merge" else op.told["profile"], op.end, str(op))
    for sample in history.samples:
        for id in sample.sql["speakers"]:
            if id in dead and dead[id][0] < sample.begin:
                yield Violation("came-back", f"the speaker {id} is in SQL again, after {dead[id][1]}")
        for generation, living in (sample.documents or {}).items():
            here = sample.sql["speakers"].keys() | {k for k, v in sample.sql["profiles"].items() if v[1] is None}
            for id in set(living) - here:
                yield Violation("came-back", f"the index of {generation} holds {id}, and SQL does not")
    for op in history.operations:
        if op.op == "match" and op.answer == "acknowledged":
            for hit in op.told["matches"]:
                died = (gone if hit["kind"] == "profile" else dead).get(hit["id"])
                if died is not None and died[0] < op.begin:
                    yield Violation("dead-answer", f"{op} names {hit['id']}, which was gone: {died[1]}")


def _bury(dead: dict[str, tuple[int, str]], id: str, when: int, why: str) -> None:
    if id not in dead or when < dead[id][0]:
        dead[id] = (when, why)


# What one entry shows by itself


def _alone(history: History) -> Iterator[Violation]:
    for op in history.operations:
        if op.answer == "broken":
            yield Violation("broken", f"{op}")
    for commit in history.commits:
        if commit.what.endswith(("-back", "-vanished")):
            yield Violation("went-back", f"{commit.what} of {commit.subject} (from {commit.claimed} to {commit.epoch})")
        elif commit.holder is None:
            yield Violation("stale-epoch", f"{commit.what} of {commit.subject}, and nobody held the lease")
        elif commit.claimed is not None and commit.claimed != commit.epoch:
            yield Violation(
                "stale-epoch", f"{commit.what} of {commit.subject} under epoch {commit.claimed}, now {commit.epoch}"
            )
    unserved = list(_without_index(history.operations))
    versions: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    newest: dict[tuple[str, int], int] = {}
    for sample in history.samples:
        yield from _of_one_moment(sample)
        targets = sample.aliases.get("speakers", [])
        excused = any(begin <= sample.end and sample.begin <= end for begin, end in unserved)
        if len(targets) > 1 or (not targets and not excused):
            yield Violation("alias", f"the alias names {targets}")
        for id, (created, version, seconds) in sample.sql["recordings"].items():
            if version < newest.get((id, created), 0):
                yield Violation("went-back", f"the content version of {id} went back to {version}")
            newest[id, created] = version
            held = versions[id, created].setdefault(version, content(seconds))
            if held != content(seconds):
                yield Violation("went-back", f"version {version} of {id} has had two contents")


def _of_one_moment(sample: Sample) -> Iterator[Violation]:
    sql = sample.sql
    for what in sql["loose"]:
        yield Violation("half-done", f"{what} belongs to nothing")
    for what in sql["undone"]:
        yield Violation("half-done", f"{what}")
    for id, (recording, label, _, profile) in sql["speakers"].items():
        if label not in sql["recordings"].get(recording, [0, 0, {}])[2]:
            yield Violation("half-done", f"the speaker {id} has no turns in {recording}")
        if profile is not None and sql["profiles"].get(profile, [None, "gone"])[1] is not None:
            yield Violation("half-done", f"the speaker {id} belongs to {profile}, which is merged or gone")
    known = {(recording, label) for recording, label, *_ in sql["speakers"].values()}
    for id, (_, _, seconds) in sql["recordings"].items():
        for label in seconds:
            if (id, label) not in known:
                yield Violation("half-done", f"{id} has turns of {label}, who is no speaker of it")
    migration, targets = sql["migration"], sample.aliases.get("speakers", [])
    if migration is not None and migration == sample.migration_after and len(targets) == 1:
        _, state, source, target = migration
        serves = {"running": source, "cancelled": source, "rolled_back": source, "finalized": target, "retired": target}
        if state in serves and _generation(targets[0]) != serves[state]:
            yield Violation("alias", f"the alias names {targets[0]} while the migration is {state}")


def _without_index(operations: Iterable[Operation]) -> Iterator[tuple[int, int]]:
    """From when to when the index that serves may be gone: somebody dropped it behind the library's back, until it was built
    again."""
    built: Callable[[Operation], bool] = lambda op: op.op == "rebuild" and op.answer == "acknowledged"  # noqa: E731
    rebuilt = [op for op in operations if built(op)]
    for drop in operations:
        if drop.op == "drop-index" and drop.answer != "refused":
            again = [
                op.end for op in rebuilt if op.begin > drop.begin and op.args["generation"] == drop.args["generation"]
            ]
            yield drop.begin, min(again, default=ENDLESS)


def _generation(index: str) -> str:
    return index.partition(".r")[0].removeprefix("speakers_")
