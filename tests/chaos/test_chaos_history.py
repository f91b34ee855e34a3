"""The history checker finds each kind of violation, and finds nothing where all is well."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from speakerdb.errors import IndexUnavailable, LeaseLost, NotFound
from speakerdb.testing.history import ENDLESS, Actor, Commit, History, Operation, Sample, operations
from speakerdb.testing.history_check import LATEST, bounded, check

ONE, TWO = {"A": 2.001, "B": 2.0}, {"A": 2.002, "B": 2.0}


class Story:
    """A history that is told in seconds."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.samples: list[Sample] = []
        self.commits: list[Commit] = []
        self.ask("opened", 0, 1, serving="v3")

    def ask(
        self, op: str, begin: float, end: float | None, *, told: Any = None, answer: Any = None, **args: Any
    ) -> None:
        """Something was asked; without an end no answer came."""
        sure = answer or ("unknown" if end is None else "acknowledged")
        self.operations.append(
            Operation(
                "actor", len(self.operations), op, args, _instant(begin), ENDLESS if end is None else _instant(end), sure,
                told=told or {},
            )
        )  # fmt: skip

    def see(self, at: float, **changes: Any) -> None:
        """What stood there at an instant."""
        sql = {"recordings": {}, "speakers": {}, "profiles": {}, "migration": None, "loose": [], "undone": []}
        other = {name: changes.pop(name) for name in ("aliases", "documents", "migration_after") if name in changes}
        given: dict[str, Any] = {"aliases": {"speakers": ["speakers_v3"]}, "migration_after": None}
        self.samples.append(Sample(_instant(at), _instant(at + 0.5), sql | changes, **given | other))

    def add(self, begin: float, end: float | None, seconds: dict[str, float] = ONE, recording: str = "r") -> None:
        """A recording was added, or changed."""
        self.ask("add", begin, end, recording=recording, seconds=seconds)

    def found(self) -> set[str]:
        """Kinds of violations."""
        return {violation.kind for violation in check(History(self.operations, self.samples, self.commits))}


def _instant(seconds: float) -> int:
    return int(seconds * 1e9) + 1_000_000_000_000


def held(seconds: dict[str, float] = ONE, version: int = 1, **people: tuple[str | None, str | None]) -> dict[str, Any]:
    """The recording `r` with its speakers, as a sample shows it; `people` are name and profile by label."""
    speakers = {f"spk-{label}": ["r", label, *people.get(label, (None, None))] for label in seconds}
    return {"recordings": {"r": [1, version, seconds]}, "speakers": speakers}


def hit(id: str = "spk-A", name: str | None = None, profile: str | None = None) -> dict[str, Any]:
    """One answer of a match."""
    return {"kind": "speaker", "id": id, "name": name, "profile": profile, "profile_name": None}


@pytest.fixture
def story() -> Story:
    """Nothing has happened yet but that the library was opened."""
    return Story()


def test_what_happened_as_it_was_told_is_right(story: Story) -> None:
    story.see(1.2)
    story.add(2, 3)
    story.see(2.4, **held())  # before it was acknowledged
    story.see(4, **held())
    story.ask("rename", 5, 6, speaker="spk-A", name="Ada")
    story.ask("create-profile", 5, 6, profile="p", name="P")
    story.ask("assign", 7, 8, speaker="spk-A", profile="p")
    story.see(9, **held(A=("Ada", "p")), profiles={"p": ["P", None]})
    story.ask(
        "match", 9, 10, told={"matches": [hit(name="Ada") | {"profile": "p", "profile_name": "P"}]}, speaker="spk-B"
    )
    story.ask("create-profile", 10, 11, profile="q", name="Q")
    story.ask("merge", 11, 12, source="p", into="q")
    story.ask("rename-profile", 12, 13, profile="p", name="R", told={"profile": "q"})  # the id leads on
    story.see(14, **held(A=("Ada", "q")), profiles={"p": ["P", "q"], "q": ["R", None]})
    story.ask("finalize", 14, 15, to="v4")
    story.see(
        16,
        aliases={"speakers": ["speakers_v4.r7"]},
        **held(A=("Ada", "q")),
        profiles={"p": ["P", "q"], "q": ["R", None]},
    )
    story.ask("remove", 17, 18, recording="r")
    story.see(
        19, profiles={"p": ["P", "q"], "q": ["R", None]}, aliases={"speakers": ["speakers_v4"]}, documents={"v4": []}
    )
    story.commits.append(Commit("extracted", "r/v3", 7, 7, "host/1"))
    assert story.found() == set()


