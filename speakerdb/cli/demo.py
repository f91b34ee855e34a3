"""`speakerdb demo`: the main job on a small library of real speech, in its own folder, with a table to judge it by."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from speakerdb.cli.live import run_work
from speakerdb.cli.output import clock, table
from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import say, show_gates, show_match, show_preflight, show_work
from speakerdb.errors import SafetyStop
from speakerdb.reports import GateReport, WorkReport
from speakerdb.types import Kind

if TYPE_CHECKING:
    from speakerdb.cli.demo_library import DemoRecording
    from speakerdb.cli.demo_models import DemoModel
    from speakerdb.service import SpeakerDB
    from speakerdb.settings import Settings

MARKER = ".speakerdb-demo"
MARKER_TEXT = "Made by `speakerdb demo`, which may remove the folders `media` and `data` beside this file.\n"
OWN_FOLDERS = ("media", "data")
"""Emptied when the demo runs again. A folder `cache` beside them is kept."""
NAMES = ("Ada", "Ben")
SOURCE, TARGET = "v3", "v4"


@dataclass
class Score:
    """How many speakers were matched first to the same voice in another recording."""

    moment: str
    generation: str
    matched: int
    speakers: int


@dataclass
class Story:
    """What the demo did; becomes the table at the end and the JSON document."""

    models: dict[str, str]
    stand_ins: list[str]
    recordings: int = 0
    speakers: int = 0
    voices: int = 0
    audio_seconds: float = 0.0
    scores: list[Score] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    gates: dict[str, GateReport | None] = field(default_factory=dict)
    reused: int = 0
    """Speakers whose v4 embedding the second migration found in SQL and did not extract again."""
    names_kept: bool = True
    engines: dict[str, str] = field(default_factory=dict)
    """Where the database and the index are."""


def prepare(folder: Path) -> None:
    """Make the demo's folder, or empty what an earlier demo left in it. `SafetyStop` for any other folder."""
    if folder.exists() and not folder.is_dir():
        raise SafetyStop(f"{folder} is a file.", hint="Give `--dir` a folder that does not exist yet.")
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()) and not marker.is_file():
        raise SafetyStop(
            f"{folder} holds files that no demo made; nothing was touched.",
            hint="Give `--dir` a folder that does not exist yet.",
        )
    own = [folder / name for name in OWN_FOLDERS]
    for path in own:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise SafetyStop(
                f"{path} is a link or a file; nothing was removed.", hint="Remove it, or give another `--dir`."
            )
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(MARKER_TEXT, encoding="utf-8")
    for path in own:
        if path.exists():
            shutil.rmtree(path)
        path.mkdir()


def demo_settings(
    folder: Path, models: dict[str, DemoModel], device: str, servers: dict[str, Any] | None = None
) -> Settings:
    """Settings of the demo alone: the user's own settings must not lead it to the user's own library.

    `servers` are those of the user's that name servers, where he wants the demo to run on them.
    """
    from speakerdb.settings import Settings

    # Built without reading variables, `.env` or a settings file.
    return Settings.model_construct(
        data_dir=folder / "data",
        media_roots=(folder / "media",),
        serving=SOURCE,
        generations={name: model.settings for name, model in models.items()},
        device=device,
        disk_floor_mb=64,
        **servers or {},
    )


