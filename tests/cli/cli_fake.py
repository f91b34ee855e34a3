"""A service that remembers what it was asked and answers with canned values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from speakerdb import reports as r
from speakerdb.errors import NotFound, SpeakerDBError
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
MATCH = r.MatchResult(
    "speaker spk-1", "v3", "speakers_v3", "serving", "accept", "far above the runner-up", 0.2, 31.5,
    (r.Match(1, "speaker", "spk-9", 0.91, "Ada", "pro-1", "Ada", "rec-2", "/media/two.wav", "SPEAKER_01", 12.0),),
)  # fmt: skip
STATUS = r.Status(
    "v3", "speakers_v3", ("v3", "v4"), 1, 4, 7, 1, {"v4": PROGRESS}, MIGRATION, ({"name": "work"},), ("slow disk",),
    "/data", "sqlite",
)  # fmt: skip
RECORDING = r.RecordingView("rec-1", "default", "/media/one.wav", 60.0, 12, 2, 1)


def event(done: int, **changes: Any) -> r.WorkEvent:
    """A step of long work with `done` of four recordings finished."""
    current = (r.CurrentRecording(f"rec-{done + 1}", f"/media/{done + 1}.wav", "v4", 12, 2),)
    progress = replace(PROGRESS, recordings_done=done, audio_seconds_done=1800.0 * done, errors={})
    return replace(r.WorkEvent(progress, current, 10.0, 1800.0 * done, (5.0, 9.0)), **changes)


class FakeDB:
    """Everything that `SpeakerDB` answers. `calls` is what was asked; `raises` is how verbs end."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.raises: dict[str, BaseException] = {}
        self.current: r.MigrationView | None = None
        self.gates = PASSED
        self.ready = PREFLIGHT
        self.report = WORK
        self.events_sent: Sequence[r.WorkEvent] = (event(1), event(2))
        self.during_work: Any = None
        self.refused_files: dict[str, SpeakerDBError] = {}

    def __enter__(self) -> FakeDB:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append(("close", (), {}))

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]

    def _asked(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.calls.append((name, args, kwargs))
        if name in self.raises:
            raise self.raises[name]

    def add(self, path: Any, turns: Sequence[Turn], **kwargs: Any) -> r.AddReport:
        self._asked("add", path, turns, **kwargs)
        if path.name in self.refused_files:
            raise self.refused_files[path.name]
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

    def start_migration(self, target: str, *, force: bool = False, checked: Any = None) -> r.MigrationView:
        assert checked is self.ready, "the pre-flight is made once"
        self._asked("start_migration", target, force=force)
        self.current = MIGRATION
        return MIGRATION

    def preflight(self, target: str) -> r.Preflight:
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

    def speakers(self, **kwargs: Any) -> list[r.SpeakerView]:
        self._asked("speakers", **kwargs)
        return [SPEAKER]

    def speaker(self, speaker_id: str) -> r.SpeakerView:
        self._asked("speaker", speaker_id)
        if speaker_id == "nobody":
            raise NotFound("There is no speaker nobody.", hint="See `speakerdb speakers list`.", asked="nobody")
        return SPEAKER

    def rename_speaker(self, speaker_id: str, name: str | None) -> r.SpeakerView:
        self._asked("rename_speaker", speaker_id, name)
        return SPEAKER

    def assign(self, speaker_id: str, profile_id: str | None) -> r.SpeakerView:
        self._asked("assign", speaker_id, profile_id)
        return SPEAKER

    def profiles(self, **kwargs: Any) -> list[r.ProfileView]:
        self._asked("profiles", **kwargs)
        return [PROFILE]

    def _profile(self, name: str, *args: Any, **kwargs: Any) -> r.ProfileView:
        self._asked(name, *args, **kwargs)
        return PROFILE

    def create_profile(self, name: str, *, library: str = "default") -> r.ProfileView:
        return self._profile("create_profile", name, library=library)

    def rename_profile(self, profile_id: str, name: str) -> r.ProfileView:
        return self._profile("rename_profile", profile_id, name)

    def merge_profiles(self, source_id: str, into_id: str) -> r.ProfileView:
        return self._profile("merge_profiles", source_id, into_id)

    def recordings(self, **kwargs: Any) -> list[r.RecordingView]:
        self._asked("recordings", **kwargs)
        return [RECORDING]

    def status(self) -> r.Status:
        self._asked("status")
        return STATUS

    def events(self, *, limit: int = 50) -> list[dict[str, Any]]:
        self._asked("events", limit=limit)
        return [
            {"id": 1, "at": 1_700_000_000_000_000, "kind": "started", "who": "me", "migration": 7, "data": {"to": "v4"}}
        ]

    def rebuild_index(self, generation: str) -> int:
        self._asked("rebuild_index", generation)
        return 12


@contextlib.contextmanager
def opened(db: FakeDB, seen: list[Settings], settings: Settings) -> Iterator[FakeDB]:
    """What `session.open_service` gives in tests."""
    seen.append(settings)
    with db:
        yield db