def test_of_two_merges_at_once_the_second_merges_what_the_first_led_to(story: Story) -> None:
    story.add(2, 3)
    for profile in ("p", "q", "r"):
        story.ask("create-profile", 2, 3, profile=profile, name=profile)
    story.ask("assign", 4, 5, speaker="spk-A", profile="q")
    story.ask("merge", 6, 9, source="p", into="r")  # begun first, and came second
    story.ask("merge", 7, 8, source="p", into="q")
    story.see(10, **held(A=(None, "r")), profiles={"p": ["p", "r"], "q": ["q", "r"], "r": ["r", None]})
    assert story.found() == set()


@pytest.mark.parametrize("happened", [True, False])
def test_an_operation_without_an_answer_happened_or_did_not(story: Story, happened: bool) -> None:
    story.add(2, None)
    story.see(9, **(held() if happened else {}))
    assert story.found() == set()


Tell = Callable[[Story], None]
WRONG: dict[str, tuple[str, Tell]] = {}


def wrong(kind: str) -> Callable[[Tell], Tell]:
    """A story that goes wrong in one way."""

    def keep(tell: Tell) -> Tell:
        WRONG[tell.__name__.replace("_", "-")] = (kind, tell)
        return tell

    return keep


@wrong("lost")
def an_acknowledged_recording_is_not_there(story: Story) -> None:
    story.add(2, 3)
    story.see(4)


@wrong("lost")
def an_acknowledged_change_is_not_there(story: Story) -> None:
    story.add(2, 3)
    story.add(4, 5, TWO)
    story.see(6, **held(ONE))


@wrong("lost")
def an_acknowledged_name_is_lost(story: Story) -> None:
    story.add(2, 3)
    story.ask("rename", 4, 5, speaker="spk-A", name="Ada")
    story.see(6, **held())


@wrong("lost")
def an_acknowledged_assignment_is_lost(story: Story) -> None:
    story.add(2, 3)
    story.ask("create-profile", 3, 4, profile="p", name="P")
    story.ask("assign", 4, 5, speaker="spk-A", profile="p")
    story.see(6, **held(), profiles={"p": ["P", None]})


@wrong("lost")
def an_acknowledged_person_is_lost(story: Story) -> None:
    story.ask("create-profile", 2, 3, profile="p", name="P")
    story.see(4)


@wrong("lost")
def a_merge_is_lost(story: Story) -> None:
    for profile in ("p", "q"):
        story.ask("create-profile", 2, 3, profile=profile, name=profile)
    story.ask("merge", 4, 5, source="p", into="q")
    story.see(6, profiles={"p": ["p", None], "q": ["q", None]})


@wrong("lost")
def an_acknowledged_finalize_is_lost(story: Story) -> None:
    story.ask("finalize", 2, 3, to="v4")
    story.see(4)


@wrong("came-back")
def a_removed_recording_is_there(story: Story) -> None:
    story.add(2, 3)
    story.ask("remove", 4, 5, recording="r")
    story.see(6, **held())


@wrong("came-back")
def a_deleted_person_is_there(story: Story) -> None:
    story.ask("create-profile", 2, 3, profile="p", name="P")
    story.ask("delete-profile", 4, 5, profile="p", told={"profile": "p"})
    story.see(6, profiles={"p": ["P", None]})


@wrong("came-back")
def a_speaker_that_was_gone_is_there_again(story: Story) -> None:
    story.add(2, 3)
    story.see(4, **held())
    story.ask("remove", 5, 6, recording="r")
    story.see(7)
    story.add(8, 9, TWO)
    story.see(10, **held(TWO))  # a recording may come back; its voices have new ids


