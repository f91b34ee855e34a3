"""`support-bundle`: nothing private gets into it, whatever the library holds, and it works where nothing else does."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from speakerdb import __version__, support
from speakerdb.cli.main import app, main
from speakerdb.cli.support import _verbs
from speakerdb.core.redaction import Redactor, without_secrets
from speakerdb.doctor import machine
from speakerdb.errors import InvalidInput, SpeakerDBError
from speakerdb.reports.mending import DoctorCheck, DoctorReport
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings, OpenSearchSettings, Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, two_voices
from tests.audio_files import write

TOKEN = "hf_ThisMustNotBeSeenAnywhere"  # noqa: S105 - made up
NAMES = ("Ada Lovelace", "jane", "Ünal Öztürk", "李小龍", "work", "O'Brien <x>", "a=b exit=0", "Zoë Retired")
NAME_PARTS = (
    "Lovelace",
    "jane",
    "Öztürk",
    "李小龍",
    "Brien",
    "Zoë",
    "secret folder",
    "holiday tape",
    "box-17",
    "Doe",
    "pw-9931",
)


class Library:
    """A library full of what must not be told, and its settings in the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "secret folder of jane"
        self.folder.mkdir()
        self.settings = fake_settings(self.folder / "data", who="Jane Doe", disk_floor_mb=0)
        sound = write(
            self.folder / "holiday tape of Lovelace.wav",
            0.1 * np.sin(np.arange(16000 * 20) / 9), 16000, codec="pcm_s16le",
        )  # fmt: skip
        with SpeakerDB.open(self.settings, executor=FakeExecutor()) as db:
            added = db.add(sound, two_voices(), recording_id="box-17 of jane", library="Doe family")
            speaker = next(iter(added.speakers.values()))
            for name in NAMES:
                db.rename_speaker(speaker, name)
                db.create_profile(name)
            db.work()
            db.start_migration("v4", force=True)
            db.pause("Jane Doe said so, pw-9931")

    def log(self, *lines: str) -> None:
        with (self.settings.data_dir / "speakerdb.log").open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def collected(library: Library, **more: Any) -> dict[str, bytes]:
    verbs = tuple(_verbs(_group()))
    report = DoctorReport.of(
        (
            DoctorCheck("settings", "pass", f"read; the data folder is {library.settings.data_dir}"),
            DoctorCheck(
                "media", "warn", f"{library.folder}/holiday tape of Lovelace.wav is not there", f"token {TOKEN}"
            ),
        )
    )
    with SpeakerDB.open(library.settings, executor=FakeExecutor()) as db:
        given: dict[str, Any] = {"status": db.status(), "events": db.events(limit=200)} | more
        files, _ = support.collect(library.settings, report, given["status"], given["events"], verbs=verbs)
    return files


def _group() -> Any:
    import typer

    return typer.main.get_command(app)


def leaks(files: dict[str, bytes]) -> list[str]:
    found = []
    for name, data in files.items():
        if name == "versions.json":
            continue
        text = data.decode()
        decoded = json.dumps(json.loads(text), ensure_ascii=False) if name.endswith(".json") else text
        found += [
            f"{name}: {part}" for part in (*NAME_PARTS, TOKEN, str(library_root())) if part in text or part in decoded
        ]
    return found


def library_root() -> Path:
    return Path.home()


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-jane"))


def test_nothing_private_is_in_it(library: Library) -> None:
    library.log(
        f"2026-05-01 10:00:00,123 INFO speakerdb.cli command-began verb=status pid=12 version={__version__}",
        f"2026-05-01 10:00:00,123 INFO speakerdb.cli command-ended verb=add exit=0 seconds=1.5 token={TOKEN}",
        "2026-05-01 10:00:00,123 WARNING speakerdb.cli command-ended verb=jane exit=6 code=media-missing",
        f"2026-05-01 10:00:00,123 WARNING jane.module {library.folder}/holiday tape of Lovelace.wav",
        "2026-05-01 10:00:00,123 ERROR speakerdb.jane unexpected-error at=/srv/jane/x.py:3,speakerdb/service.py:12",
        f"Ada Lovelace wrote {TOKEN} and postgresql://jane:pw-9931@host/db into the log",
        "\x00\x1b[31m Öztürk",
    )
    files = collected(library)
    assert leaks(files) == []
    log = files["log.txt"].decode()
    assert f"command-began verb=status pid=12 version={__version__}\n" in log
    assert "command-ended verb=add exit=0 seconds=1.5 text-" in log
    assert "exit=6 code=media-missing" in log
    assert log.count("\n") == 7


