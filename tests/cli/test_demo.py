"""The demo's parts: its library with known voices, its folder, its models, and that it judges by the truth."""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cli_fake
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.cli import demo_library as library
from speakerdb.cli.demo import MARKER, Demo, Story, demo_settings, prepare, show_story
from speakerdb.cli.demo_models import CHECKPOINT_FILE, DemoModel, choose_models
from speakerdb.cli.output import console_for
from speakerdb.cli.session import Session
from speakerdb.errors import ConfigurationError, MediaUnreadable, ModelUnavailable, SafetyStop
from speakerdb.generations import V3, V4
from speakerdb.settings import GenerationSettings
from speakerdb.types import Span, Turn, Waveform
from tests.cli.conftest import CommandLine

RATE = 16_000


@pytest.mark.parametrize("speed", [0.64, 1.0, 1.5625])
def test_speed_moves_pitch_and_tempo_together(speed: float) -> None:
    seconds = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    played = library.at_speed(tone, speed)
    assert played.size == round(RATE / speed)
    expected = np.sin(2 * np.pi * 440 * speed * np.arange(played.size) / RATE)
    middle = slice(played.size // 4, -played.size // 4)
    np.testing.assert_allclose(played[middle], expected[middle], atol=0.02)


def test_a_faster_voice_has_nothing_folded_back() -> None:
    """What would lie above half the sample rate is gone, not mirrored into the voice."""
    high = np.sin(2 * np.pi * 7000 * np.arange(RATE) / RATE).astype(np.float32)
    assert np.abs(library.at_speed(high, 1.25)).max() < 0.05


def test_a_wav_file_comes_back_as_it_was(tmp_path: Path) -> None:
    samples = (np.random.default_rng(3).integers(-32768, 32768, 1000) / 32768).astype(np.float32)
    library.write_wav(tmp_path / "a.wav", Waveform(samples, RATE))
    back = library.read_wav(tmp_path / "a.wav")
    assert back.sample_rate == RATE
    np.testing.assert_array_equal(back.samples, samples)


def test_what_is_no_wav_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    with pytest.raises(MediaUnreadable):
        library.read_wav(tmp_path / "a.wav")


def test_the_cut_is_in_a_pause_with_speech_of_all_on_both_sides() -> None:
    turns = [Turn(0, 1, "A"), Turn(2, 6, "A"), Turn(3, 9, "B"), Turn(10, 14, "A"), Turn(13, 19, "B"), Turn(20, 21, "A")]
    assert library.best_cut(turns) == 9.5


def test_without_a_pause_there_is_no_cut() -> None:
    with pytest.raises(MediaUnreadable):
        library.best_cut([Turn(0, 5, "A"), Turn(4, 9, "B")])


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 9), st.sampled_from("AB")), max_size=12),
    st.floats(0, 30),
    st.floats(1, 30),
    st.floats(0.5, 2),
)
def test_turns_of_a_piece_are_cut_and_scaled_exactly(
    raw: list[tuple[float, float, str]], start: float, length: float, factor: float
) -> None:
    turns = [Turn(s, s + d, who) for s, d, who in raw]
    part = Span(start, start + length)
    mine = library.piece(turns, part, factor)
    for who in "AB":
        kept = sum((t.end - t.start) * factor for t in mine if t.speaker == who)
        inside = sum(max(0.0, min(t.end, part.end) - max(t.start, part.start)) for t in turns if t.speaker == who)
        assert kept == pytest.approx(inside, abs=1e-6)
    for turn in mine:
        assert 0 <= turn.start < turn.end <= length / factor + 1e-9


def test_the_library_has_every_voice_twice_with_other_words(tmp_path: Path) -> None:
    recordings = library.build_library(tmp_path)
    assert len(recordings) >= 6
    voices = Counter(v for r in recordings for v in r.voices.values())
    assert set(voices.values()) == {2}
    assert all(len(r.voices) == 2 for r in recordings)
    contents = set()
    for recording in recordings:
        sound = library.read_wav(recording.path)
        assert sound.samples.size / sound.sample_rate == pytest.approx(recording.seconds)
        assert np.abs(sound.samples).max() > 0.05
        assert {t.speaker for t in recording.turns} == set(recording.voices)
        assert all(0 <= t.start < t.end <= recording.seconds + 1e-6 for t in recording.turns)
        contents.add(hashlib.sha256(recording.path.read_bytes()).hexdigest())
    assert len(contents) == len(recordings)


def test_turns_of_the_library_lie_on_speech(tmp_path: Path) -> None:
    """Where a turn is, there is more energy than where none is: cutting and scaling kept them together."""
    for recording in library.build_library(tmp_path, (0.8, 1.25)):
        samples = library.read_wav(recording.path).samples
        talked = np.zeros(samples.size, dtype=bool)
        for turn in recording.turns:
            talked[int(turn.start * RATE) : int(turn.end * RATE)] = True
        if (~talked).sum() > RATE // 4:
            assert np.square(samples[talked]).mean() > 3 * np.square(samples[~talked]).mean()


def test_the_folder_is_made_and_emptied_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "demo"
    prepare(folder)
    (folder / "data" / "catalog.db").write_text("old")
    (folder / "mine.txt").write_text("a file of the user's")
    prepare(folder)
    assert not list((folder / "data").iterdir())
    assert (folder / "mine.txt").exists()