@wrong("came-back")
def the_index_holds_what_SQL_does_not(story: Story) -> None:
    story.see(2, documents={"v3": ["spk-A"]})


@wrong("dead-answer")
def an_answer_names_what_was_removed(story: Story) -> None:
    story.add(2, 3)
    story.see(4, **held())
    story.ask("remove", 5, 6, recording="r")
    story.ask("match", 7, 8, told={"matches": [hit()]}, speaker="x")
    story.see(9)


@wrong("dead-answer")
def an_answer_names_a_label_that_was_taken_out(story: Story) -> None:
    story.add(2, 3)
    story.see(4, **held())
    story.add(5, 6, {"A": 9.0})
    story.ask("match", 7, 8, told={"matches": [hit("spk-B")]}, speaker="x")


@wrong("lost")
def an_answer_has_a_name_that_was_replaced(story: Story) -> None:
    story.add(2, 3)
    for at, name in ((4, "Ada"), (6, "Bea")):
        story.ask("rename", at, at + 1, speaker="spk-A", name=name)
    story.ask("match", 8, 9, told={"matches": [hit(name="Ada")]}, speaker="x")


@wrong("half-done")
def a_refused_change_is_there(story: Story) -> None:
    story.add(2, 3)
    story.ask("rename", 4, 5, answer="refused", speaker="spk-A", name="Ada")
    story.see(6, **held(A=("Ada", None)))


@wrong("half-done")
def a_recording_has_half_of_its_turns(story: Story) -> None:
    story.add(2, None)
    story.see(4, **held({"A": 2.001}))


@wrong("half-done")
def a_speaker_has_no_recording(story: Story) -> None:
    story.see(2, speakers={"spk-A": ["r", "A", None, None]})


@wrong("half-done")
def turns_have_no_speaker(story: Story) -> None:
    story.add(2, 3)
    story.see(4, **held() | {"speakers": {"spk-A": ["r", "A", None, None]}})


@wrong("half-done")
def a_member_of_a_merged_person_is_left_behind(story: Story) -> None:
    story.add(2, 3)
    for profile in ("p", "q"):
        story.ask("create-profile", 2, 3, profile=profile, name=profile)
    story.ask("assign", 4, 5, speaker="spk-A", profile="p")
    story.ask("merge", 6, 7, source="p", into="q")
    story.see(8, **held(A=(None, "p")), profiles={"p": ["p", "q"], "q": ["q", None]})


@wrong("half-done")
def something_belongs_to_nothing(story: Story) -> None:
    story.see(2, loose=["embedding v3/spk-A"])


@wrong("half-done")
def a_recording_waits_for_nobody(story: Story) -> None:
    story.add(2, 3)
    story.see(4, **held(), undone=["r has no work item for v3"])


@wrong("stale-epoch")
def a_commit_of_an_older_epoch_is_visible(story: Story) -> None:
    story.commits.append(Commit("extracted", "r/v3", 6, 7, "host/1"))


@wrong("stale-epoch")
def a_commit_is_visible_that_nobody_held_a_lease_for(story: Story) -> None:
    story.commits.append(Commit("moved-on", "1 finalized", None, 7, None))


@wrong("went-back")
def a_version_goes_back(story: Story) -> None:
    story.commits.append(Commit("version-back", "v3/spk-A", 9, 8, None))


@wrong("went-back")
def a_projection_is_forgotten(story: Story) -> None:
    story.commits.append(Commit("projection-vanished", "v3/spk-A", 9, None, None))


@wrong("went-back")
def a_content_version_goes_back(story: Story) -> None:
    story.add(2, None)
    story.add(2, None, TWO)
    story.see(4, **held(ONE, 2))
    story.see(5, **held(TWO, 1))


@wrong("went-back")
def one_version_has_two_contents(story: Story) -> None:
    story.add(2, None)
    story.add(2, None, TWO)
    story.see(4, **held(ONE, 2))
    story.see(5, **held(TWO, 2))


@wrong("alias")
def the_alias_names_nothing(story: Story) -> None:
    story.see(2, aliases={})