def test_what_helps_is_still_in_it(library: Library) -> None:
    files = collected(library)
    status = json.loads(files["status.json"])
    assert status["serving"] == "v3"
    assert status["recordings"] == 1
    assert status["migration"]["state"] == "running"
    assert {lease["state"] for lease in status["leases"]} <= {"free", "held", "expired", "gone"}
    events = json.loads(files["events.json"])
    kinds = {event["kind"] for event in events}
    assert {"speaker-renamed", "profile-created", "migration-paused"} <= kinds
    assert all(isinstance(event["at"], int) for event in events)
    renamed = [event["data"] for event in events if event["kind"] == "speaker-renamed"]
    assert {"old", "new"} == set(renamed[0])
    assert renamed[0]["old"] == renamed[1]["new"], "the same name has the same hash"
    versions = json.loads(files["versions.json"])
    assert any(line.startswith("sqlalchemy==") for line in versions["packages"])
    settings = json.loads(files["settings.json"])
    assert settings["variables"]["HF_TOKEN"] == "set"  # noqa: S105
    assert settings["generations"]["v4"]["dimension"] == 16
    doctor = json.loads(files["doctor.json"])
    assert doctor["checks"][0]["found"] == "read; the data folder is <data-folder>"
    assert "key" in files["README.txt"].decode()


def test_hashes_are_the_same_in_every_bundle_of_a_library_and_in_no_other(library: Library, tmp_path: Path) -> None:
    first, second = collected(library), collected(library)
    assert first["events.json"] == second["events.json"]
    assert (library.settings.data_dir / "support.key").stat().st_mode & 0o077 == 0
    (tmp_path / "other").mkdir()
    other = Library(tmp_path / "other")
    assert collected(other)["settings.json"] != first["settings.json"]


def test_settings_keep_no_secret_and_no_path(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "jane",
        database_url=f"sqlite:///{tmp_path}/Lovelace.db?password=pw-9931",
        media_roots=(Path("/media/Doe"),),
        who="Jane Doe",
        generations={"mine": GenerationSettings(
            family="pyannote", model="jane/model", dimension=8, revision="Doe", sources=("checkpoints/jane", "hub")
        )},
    )  # fmt: skip
    files, _ = support.collect(settings, DoctorReport.of(()), SpeakerDBError("x"), SpeakerDBError("x"))
    assert leaks(files) == []


def test_where_the_servers_are_is_not_said_and_how_they_are_used_is(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        database_url="postgresql://ann:geheim@db.lovelace.example/x?host=db2.lovelace.example",
        opensearch=OpenSearchSettings(
            hosts=("https://search.lovelace.example:9200",), username="lovelace", password=SecretStr("geheim"), shards=3,
            prefix="lovelace-",
        ),
    )  # fmt: skip
    told = "at 'db.lovelace.example' or db2.lovelace.example: https://search.lovelace.example:9200 cannot be reached"
    check = DoctorCheck("index", "fail", told, told)
    files, _ = support.collect(settings, DoctorReport.of((check,)), SpeakerDBError("x"), SpeakerDBError("x"))
    everything = b"".join(files.values())
    assert b"lovelace" not in everything
    assert b"geheim" not in everything
    search = json.loads(files["settings.json"])["settings"]["opensearch"]
    assert (search["hosts"], search["shards"], search["engine"]) == (["https"], 3, "lucene")
    assert (search["username"], search["password"], search["ca_file"]) == ("set", "set", "not set")


def test_settings_that_cannot_be_read_are_not_quoted(tmp_path: Path) -> None:
    problem = DoctorCheck("settings", "fail", f"who: bad value {TOKEN} of Lovelace", "mend jane")
    files, problems = support.collect(None, DoctorReport.of((problem,)), SpeakerDBError("x"), SpeakerDBError("x"))
    assert leaks(files) == []
    assert any("settings" in each for each in problems)


def test_it_is_never_written_over_something_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    out = tmp_path / "a.zip"
    report = support.write(out, {"README.txt": b"x"}, ())
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert report.files == {"README.txt": support.FILES["README.txt"]}
    with pytest.raises(InvalidInput):
        support.write(out, {"README.txt": b"y"}, ())