@pytest.mark.parametrize("kind", ["foreign", "file", "link"])
def test_what_no_demo_made_is_left_alone(kind: str, tmp_path: Path, cli: CommandLine) -> None:
    folder, treasure = tmp_path / "photos", tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "photo.jpg").write_text("dear")
    if kind == "file":
        folder.write_text("dear")
    else:
        folder.mkdir()
        (folder / "data").symlink_to(treasure) if kind == "link" else (folder / "photo.jpg").write_text("dear")
        if kind == "link":
            (folder / MARKER).write_text("")
    before = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else folder.read_text()
    with pytest.raises(SafetyStop):
        prepare(folder)
    assert before == (sorted(p.name for p in folder.iterdir()) if folder.is_dir() else folder.read_text())
    assert (treasure / "photo.jpg").exists()
    assert cli("demo", "--dir", folder, "--models", _stand_ins(tmp_path)).exit_code == SafetyStop.exit_code


def _stand_ins(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    for name in ("standin-xvector-sincnet", "standin-wespeaker-resnet34"):
        (models / name).mkdir(parents=True, exist_ok=True)
        (models / name / CHECKPOINT_FILE).write_bytes(b"not read here")
    return models


def test_the_demo_never_reads_the_users_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEAKERDB_DATABASE_URL", "postgresql://production/voices")
    monkeypatch.setenv("SPEAKERDB_SERVING", "v9")
    (tmp_path / "speakerdb.toml").write_text('database_url = "postgresql://production/voices"\n')
    (tmp_path / ".env").write_text("SPEAKERDB_DATABASE_URL=postgresql://production/voices\n")
    monkeypatch.chdir(tmp_path)
    model = DemoModel(GenerationSettings(model="m", sha256="0" * 64), "m", stand_in=True)
    settings = demo_settings(tmp_path / "demo", {"v3": model, "v4": model}, "cpu")
    assert settings.catalog_url == f"sqlite:///{tmp_path / 'demo' / 'data' / 'catalog.db'}"
    assert settings.serving == "v3"
    assert settings.media_roots == (tmp_path / "demo" / "media",)
    assert settings.known_generations()["v4"].model.sha256 == "0" * 64
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301


def test_stand_ins_are_pinned_and_called_stand_ins(tmp_path: Path) -> None:
    chosen = choose_models({"v3": None, "v4": None}, _stand_ins(tmp_path))
    for name, base in (("v3", V3), ("v4", V4)):
        assert chosen[name].stand_in
        assert "stand-in" in chosen[name].line
        generation = chosen[name].settings.applied_to(base, name)
        assert generation.model.sha256
        assert generation.model.architecture == base.model.architecture
        assert generation.dimension == base.dimension


def test_without_stand_ins_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="stand-in"):
        choose_models({"v3": None, "v4": None}, tmp_path)


def test_a_given_checkpoint_is_pinned_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine" / CHECKPOINT_FILE
    file.parent.mkdir()
    file.write_bytes(b"weights")
    for path in (file, file.parent):
        chosen = choose_models({"v3": path, "v4": None}, _stand_ins(tmp_path))
        assert not chosen["v3"].stand_in
        assert chosen["v4"].stand_in
        model = chosen["v3"].settings.applied_to(V3, "v3").model
        assert model.sha256 == hashlib.sha256(b"weights").hexdigest()
        assert model.sources == (str(path),)
        assert model.id != V3.model.id


def test_a_given_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable):
        choose_models({"v3": tmp_path / "nowhere", "v4": None}, _stand_ins(tmp_path))


def test_with_a_token_but_no_hub_it_falls_back_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    def refuse(*_: Any, **__: Any) -> Any:
        raise ModelUnavailable("The hub does not answer.")

    monkeypatch.setattr("speakerdb.cli.demo_models.load_embedder", refuse)
    chosen = choose_models({"v3": None, "v4": None}, _stand_ins(tmp_path))
    assert all(m.stand_in and "The hub does not answer." in m.line for m in chosen.values())


class Judged(cli_fake.FakeDB):
    """Four speakers of two voices; `answers` says who is matched first to whom."""

    answers: dict[str, str | None]

    def speakers(self, **_: Any) -> Any:
        return [replace(cli_fake.SPEAKER, id=i) for i in self.answers]

    def speaker(self, speaker_id: str) -> Any:
        return replace(cli_fake.SPEAKER, id=speaker_id, name="Ada", profile_name="Ada")

    def match_many(self, ids: Any, *, k: int) -> Any:
        found = [self.answers[i] for i in ids]
        first = cli_fake.MATCH.matches[0]
        return [replace(cli_fake.MATCH, matches=(replace(first, id=f),) if f else ()) for f in found]


@pytest.mark.parametrize(
    ("answers", "matched"),
    [
        ({"a1": "a2", "a2": "a1", "b1": "b2", "b2": "b1"}, 4),
        ({"a1": "b1", "a2": "a1", "b1": "a2", "b2": None}, 1),
    ],
)
def test_matches_are_judged_by_who_is_who(answers: dict[str, str | None], matched: int) -> None:
    db = Judged()
    db.answers = answers
    session = Session(io.StringIO())
    demo = Demo(session, db, [], Story({}, []))  # type: ignore[arg-type]
    demo.voice = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}
    demo.example = "a1"
    demo.judge("now")
    (score,) = demo.story.scores
    assert (score.matched, score.speakers, score.generation) == (matched, 4, "v3")
    assert demo.story.names_kept


def test_the_table_says_what_the_models_were() -> None:
    shown = io.StringIO()
    show_story(console_for(shown), Story({"v3": "a small thing", "v4": "another"}, ["v3", "v4"]))
    assert "stand-ins" in shown.getvalue()
    assert "a small thing" in shown.getvalue()
    shown = io.StringIO()
    show_story(console_for(shown), Story({"v3": "the real one"}, []))
    assert "stand-in" not in shown.getvalue()


def test_finding_the_sample_imports_no_torch() -> None:
    import subprocess

    code = (
        "import sys; from speakerdb.cli.demo_library import sample_files; sample_files();"
        " sys.exit({'torch', 'pyannote.audio'} & set(sys.modules) != set())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
