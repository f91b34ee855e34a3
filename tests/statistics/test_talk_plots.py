"""Pictures of talk: from how much they are drawn, that they are the same twice, and that they name nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from speakerdb.catalog import talk
from speakerdb.core.measures import Heard
from speakerdb.errors import Conflict, InvalidInput, NotFound
from speakerdb.plots import FORMATS, PictureKind
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence
from speakerdb.types import Turn

YEAR = 365 * 86_400_000_000
KINDS: tuple[PictureKind, ...] = ("talk", "voice", "change", "overlaps")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[SpeakerDB]:
    with SpeakerDB.open(fake_settings(tmp_path / "library"), executor=FakeExecutor()) as opened:
        yield opened


@pytest.fixture
def db(empty: SpeakerDB) -> SpeakerDB:
    """Two people in six recordings, each made a year after the one before; half of them are measured."""
    people = [empty.create_profile(name).id for name in ("Ann Secret", "Bob Secret")]
    for number in range(6):
        turns = (Turn(0.0, 8.0, "A"), Turn(6.0 + number / 10, 20.0, "B"))
        ids = empty.add(None, turns, recording_id=f"secret-{number}", waveform=silence(20)).speakers
        for label, person in zip("AB", people, strict=True):
            empty.assign(ids[label], person)
        with empty.catalog.change() as tx:
            tx.exec_driver_sql(
                "UPDATE recordings SET recorded_at = ? WHERE id = ?", (number * YEAR, f"secret-{number}")
            )
            if number % 2:
                own = [Turn(turn.start, turn.end, ids[turn.speaker]) for turn in turns]
                heard = {ids["A"]: Heard(-20.0, 120.0, 100.0, 150.0), ids["B"]: Heard(-25.0, 210.0, 180.0, 260.0)}
                talk.write(tx, f"secret-{number}", 1, own, heard=heard, now=empty.catalog.now())
    empty.work()
    return empty


def words(picture: Path) -> str:
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314
    return " ".join(text.strip() for text in root.itertext() if text.strip())


def person(db: SpeakerDB) -> str:
    return next(each.id for each in db.profiles() if each.name == "Ann Secret")


@pytest.mark.parametrize(
    ("kind", "counts", "said"),
    [
        ("talk", {"people": 2, "drawn": 2}, "talk of 2 of 2 people"),
        ("voice", {"voices": 6, "drawn": 6}, "6 of 6 voices"),
        ("change", {"v3": {"voices": 10}}, "v3: 10 voices"),
        ("overlaps", {"recordings": 3, "overlaps": 3}, "3 overlaps"),
    ],
)
def test_what_they_are_drawn_from(
    db: SpeakerDB, tmp_path: Path, kind: PictureKind, counts: dict[str, int], said: str
) -> None:
    file = tmp_path / "picture.svg"
    assert db.plots.draw(kind, file).counts == counts
    assert said in words(file)
    assert db.plots.draw(kind, file, library_name="default").counts == counts


@pytest.mark.parametrize(
    ("kind", "counts", "said"),
    [
        ("talk", {"months": 6, "drawn": 6}, "6 of 6 months"),
        ("voice", {"voices": 3, "drawn": 3}, "one person, 3 of 3 voices"),
        ("change", {"v3": {"voices": 5}}, "v3: 5 voices"),
    ],
)
def test_of_one_person(db: SpeakerDB, tmp_path: Path, kind: PictureKind, counts: dict[str, int], said: str) -> None:
    file = tmp_path / "picture.svg"
    assert db.plots.draw(kind, file, profile=person(db)).counts == counts
    assert said in words(file)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_the_same_twice_and_names_nobody(db: SpeakerDB, tmp_path: Path, kind: PictureKind) -> None:
    for profile in (None, person(db)) if kind != "overlaps" else (None,):
        for form in FORMATS:
            files = [tmp_path / f"{number}.{form}" for number in range(2)]
            for file in files:
                db.plots.draw(kind, file, profile=profile)
            assert files[0].read_bytes() == files[1].read_bytes()
        assert "ecret" not in (tmp_path / "0.svg").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_drawn_from_nothing(empty: SpeakerDB, tmp_path: Path, kind: PictureKind) -> None:
    with pytest.raises(Conflict):
        empty.plots.draw(kind, tmp_path / "picture.svg")
    if kind != "overlaps":
        nobody = empty.create_profile("Nobody").id
        with pytest.raises(Conflict):
            empty.plots.draw(kind, tmp_path / "picture.svg", profile=nobody)
    assert not (tmp_path / "picture.svg").exists()


def test_a_profile_goes_with_pictures_of_people_only(db: SpeakerDB, tmp_path: Path) -> None:
    for kind in ("overlaps", "similarities", "progress", "speech"):
        with pytest.raises(InvalidInput):
            db.plots.draw(kind, tmp_path / "picture.svg", profile=person(db))
    with pytest.raises(InvalidInput):
        db.plots.draw("talk", tmp_path / "picture.svg", profile=person(db), library_name="default")
    with pytest.raises(NotFound):
        db.plots.draw("talk", tmp_path / "picture.svg", profile="nobody")
