"""A service that remembers what it was asked and answers with canned values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from speakerdb import reports as r
from speakerdb.errors import NotFound, SpeakerDBError
from speakerdb.reports import people as p
from speakerdb.reports.rebuilding import RebuildProgress, RebuildReport
from speakerdb.reports.seeing import EventFilter, Explanation, LeaseView, Picture, Place, Problem
from speakerdb.settings import Settings
from speakerdb.types import Turn

PROGRESS = r.Progress("v4", 4, 3, 1, 0, 0, 7200.0, 5400.0, 6, 1, 0, {"media-missing": 1})
FAILED = r.ItemError("rec-4", "v4", "media-missing", "The file is gone.", 3)
PASSED = r.GateReport((r.Check("coverage", "pass", "6 of 6", "all"),), 42)
REFUSED = r.GateReport((r.Check("coverage", "fail", "5 of 6", "all", "Run `speakerdb migrate retry`."),), 42)
MIGRATION = r.MigrationView(
    7, "speakers", "v3", "v4", "running", False, None, "v3", 1_700_000_000_000_000, None, None, 0, PROGRESS, (FAILED,),
    "`speakerdb migrate finalize`",
)  # fmt: skip
PREFLIGHT = r.Preflight(
    "v3",
    "v4",
    4,
    4,
    7,
    7200.0,
    210.0,
    1 << 20,
    1 << 30,
    (10.0, 20.0),
    True,
    (r.Check("disk", "pass", "1 GiB", "1 MiB"),),
)
WORK = r.WorkReport(3, 0, 6, 1, 6, 5400.0, 180.0, 60.0, "drained", {"v4": "a stand-in"})
SPEAKER = r.SpeakerView("spk-1", "rec-1", "SPEAKER_00", "Ada [x]", "pro-1", "Ada", 31.5, {"v3": "embedded"})
PROFILE = r.ProfileView("pro-1", "default", "Ada", 2, None)
TURN = p.SpeakerTurn(1, 0.0, 4.5)
DETAILS = p.SpeakerDetails(
    "spk-1", "rec-1", "SPEAKER_00", "Ada [x]", "pro-1", "Ada", 31.5, {"v3": "embedded"}, "default", "/media/one.wav", 9,
    (TURN,), (p.SpeakerStatistics("v3", "embedded", 30.0, 7, 0.9, 0.8, 0.95, 0.7, False),),
)  # fmt: skip
PERSON = p.ProfileDetails(
    "pro-1", "default", "Ada", 2, None, 60.0, 2,
    (p.ProfileStatistics("v3", 2, 2, 60.0, 0.9, 0.8, 0.1, 0.7, 0, (), p.NearestProfile("pro-2", "Eve", 0.4)),),
    (p.Member("spk-1", "rec-1", "/media/one.wav", "SPEAKER_00", None, 31.5, {"v3": 0.9}, ()),),
    (p.Appearance("rec-1", "/media/one.wav", 1_700_000_000_000_000, False, 31.5, 1),), (),
)  # fmt: skip
SPLIT = p.SplitReport("spk-1", "rec-1", "spk-2", "SPEAKER_00-b", (TURN,), 4.5, 8, 27.0, ("v3",))
UNDONE = p.UndoReport(
    True,
    5,
    "speaker-renamed",
    1_700_000_000_000_000,
    "me",
    None,
    "spk-1",
    {"old": None, "new": "Ada"},
    "It has no name.",
)
MATCH = r.MatchResult(
    "speaker spk-1", "v3", "speakers_v3", "serving", "accept", "far above the runner-up", 0.2, 31.5,
    (r.Match(1, "speaker", "spk-9", 0.91, "Ada", "pro-1", "Ada", "rec-2", "/media/two.wav", "SPEAKER_01", 12.0),),
)  # fmt: skip
STATUS = r.Status(
    "v3", "speakers_v3", ("v3", "v4"), 1, 4, 7, 1, {"v4": PROGRESS}, MIGRATION,
    (LeaseView("work", "held", "here/12-ab", "here", 12, 1_700_000_000_000_000, 1_700_000_060_000_000, 3),),
    (Problem("disk-low", "error", "The disk is full.", "speakerdb doctor"),), "/data", "sqlite",
)  # fmt: skip
RECORDING = r.RecordingView("rec-1", "default", "/media/one.wav", 60.0, 12, 2, 1)


def event(done: int, **changes: Any) -> r.WorkEvent:
    """A step of long work with `done` of four recordings finished."""
    current = (r.CurrentRecording(f"rec-{done + 1}", f"/media/{done + 1}.wav", "v4", 12, 2),)
    progress = replace(PROGRESS, recordings_done=done, audio_seconds_done=1800.0 * done, errors={})
    return replace(r.WorkEvent(progress, current, 10.0, 1800.0 * done, (5.0, 9.0)), **changes)


class FakePeople:
    """The rooms `people` and `voices`."""

    def __init__(self, asked: Callable[..., None]) -> None:
        self._asked = asked

    def speakers(self, **kwargs: Any) -> list[r.SpeakerView]:
        self._asked("speakers", **kwargs)
        return [SPEAKER]

    def _speaker(self, name: str, *args: Any, **kwargs: Any) -> r.SpeakerView:
        self._asked(name, *args, **kwargs)
        return SPEAKER

    def rename_speaker(self, speaker_id: str, name: str | None, **kwargs: Any) -> r.SpeakerView:
        return self._speaker("rename_speaker", speaker_id, name, **kwargs)

    def assign(self, speaker_id: str, profile_id: str | None, **kwargs: Any) -> r.SpeakerView:
        return self._speaker("assign", speaker_id, profile_id, **kwargs)

    def assign_by_name(self, speaker_id: str, name: str, **kwargs: Any) -> r.SpeakerView:
        return self._speaker("assign_by_name", speaker_id, name, **kwargs)

    def split(self, speaker_id: str, choice: Any, **kwargs: Any) -> p.SplitReport:
        self._asked("split", speaker_id, choice, **kwargs)
        return SPLIT

    def profiles(self, **kwargs: Any) -> list[r.ProfileView]:
        self._asked("profiles", **kwargs)
        return [PROFILE]

    def _profile(self, name: str, *args: Any, **kwargs: Any) -> r.ProfileView:
        self._asked(name, *args, **kwargs)
        return PROFILE

    def create_profile(self, name: str, **kwargs: Any) -> r.ProfileView:
        return self._profile("create_profile", name, **kwargs)

    def rename_profile(self, profile_id: str, name: str, **kwargs: Any) -> r.ProfileView:
        return self._profile("rename_profile", profile_id, name, **kwargs)

    def merge_profiles(self, source_id: str, into_id: str, **kwargs: Any) -> r.ProfileView:
        return self._profile("merge_profiles", source_id, into_id, **kwargs)

    def delete_profile(self, profile_id: str, **kwargs: Any) -> r.ProfileView:
        return self._profile("delete_profile", profile_id, **kwargs)

    def undo(self, event: int | None = None, **kwargs: Any) -> p.UndoReport:
        self._asked("undo", event, **kwargs)
        return UNDONE

    def speaker(self, speaker_id: str, *, turns: int) -> p.SpeakerDetails:
        self._asked("speaker", speaker_id, turns=turns)
        if speaker_id == "nobody":
            raise NotFound("There is no speaker nobody.", hint="See `speakerdb speakers list`.", asked="nobody")
        return DETAILS

    def profile(self, profile_id: str, *, rows: int) -> p.ProfileDetails:
        self._asked("profile", profile_id, rows=rows)
        return PERSON


class FakeDB:
    """Everything that `SpeakerDB` answers. `calls` is what was asked; `raises` is how verbs end."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.raises: dict[str, BaseException] = {}
        self.people = self.voices = FakePeople(self._asked)
        self.current: r.MigrationView | None = None
        self.gates = PASSED
        self.ready = PREFLIGHT
        self.report = WORK
        self.events_sent: Sequence[r.WorkEvent] = (event(1), event(2))
        self.during_work: Any = None
        self.refused_files: dict[str, SpeakerDBError] = {}
        self.overview = FakeOverview(self)
        self.explain = FakeExplain(self)
        self.plots = FakePlots(self)

    def __enter__(self) -> FakeDB:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append(("close", (), {}))

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]

    def _asked(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        self.calls.append((name, args, kwargs))
        if name in self.raises:
            raise self.raises[name]

    def add(self, path: Any, turns: Sequence[Turn] | None, **kwargs: Any) -> r.AddReport:
        self._asked("add", path, turns, **kwargs)
        if path.name in self.refused_files:
            raise self.refused_files[path.name]
        if turns is None:
            return r.AddReport(f"rec-{path.stem}", r.AddOutcome.ADDED, 0, {}, 60.0, (), to_diarize=True)
        labels = sorted({t.speaker for t in turns})
        return r.AddReport(
            f"rec-{path.stem}", r.AddOutcome.ADDED, len(turns), dict.fromkeys(labels, "spk"), 60.0, ("v3",)
        )

    def remove(self, recording_id: str) -> None:
        self._asked("remove", recording_id)

    def work(self, *, on_event: Any = None, stop: Any = None, **kwargs: Any) -> r.WorkReport:
        self._asked("work", **kwargs)
        for one in self.events_sent:
            on_event(one)
        if self.during_work is not None:
            self.during_work()
        return replace(self.report, stopped="stopped") if stop() else self.report

    def start_migration(
        self, target: str, *, force: bool = False, checked: Any = None, rediarize: bool = False
    ) -> r.MigrationView:
        assert checked is self.ready, "the pre-flight is made once"
        assert not rediarize
        self._asked("start_migration", target, force=force)
        self.current = MIGRATION
        return MIGRATION

    def preflight(self, target: str, *, rediarize: bool = False) -> r.Preflight:
        assert not rediarize
        self._asked("preflight", target)
        return self.ready

    def migration(self) -> r.MigrationView | None:
        return self.current

    def check_gates(self) -> r.GateReport:
        self._asked("check_gates")
        return self.gates

    def finalize(self) -> r.SwapReport:
        self._asked("finalize")
        return r.SwapReport(MIGRATION, self.gates, "v4", 0, 0.1)

    def rollback(self, *, now: bool = False) -> r.SwapReport:
        self._asked("rollback", now=now)
        return r.SwapReport(MIGRATION, self.gates, "v3", 0, 0.1)

    def _view(self, name: str, *args: Any, **kwargs: Any) -> r.MigrationView:
        self._asked(name, *args, **kwargs)
        return MIGRATION

    def pause(self, reason: str = "") -> r.MigrationView:
        return self._view("pause", reason)

    def resume(self) -> r.MigrationView:
        return self._view("resume")

    def cancel(self) -> r.MigrationView:
        return self._view("cancel")

    def retire(self, *, purge: bool = False) -> r.MigrationView:
        return self._view("retire", purge=purge)

    def retry(self, **kwargs: Any) -> int:
        self._asked("retry", **kwargs)
        return 1

    def waive(self, **kwargs: Any) -> int:
        self._asked("waive", **kwargs)
        return 1

    def match(self, **kwargs: Any) -> r.MatchResult:
        self._asked("match", **kwargs)
        return MATCH

    def recordings(self, **kwargs: Any) -> list[r.RecordingView]:
        self._asked("recordings", **kwargs)
        return [RECORDING]

    def status(self) -> r.Status:
        self._asked("status")
        return STATUS

    def rebuild_index(self, generation: str, *, serve: bool = False, on_progress: Any = None) -> RebuildReport:
        self._asked("rebuild_index", generation, serve=serve)
        on_progress(RebuildProgress(generation, "writing", 12, 12))
        return RebuildReport(generation, f"speakers_{generation}.r2", 12, f"speakers_{generation}", True, 0, 0.1)

    serving = SimpleNamespace(live=lambda: ("v3", "v4"), disagreement=lambda: None)


class FakeOverview:
    """The room of the events."""

    def __init__(self, db: FakeDB) -> None:
        self._db = db

    def events(self, where: EventFilter, *, limit: int = 50) -> list[dict[str, Any]]:
        self._db._asked("events", where, limit=limit)
        return [
            {"id": 1, "at": 1_700_000_000_000_000, "kind": "started", "who": "me", "migration": 7, "data": {"to": "v4"}}
        ]


class FakeExplain:
    """The room that explains one thing."""

    def __init__(self, db: FakeDB) -> None:
        self._db = db

    def about(self, given: str) -> Explanation:
        self._db._asked("explain", given)
        place = Place("v3", True, True, "embedded", "", "Nothing: it can be searched.", "")
        return Explanation(given, "speaker", {"name": "Ada"}, None, (place,), (), (), place.next, "")


class FakePlots:
    """The room of the pictures."""

    def __init__(self, db: FakeDB) -> None:
        self._db = db

    def draw(self, kind: str, file: Path, *, library_name: str | None = None, profile: str | None = None) -> Picture:
        self._db._asked("draw", kind, file, library_name=library_name)
        return Picture(kind, str(file), {})


@contextlib.contextmanager
def opened(db: FakeDB, seen: list[Settings], settings: Settings) -> Iterator[FakeDB]:
    """What `session.open_service` gives in tests."""
    seen.append(settings)
    with db:
        yield db
