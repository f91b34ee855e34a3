"""Pictures: what they show, from how much, and that they are the same twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from seeing_kit import CommandLine, Failing, add

from speakerdb.cli.plot import PlotKind
from speakerdb.errors import Conflict, MediaUnreadable, NotFound
from speakerdb.plots import FORMATS, PictureKind
from speakerdb.plots import library as plots
from speakerdb.plots.library import KINDS, _some_pairs
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence
from speakerdb.types import Embedding, Turn

Open = Callable[..., SpeakerDB]


def words(picture: Path) -> str:
    """All text of an SVG picture."""
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314
    return " ".join(text.strip() for text in root.itertext() if text.strip())


@pytest.fixture
def people(db: SpeakerDB, answer: Failing) -> SpeakerDB:
    """Two people with three voices each, one with one; a recording that fails; both generations extracted."""
    persons = [db.create_profile(name).id for name in ("Ann Secret", "Bob Secret", "Cy Secret")]
    for number in range(7):
        speakers = add(db, f"secret-{number}", seconds=8.0 + 5 * number).speakers
        db.assign(speakers["SPEAKER_00"], persons[2 if number == 6 else number % 2])
    short = add(db, "secret-short", (Turn(0.0, 0.5, "A"),)).speakers["A"]
    db.assign(short, persons[0])
    answer.errors["broken"] = MediaUnreadable("broken")
    add(db, "broken")
    db.work()
    db.start_migration("v4", force=True)
    db.work()
    return db


def test_similarities_of_every_generation_with_their_thresholds(people: SpeakerDB, tmp_path: Path) -> None:
    file = tmp_path / "similarities.svg"
    drawn = people.plots.draw("similarities", file)
    # 3 pairs of each of two people; 21 pairs of 7 voices in all.
    expected = {"speakers": 7, "same": 6, "different": 15}
    assert drawn.counts == {"v3": expected, "v4": expected}
    text = words(file)
    for part in ("v3: cosine", "v4: cosine", "same profile (6 pairs)", "different profiles (15 pairs)",
                 "accept at 0.75", "candidate at 0.5"):  # fmt: skip
        assert part in text


def test_cosines_are_those_of_the_stored_vectors(people: SpeakerDB) -> None:
    from speakerdb.catalog import vectors

    with people.catalog.read() as tx:
        same, different, _ = plots._cosines(tx, "v3", None)
        members = {
            profile.id: [view.id for view in people.speakers(profile=profile.id)] for profile in people.profiles()
        }
        every = [one for listed in members.values() for one in listed]
        known = vectors.embeddings_of(tx, "v3", every)
        every = [one for one in every if isinstance(known[one].result, Embedding)]
    owner = {one: profile for profile, listed in members.items() for one in listed}
    expected: dict[bool, list[float]] = {True: [], False: []}
    for a, b in combinations(every, 2):
        cosine = float(known[a].result.vector @ known[b].result.vector)  # type: ignore[union-attr]
        expected[owner[a] == owner[b]].append(cosine)
    assert np.allclose(sorted(same), sorted(expected[True]), atol=1e-5)
    assert np.allclose(sorted(different), sorted(expected[False]), atol=1e-5)


def test_pairs_are_all_or_a_sample_and_none_twice() -> None:
    assert [tuple(pair) for pair in _some_pairs(4)] == list(combinations(range(4), 2))
    assert _some_pairs(1).shape == _some_pairs(0).shape == (0, 2)
    many = _some_pairs(5000)
    assert plots.PAIRS * 0.9 < len(many) <= plots.PAIRS
    assert len({tuple(pair) for pair in many.tolist()}) == len(many)
    assert (many[:, 0] < many[:, 1]).all()


def test_no_more_than_a_sample_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "PROFILES", 5)
    monkeypatch.setattr(plots, "MEMBERS", 3)
    rows = [
        (f"p{profile:03}", f"s{profile:03}-{voice:03}") for profile in range(90) for voice in range(1 + profile % 20)
    ]
    chosen = plots._chosen(iter(rows))
    assert len(chosen) == 10, "five with several voices, five with one"
    assert max(map(len, chosen.values())) == 3
    assert all((profile, voice) in rows for profile, voices in chosen.items() for voice in voices)
    assert chosen == plots._chosen(iter(rows)), "the seed is fixed"


def test_progress_counts_what_was_done_and_what_failed(people: SpeakerDB, tmp_path: Path) -> None:
    file = tmp_path / "progress.svg"
    counts = {"done": 8, "failed": 1}
    assert people.plots.draw("progress", file).counts == {"v3": counts, "v4": counts}
    text = words(file)
    for part in ("v3 done (8)", "v3 failed (1)", "v4 done (8)", "v4 failed (1)", "time (UTC)"):
        assert part in text


def test_speech_against_what_the_recipe_asks_for(people: SpeakerDB, tmp_path: Path) -> None:
    file = tmp_path / "speech.svg"
    assert people.plots.draw("speech", file).counts == {"speakers": 17}
    text = words(file)
    for part in ("17 speakers", "least that is embedded: 1 s", "enough to accept: 6 s", "most that is used: 30 s"):
        assert part in text


@pytest.mark.parametrize("kind", KINDS[:3])  # those of talk have tests of their own
def test_a_picture_is_the_same_twice_and_names_nobody(people: SpeakerDB, tmp_path: Path, kind: PictureKind) -> None:
    for form in FORMATS:
        files = [tmp_path / f"{number}.{form}" for number in range(2)]
        for file in files:
            people.plots.draw(kind, file)
        assert files[0].read_bytes() == files[1].read_bytes()
        assert files[0].read_bytes()[:4] in (b"<?xm", b"%PDF", b"\x89PNG")
    assert "ecret" not in (tmp_path / "0.svg").read_text()
    assert sorted(path.suffix for path in tmp_path.glob("*.*")) == sorted([".svg", ".png", ".pdf"] * 2)


def test_a_library_alone(people: SpeakerDB, tmp_path: Path) -> None:
    people.add(None, (Turn(0.0, 5.0, "A"),), recording_id="x", library="other", waveform=silence(5))
    assert people.plots.draw("speech", tmp_path / "a.svg", library_name="other").counts == {"speakers": 1}
    assert people.plots.draw("speech", tmp_path / "a.svg").counts == {"speakers": 18}
    with pytest.raises(Conflict):
        people.plots.draw("progress", tmp_path / "b.svg", library_name="other")
    with pytest.raises(Conflict):
        people.plots.draw("similarities", tmp_path / "b.svg", library_name="other")
    with pytest.raises(NotFound):
        people.plots.draw("speech", tmp_path / "b.svg", library_name="nobody's")
    assert not (tmp_path / "b.svg").exists()


def test_too_little_says_what_is_missing(db: SpeakerDB, tmp_path: Path) -> None:
    file = tmp_path / "x.svg"
    with pytest.raises(Conflict, match="no speaker yet"):
        db.plots.draw("speech", file)
    with pytest.raises(Conflict, match="Nothing was extracted"):
        db.plots.draw("progress", file)
    with pytest.raises(Conflict, match="no voice that is in a profile"):
        db.plots.draw("similarities", file)
    speakers = add(db, "a").speakers
    db.assign(speakers["SPEAKER_00"], db.create_profile("Ann").id)
    db.work()
    with pytest.raises(Conflict, match="v3 has 0 pairs of one profile and 0 of two"):
        db.plots.draw("similarities", file)
    assert list(tmp_path.glob("*.svg")) == []


def test_the_door(cli: CommandLine, people: SpeakerDB, tmp_path: Path) -> None:
    assert {kind.value for kind in PlotKind} == set(KINDS)
    people.close()
    ran = cli("plot", "speech")
    assert (ran.exit_code, ran.out) == (0, "speech drawn into speech.svg\n")
    assert (tmp_path / "speech.svg").exists()
    drawn = cli("plot", "progress", "--out", tmp_path / "p.PNG", "--json").json
    assert set(drawn) == {"kind", "path", "counts"}
    for out in ("notes.txt", "noending", "nowhere/p.svg"):
        refused = cli("plot", "speech", "--out", out, "--json")
        assert (refused.exit_code, refused.json["error"]["code"]) == (4, "invalid-input"), out
    assert cli("plot", "voices").exit_code == 2


def test_drawing_leaves_no_pyplot_behind_and_nothing_draws_unasked(repository: Path) -> None:
    code = (
        "import sys, speakerdb.service; assert 'matplotlib' not in sys.modules;"
        "from speakerdb.plots.drawing import Drawing, save; from pathlib import Path; import tempfile\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    save(Drawing(lambda figure: figure.subplots(), (2.0, 2.0), {}), Path(folder) / 'x.svg', 'svg')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=repository)
    assert done.returncode == 0, done.stderr
