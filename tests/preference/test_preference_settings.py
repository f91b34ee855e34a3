"""Where a preference is read from, which one counts, and that a wrong one is refused when the library is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from speakerdb.errors import ConfigurationError
from speakerdb.service import SpeakerDB
from speakerdb.settings import PreferenceSettings, Settings, load_settings


def read() -> tuple[str | None, str | None, str | None]:
    found = load_settings().preference
    return found.mode, found.version, found.fallback


def test_nothing_is_preferred_unless_said() -> None:
    assert read() == (None, None, None)


def test_the_old_names_are_read_from_the_environment_and_from_the_file_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PYANNOTE_MODE=auto # Auto-detect best embeddings\nPYANNOTE_VERSION=v4\n")
    assert read() == ("auto", "v4", None)
    monkeypatch.setenv("PYANNOTE_VERSION", "v3")
    monkeypatch.setenv("PYANNOTE_FALLBACK", "v4")
    assert read() == ("auto", "v3", "v4")


def test_our_own_names_are_stronger_and_a_file_is_weaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "speakerdb.toml"
    config.write_text('[preference]\nmode = "v3"\nfallback = "v4"\n')
    monkeypatch.setenv("SPEAKERDB_CONFIG", str(config))
    assert read() == ("v3", None, "v4")
    monkeypatch.setenv("PYANNOTE_MODE", "v4")
    assert read() == ("v4", None, "v4")
    monkeypatch.setenv("SPEAKERDB_PREFERENCE__MODE", "auto")
    assert read() == ("auto", None, "v4")


def test_an_empty_switch_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYANNOTE_VERSION", "")
    assert read() == (None, None, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"version": "v9"}, "unknown generation 'v9'"),
        ({"mode": "auto", "version": "v4", "fallback": "v9"}, "unknown generation 'v9'"),
        ({"mode": "v3", "version": "v4"}, "only one can be the one"),
        ({"fallback": "v3"}, "nothing that it is for"),
    ],
)
def test_a_wrong_one_is_refused_when_the_library_is_opened(
    open_db: Callable[..., SpeakerDB], given: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        open_db(preference=PreferenceSettings(**given))
    assert "PYANNOTE_" in caught.value.hint


def test_a_fourth_generation_needs_no_code(tmp_path: Path) -> None:
    """A generation is data: the switches take any name."""
    from speakerdb.settings import GenerationSettings
    from speakerdb.testing.factories import FakeExecutor

    new = GenerationSettings(family="spectral", model="spectral-b", dimension=8)
    settings = Settings(
        data_dir=tmp_path, serving="huge", generations={"huge": new}, preference=PreferenceSettings(mode="huge"),
        executor="inline",
    )  # fmt: skip
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        (view,) = db.preferences.views()
        assert (view.text, view.answers, view.obeyed) == ("huge", ("huge",), True)