class Demo:
    """The story, step by step."""

    def __init__(self, session: Session, db: SpeakerDB, library: Sequence[DemoRecording], story: Story) -> None:
        self.session = session
        self.db = db
        self.library = library
        self.story = story
        self.voice: dict[str, str] = {}
        """Which voice each speaker id is: the known truth."""
        self.example = ""
        self.number = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A heading, and the time it took."""
        self.number += 1
        self.session.show(lambda console: say(console, f"\n{self.number}. {title}"))
        began = perf_counter()
        yield
        self.story.steps[title] = perf_counter() - began

    def say(self, text: str) -> None:
        self.session.show(lambda console: say(console, text))

    def work(self, *, limit: int | None = None) -> WorkReport:
        report, exit_code = run_work(
            self.session,
            self.db,
            again="It has nothing to continue: run `speakerdb demo` again to see all of it.",
            limit=limit,
        )
        self.session.show(lambda console: show_work(console, report))
        self.story.models.update(report.models)
        if exit_code:
            raise typer.Exit(exit_code)
        return report

    def fill(self) -> None:
        """Add the recordings, name two voices, and make a profile of each."""
        story = self.story
        by_voice: dict[str, list[str]] = {}
        for recording in self.library:
            added = self.db.add(recording.path, recording.turns)
            for label, speaker_id in added.speakers.items():
                self.voice[speaker_id] = recording.voices[label]
                by_voice.setdefault(recording.voices[label], []).append(speaker_id)
        story.recordings, story.speakers, story.voices = len(self.library), len(self.voice), len(by_voice)
        story.audio_seconds = sum(r.seconds for r in self.library)
        # The voices as they were recorded are the ones that get a name: those in the middle of the speeds.
        voices = list(by_voice)
        middle = len(voices) // 2 - 1
        for name, voice in zip(NAMES, voices[middle : middle + len(NAMES)], strict=False):
            profile = self.db.create_profile(name)
            for speaker_id in by_voice[voice]:
                self.db.rename_speaker(speaker_id, name)
                self.db.assign(speaker_id, profile.id)
                self.example = self.example or speaker_id
            self.say(f"{voice} is {name}, in {len(by_voice[voice])} recordings.")

    def judge(self, moment: str) -> None:
        """Match every speaker against the other recordings and count; show one answer in full."""
        ids = [s.id for s in self.db.speakers()]
        results = self.db.match_many(ids, k=1)
        matched = sum(
            bool(r.matches) and self.voice[r.matches[0].id] == self.voice[i] for i, r in zip(ids, results, strict=True)
        )
        score = Score(moment, results[0].generation, matched, len(ids))
        self.story.scores.append(score)
        shown = self.db.match(speaker=self.example, k=3)
        self.session.show(lambda console: show_match(console, shown))
        self.say(
            f"{moment}: {matched} of {len(ids)} speakers matched first to the same voice in another recording"
            f" ({score.generation})."
        )
        named = self.db.speaker(self.example)
        self.story.names_kept &= named.name == NAMES[0] and named.profile_name == NAMES[0]

    def finalize(self, key: str) -> None:
        swap = self.db.finalize()
        self.story.gates[key] = swap.gates
        if swap.gates is not None:
            gates = swap.gates
            self.session.show(lambda console: show_gates(console, gates))
        self.say(f"{swap.serving} serves now; writers waited {swap.fence_seconds:.2f} s.")

    def embedded(self) -> int:
        return self.db.progress(TARGET).speakers_embedded

    def run(self) -> None:
        """Everything, in order."""
        with self.step("Add the recordings, name two voices"):
            self.fill()
        with self.step(f"Extract {SOURCE}"):
            self.work()
        with self.step(f"Match in {SOURCE}"):
            self.judge("before the migration")
        with self.step(f"Start the migration to {TARGET}"):
            preflight = self.db.preflight(TARGET)
            self.session.show(lambda console: show_preflight(console, preflight))
            self.db.start_migration(TARGET, checked=preflight)
            self.work(limit=max(1, len(self.library) // 3))
        with self.step("Match while it runs"):
            self.judge("during the migration")
        with self.step("Work through the rest"):
            self.work()
        with self.step("Gates and swap"):
            self.finalize("first")
        with self.step(f"Match in {TARGET}"):
            self.judge("after the swap")
            profile = self.db.speaker(self.example).profile_id
            people = self.db.match(profile=profile, kind=Kind.SPEAKER, k=3, same_recording=True)
            self.session.show(lambda console: show_match(console, people))
        with self.step("Roll back"):
            back = self.db.rollback()
            self.say(f"{back.serving} serves again; it lacks {back.source_lag} speakers.")
            self.judge("after the roll-back")
        with self.step("Migrate again and swap"):
            had = self.embedded()
            self.db.start_migration(TARGET)
            again = self.work()
            self.story.reused = had - again.speakers_embedded
            self.say(f"{self.story.reused} of {had} embeddings were reused.")
            self.finalize("second")
            self.judge("at the end")


def show_story(console: Console, story: Story) -> None:
    """The table a person can judge."""
    say(console, "")
    say(
        console,
        f"{story.recordings} recordings, {clock(story.audio_seconds)} of speech of {story.voices} voices"
        f" ({story.speakers} speakers); each voice is in two recordings with different words.",
    )
    rows = [
        (s.moment, s.generation, s.speakers, f"{s.matched} ({s.matched / max(1, s.speakers):.0%})")
        for s in story.scores
    ]
    console.print(
        table(("matches", "generation", "speakers", "same voice first"), rows, right=("speakers", "same voice first"))
    )
    seconds = [(name, f"{value:.1f}") for name, value in story.steps.items()]
    total = ("all together", f"{sum(story.steps.values()):.1f}")
    console.print(table(("step", "seconds"), [*seconds, total], right=("seconds",)))
    for name, what in (*story.engines.items(), *sorted(story.models.items())):
        say(console, f"{name}: {what}")
    kept = "kept through all of it" if story.names_kept else "LOST, which is a bug"
    say(console, f"Names and profiles: {kept}. Embeddings reused by the second migration: {story.reused}.")
    if story.stand_ins:
        names = " and ".join(story.stand_ins)
        say(console, f"The models of {names} are stand-ins: the real model classes with small weights made for this")
        say(
            console,
            "project's tests. These figures show that the job works; they say nothing about WeSpeaker's quality.",
        )


def demo(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Option("--dir", help="The demo's own folder; it writes nowhere else.")] = Path(
        ".demo"
    ),
    models: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the stand-in checkpoints are.")] = None,
    v3_model: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A checkpoint of pyannote/embedding to use.")
    ] = None,
    v4_model: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A checkpoint of WeSpeaker ResNet34-LM to use.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    servers: Annotated[
        bool,
        typer.Option(
            "--servers", help="On the PostgreSQL and the OpenSearch that the settings name; both must be unused."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the main job on real speech: store v3, migrate to v4, match, roll back, migrate again.

    Uses the published models where HF_TOKEN is set and the hub answers, or where they are given; else stand-ins.
    """
    session = Session.of(ctx, as_json)
    from speakerdb.cli.demo_library import build_library
    from speakerdb.cli.demo_models import choose_models
    from speakerdb.cli.demo_servers import engines, refuse_used, server_settings
    from speakerdb.cli.session import open_service

    folder = folder.absolute()
    # For the workers. Two threads of one small model wait for each other longer than they compute where other programs run
    # too; and matplotlib, which pyannote.audio imports, would keep its list of fonts in the user's home.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["MPLCONFIGDIR"] = str(folder / "cache")
    named = server_settings(session.settings()) if servers else None
    chosen = choose_models({SOURCE: v3_model, TARGET: v4_model}, models)
    settings = demo_settings(folder, chosen, device, named)
    if servers:
        refuse_used(settings)
    prepare(folder)
    story = Story({n: m.line for n, m in chosen.items()}, [n for n, m in sorted(chosen.items()) if m.stand_in])
    story.engines = engines(settings)
    also = " and into these two servers" if servers else ""
    intro = [f"speakerdb's main job on real speech. Everything is written into {folder}{also}."]
    intro += [f"{name}: {where}" for name, where in story.engines.items()]
    intro += [f"{name}: {line}" for name, line in sorted(story.models.items())]
    session.show(lambda console: say(console, "\n".join(intro)))
    began = perf_counter()
    library = build_library(folder / "media")
    story.steps["Cut and speed up the sample recording"] = perf_counter() - began
    with open_service(settings) as db:
        Demo(session, db, library, story).run()
    session.result(story, show_story)