class TestCommand:
    @pytest.fixture
    def run(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> Callable[..., tuple[int, str]]:
        answers = [
            {"step": "torch", "version": "2.11.0", "built_for": None},
            {"step": "cuda", "available": False, "devices": [], "built_for": None, "driver": False, "said": []},
            {"step": "torchaudio", "version": "2.11.0"},
            {"step": "pyannote.audio", "version": "4.0.7", "telemetry": False},
        ]
        out = "".join(json.dumps(answer) + "\n" for answer in answers)
        monkeypatch.setattr(machine, "run_apart", lambda a, _s: machine.Apart("8000" if a[0] == "-c" else out, "", ""))
        monkeypatch.setenv("SPEAKERDB_EXECUTOR", "inline")
        monkeypatch.setenv("SPEAKERDB_DISK_FLOOR_MB", "0")
        for name, model, size in (("V3", "spectral-a", "24"), ("V4", "spectral-b", "16")):
            monkeypatch.setenv(f"SPEAKERDB_GENERATIONS__{name}__FAMILY", "spectral")
            monkeypatch.setenv(f"SPEAKERDB_GENERATIONS__{name}__MODEL", model)
            monkeypatch.setenv(f"SPEAKERDB_GENERATIONS__{name}__DIMENSION", size)
        monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(tmp_path / "data"))
        monkeypatch.chdir(tmp_path)

        def call(*arguments: str | Path) -> tuple[int, str]:
            code = main([str(a) for a in arguments])
            return code, capsys.readouterr().out

        return call

    def test_a_whole_library(
        self, run: Callable[..., tuple[int, str]], library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(library.settings.data_dir))
        assert run("status")[0] == 0
        code, out = run("support-bundle", "--out", tmp_path / "b.zip", "--json")
        assert code == 0
        assert set(json.loads(out)["files"]) == set(support.FILES)
        assert json.loads(out)["problems"] == []
        with zipfile.ZipFile(tmp_path / "b.zip") as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        assert leaks(files) == []
        assert b"command-ended verb=status exit=0" in files["log.txt"]

    def test_nothing_there_and_nothing_made(self, run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
        code, out = run("support-bundle")
        assert code == 0
        assert "not-found" in out
        assert not (tmp_path / "data").exists()
        assert len(list(tmp_path.glob("speakerdb-support-*.zip"))) == 1

    @pytest.mark.parametrize("damage", ["database", "index", "settings"])
    def test_it_works_where_nothing_else_does(
        self,
        run: Callable[..., tuple[int, str]],
        library: Library,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        damage: str,
    ) -> None:
        monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(library.settings.data_dir))
        match damage:
            case "database":
                (library.settings.data_dir / "catalog.db").write_bytes(b"jane " * 5000)
            case "index":
                library.settings.index_path.write_bytes(b"jane " * 5000)
            case _:
                monkeypatch.setenv("SPEAKERDB_WORKERS", TOKEN)
        code, out = run("support-bundle", "--out", tmp_path / "b.zip")
        assert code == 0
        assert "Could not be read" in out
        with zipfile.ZipFile(tmp_path / "b.zip") as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        assert leaks(files) == []
        verdicts = {c["name"]: c["verdict"] for c in json.loads(files["doctor.json"])["checks"]}
        assert verdicts[damage] == "fail"

    def test_doctor_prints_one_document_and_says_by_its_status_what_it_found(
        self, run: Callable[..., tuple[int, str]], library: Library, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code, out = run("doctor", "--json", "--no-network")
        assert (code, json.loads(out)["verdict"]) == (0, "pass")
        monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(library.settings.data_dir))
        library.settings.index_path.write_bytes(b"damaged " * 5000)
        code, out = run("doctor", "--no-network")
        assert code == 1
        assert "Broken: index." in out
        assert "next: " in out

    def test_an_older_schema_is_not_upgraded_for_it(
        self, run: Callable[..., tuple[int, str]], library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sqlite3

        monkeypatch.setenv("SPEAKERDB_DATA_DIR", str(library.settings.data_dir))
        path = library.settings.data_dir / "catalog.db"
        with sqlite3.connect(path) as db:
            db.execute("UPDATE alembic_version SET version_num = '0001'")
        db.close()
        code, out = run("support-bundle", "--out", tmp_path / "b.zip")
        assert (code, "schema-outdated" in out) == (0, True)


class TestRedactor:
    def test_only_known_words_pass(self) -> None:
        redactor = Redactor(b"key", {"running", "v4"}, commands={"speakerdb", "migrate", "resume"})
        assert redactor.value({"running": "v4", "Jane": ["Jane", 3, True, None, "spk_0123456789abcdef0123"]}) == {
            "running": "v4",
            redactor.hashed("Jane"): [redactor.hashed("Jane"), 3, True, None, "spk_0123456789abcdef0123"],
        }
        assert redactor.value("speakerdb migrate resume --json v4") == "speakerdb migrate resume --json v4"
        assert "Jane" not in redactor.value("speakerdb migrate resume Jane")

    def test_hashes_depend_on_the_key(self) -> None:
        assert Redactor(b"a", ()).hashed("Jane") != Redactor(b"b", ()).hashed("Jane")

    @pytest.mark.parametrize(
        ("text", "gone"),
        [
            ("Authorization: Bearer abcdef123456", "abcdef123456"),
            ("hf_abcdefghij is it", "hf_abcdefghij"),
            ("postgresql://jane:pa@ss@host/db", "pa@ss"),
            (f"x{os.sep}y", None),
        ],
    )
    def test_secrets_are_cut_out(self, text: str, gone: str | None) -> None:
        found = without_secrets(text)
        assert found == text if gone is None else gone not in found


def test_what_an_errors_message_quotes_may_be_anybodys() -> None:
    redactor = Redactor(b"k" * 32, {"v3"})
    told = redactor.message(
        "The setting serving names the unknown generation 'Ada Lovelace'; 'v3' is known, \"O'Neil\" too."
    )
    assert "Ada" not in told
    assert "Neil" not in told
    assert "'v3' is known" in told


@pytest.mark.parametrize("secret", ["u:hunter2", "u:hunter2/x", "u:hun@ter2", ":hunter2", "hunter2"])
def test_no_password_of_an_address_is_left(secret: str) -> None:
    told = without_secrets(f"cannot reach postgresql://{secret}@host:5432/db, see https://huggingface.co/a/b")
    assert "ter2" not in told
    assert told.endswith("@host:5432/db, see https://huggingface.co/a/b")
