"""The demo on a real PostgreSQL and a real OpenSearch: a small one, and that it leaves what others have there alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from speakerdb.cli.demo import Demo, Story, demo_settings, show_story
from speakerdb.cli.demo_library import build_library
from speakerdb.cli.demo_models import DemoModel
from speakerdb.cli.demo_servers import PREFIX, engines, refuse_used, server_settings
from speakerdb.cli.output import console_for
from speakerdb.cli.session import Session
from speakerdb.errors import ConfigurationError, SafetyStop
from speakerdb.index.opening import open_index
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings, OpenSearchSettings, Settings
from speakerdb.testing.servers import given
from speakerdb.testing.servers.opensearch import OpenSearch
from speakerdb.testing.servers.postgres import Databases
from tests.cli.conftest import CommandLine

MODELS = {
    name: DemoModel(
        GenerationSettings(family="spectral", model=f"spectral-{kind}", dimension=32), "made-up", stand_in=True
    )
    for name, kind in (("v3", "a"), ("v4", "b"))
}


@pytest.fixture
def settings(tmp_path: Path, postgres: Databases, opensearch: OpenSearch, opensearch_prefix: str) -> Settings:
    """The demo's, on servers that nobody has used."""
    search = OpenSearchSettings(hosts=(opensearch.url,), prefix=opensearch_prefix, replicas=0)
    user = Settings(data_dir=tmp_path / "own", database_url=postgres.new_database(), opensearch=search)
    for name in ("data", "media"):
        (tmp_path / "demo" / name).mkdir(parents=True)
    made = demo_settings(tmp_path / "demo", MODELS, "cpu", server_settings(user))
    return made.model_copy(update={"executor": "inline"})


def test_the_demo_runs_on_real_servers_and_says_so(settings: Settings, tmp_path: Path) -> None:
    refuse_used(settings)
    shown = io.StringIO()
    story = Story(dict.fromkeys(MODELS, "made-up"), list(MODELS), engines=engines(settings))
    library = build_library(tmp_path / "demo" / "media", speeds=(1.0,))
    with SpeakerDB.open(settings) as db:
        Demo(Session(shown), db, library, story).run()
        assert set(db.index.indices()) == {"speakers_v3", "speakers_v4"}
        show_story(console_for(shown), story)
    assert [score.generation for score in story.scores] == ["v3", "v3", "v4", "v3", "v4"]
    assert story.names_kept
    assert story.reused == story.speakers == 4
    assert not list((tmp_path / "demo" / "data").glob("*.db*")), "neither SQLite nor the embedded index"
    assert "postgresql" in shown.getvalue()
    assert settings.opensearch.hosts[0] in shown.getvalue()
    password = settings.catalog_url.partition("//")[2].partition("@")[0].partition(":")[2]
    assert not password or password not in shown.getvalue()

    with pytest.raises(SafetyStop, match="database"):
        refuse_used(settings)


def test_indices_of_others_are_left_alone(settings: Settings) -> None:
    with closing(open_index(settings)) as index:
        index.create("speakers_v3", 4, {})
        with pytest.raises(SafetyStop, match="begin with"):
            refuse_used(settings)
        assert list(index.indices()) == ["speakers_v3"]


def test_servers_must_be_named(tmp_path: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("demo", "--servers", "--dir", tmp_path / "demo").exit_code == ConfigurationError.exit_code
    assert not (tmp_path / "demo").exists()
    monkeypatch.setenv("SPEAKERDB_DATABASE_URL", "postgresql://127.0.0.1/voices")
    assert cli("demo", "--servers", "--dir", tmp_path / "demo").exit_code == ConfigurationError.exit_code


def test_the_demo_has_a_prefix_of_its_own() -> None:
    named = Settings(database_url="postgresql://127.0.0.1/voices", opensearch=OpenSearchSettings(hosts=("http://a",)))
    assert server_settings(named)["opensearch"].prefix == PREFIX


def test_a_command_runs_on_servers_that_end_with_it(
    postgres: Databases, opensearch: OpenSearch, tmp_path: Path
) -> None:
    """Here on those that stand already, which is what an address in the environment means."""
    script = (
        "import json, os, sys; json.dump({k: v for k, v in os.environ.items() if k.startswith('SPEAKERDB_')}, sys.stdout);"
        " sys.exit(7)"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "speakerdb.testing.servers", "run", "--", sys.executable, "-c", script],
        env={**os.environ, given.POSTGRES: postgres.url, given.OPENSEARCH: opensearch.url},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 7, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    assert told["SPEAKERDB_DATABASE_URL"].startswith("postgresql+psycopg://")
    assert told["SPEAKERDB_OPENSEARCH__HOSTS"] == opensearch.url
    assert told.keys().isdisjoint(given.NAMES)


def test_the_make_target_wraps_the_demo_into_its_servers(repository: Path) -> None:
    ran = subprocess.run(
        ["make", "-n", "demo", "BACKEND=servers"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "speakerdb.testing.servers run -- " in ran.stdout
    assert "speakerdb demo --dir .demo --servers" in ran.stdout
