"""What backup, doctor, status and the support bundle say of a library on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from speakerdb.backup import back_up
from speakerdb.catalog.health import kind_of, secrets_of
from speakerdb.doctor.library import Facts, look_at_database
from speakerdb.errors import ConfigurationError
from speakerdb.reports.mending import DoctorCheck
from speakerdb.service import SpeakerDB
from speakerdb.settings import Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.testing.servers.postgres import Databases
from tests.on_postgres import Spare


@pytest.fixture
def settings(spare_databases: Spare, tmp_path: Path) -> Iterator[Settings]:
    url = spare_databases.lend()
    yield fake_settings(tmp_path / "data", database_url=url)
    spare_databases.give_back(url)


@pytest.fixture
def db(settings: Settings) -> Iterator[SpeakerDB]:
    with SpeakerDB.open(settings, executor=FakeExecutor()) as opened:
        opened.add(None, two_voices(), recording_id="r", waveform=silence(20))
        opened.work()
        yield opened


def looked_at(settings: Settings, facts: Facts) -> dict[str, DoctorCheck]:
    return {check.name: check for check in look_at_database(settings, facts)}


def test_a_doctor_looks_at_the_server(db: SpeakerDB, settings: Settings) -> None:
    facts = Facts()
    found = looked_at(settings, facts)
    assert {name: check.verdict for name, check in found.items()} == {
        "database server": "pass",
        "database safety": "pass",
        "database clients": "pass",
        "database disk": "skipped",
        "database": "pass",
        "database writable": "pass",
    }
    assert facts.live == ("v3",)
    assert facts.now is not None
    assert 0 < facts.newest <= facts.now


def test_a_doctor_says_what_keeps_the_database_from_being_used(settings: Settings, postgres: Databases) -> None:
    empty = settings.model_copy(update={"database_url": postgres.new_database()})
    assert looked_at(empty, Facts())["database"].verdict == "warn"
    away = settings.model_copy(update={"database_url": "postgresql://ann:geheim@127.0.0.1:1/x"})
    (check,) = looked_at(away, Facts()).values()
    assert check.verdict == "fail"
    assert "database_url" in check.mend
    assert "restore" not in check.mend.lower(), "a server that is away has lost nothing"
    assert "geheim" not in check.found + check.mend
    wrong = settings.model_copy(update={"database_url": "oracle://ann:geheim@127.0.0.1:1/x"})
    (check,) = looked_at(wrong, Facts()).values()
    assert check.verdict == "fail"
    assert "geheim" not in check.found + check.mend


def test_a_backup_is_the_servers_own_business_and_the_commands_are_said(db: SpeakerDB, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        back_up(db.catalog, tmp_path / "copy.db", who="me")
    for command in ("pg_dump --format=custom", "pg_restore", "speakerdb index rebuild --all"):
        assert command in caught.value.hint
    assert "psycopg" not in caught.value.hint  # PostgreSQL's own programs know no such address
    assert not (tmp_path / "copy.db").exists()


def test_a_status_names_the_database_without_its_secrets(db: SpeakerDB, settings: Settings) -> None:
    status = db.status()
    assert status.database.startswith("postgresql")
    assert status.problems == ()
    assert settings.database_url is not None
    assert not any(secret in status.database for secret in secrets_of(settings.database_url))


def test_a_support_bundle_knows_the_secrets_of_an_address() -> None:
    given = "postgresql+psycopg://ann:one@h/x?sslpassword=two&options=-c%20a%3Db"
    assert secrets_of(given) == ("one", "two")
    assert secrets_of("no address with a secret") == ("no address with a secret",)
    assert kind_of(given) == "postgresql+psycopg"
    assert kind_of("ann:geheim@h/x") == "unknown"