@wrong("alias")
def the_alias_names_two(story: Story) -> None:
    story.see(2, aliases={"speakers": ["speakers_v3", "speakers_v4"]})


@wrong("alias")
def the_alias_names_what_the_migration_does_not_say(story: Story) -> None:
    story.ask("finalize", 2, None, to="v4")
    running = [1, "running", "v3", "v4"]
    story.see(4, migration=running, migration_after=running, aliases={"speakers": ["speakers_v4"]})


@wrong("broken")
def an_error_that_nobody_foresaw(story: Story) -> None:
    story.ask("add", 2, 3, answer="broken", recording="r", seconds=ONE)


@pytest.mark.parametrize("name", WRONG)
def test_each_kind_of_violation_is_found(name: str, story: Story) -> None:
    kind, tell = WRONG[name]
    tell(story)
    assert kind in story.found()


def test_the_alias_may_be_gone_from_a_dropped_index_until_it_is_built_again(story: Story) -> None:
    story.ask("drop-index", 2, 3, generation="v3")
    story.see(4, aliases={})
    story.ask("rebuild", 5, 6, generation="v3")
    assert story.found() == set()
    story.see(7, aliases={})
    assert story.found() == {"alias"}


def test_what_was_not_answered_is_over_when_its_process_is_gone(story: Story) -> None:
    """So what it asked for cannot come true after something newer was acknowledged long since."""
    story.add(2, None, TWO)
    story.operations[-1] = replace(story.operations[-1], actor="client")
    story.ask("gone", 3, 3, actor="client")
    late = 4 + LATEST / 1e9
    story.add(late, late + 1)
    assert bounded(story.operations)[1].end == _instant(3) + LATEST
    story.see(late + 2, **held(TWO))
    assert story.found() == {"lost"}


def test_what_others_bring_to_its_end_is_never_over(story: Story) -> None:
    story.ask("finalize", 2, None, to="v4")
    story.operations[-1] = replace(story.operations[-1], actor="operator")
    story.ask("gone", 3, 3, actor="operator")
    story.see(99, aliases={"speakers": ["speakers_v4"]})
    assert story.found() == set()


# Files


def test_an_actor_writes_what_it_was_told(tmp_path: Path) -> None:
    def fail(error: Exception) -> Callable[[], None]:
        def act() -> None:
            raise error

        return act

    actor = Actor(tmp_path, "client")
    assert actor.ask("match", lambda: {"matches": []}, speaker="s") == "acknowledged"
    assert actor.ask("remove", fail(NotFound("There is none.")), recording="r") == "refused"
    assert actor.ask("add", fail(IndexUnavailable("No answer.")), recording="r") == "unknown"
    assert actor.ask("finalize", fail(LeaseLost("Another one has it.")), to="v4") == "unknown"
    assert actor.ask("add", fail(KeyError("x")), recording="r") == "broken"
    actor.close()
    found = operations(tmp_path)
    assert [(op.op, op.answer, op.code) for op in found][:3] == [
        ("match", "acknowledged", None),
        ("remove", "refused", "not-found"),
        ("add", "unknown", "index-unavailable"),
    ]
    assert found[0].told == {"matches": []}
    assert found[0].end < found[1].begin < found[1].end
    assert found[2].end == found[3].end == ENDLESS


KILLED = """
import os, signal, sys
from pathlib import Path
from speakerdb.testing.history import Actor
actor = Actor(Path(sys.argv[1]), "client")
actor.ask("add", lambda: None, recording="one")
actor.ask("add", lambda: os.kill(os.getpid(), signal.SIGKILL), recording="two")
"""


def test_what_was_written_survives_a_kill_and_the_rest_is_unknown(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert ran.returncode == -signal.SIGKILL
    file = tmp_path / "client.jsonl"
    with file.open("a") as half:
        half.write('{"n": 2, "at": 7, "answ')  # as if it had been killed while it wrote
    one, two = operations(tmp_path)
    assert (one.answer, two.answer, two.end) == ("acknowledged", "unknown", ENDLESS)
