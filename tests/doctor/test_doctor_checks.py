"""Each check of `doctor`: what it finds in a sound machine, a broken one, and one where nothing exists yet."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from speakerdb import doctor
from speakerdb.catalog import health
from speakerdb.doctor import machine
from speakerdb.errors import ConfigurationError, DatabaseReadOnly
from speakerdb.models.store import ModelStore, StoredModel
from speakerdb.reports.mending import DoctorCheck, DoctorReport
from speakerdb.service import SpeakerDB
from speakerdb.settings import DiarizerSettings, GenerationSettings, ModelSettings, Settings
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices

DATA = b"a checkpoint"
SHA = hashlib.sha256(DATA).hexdigest()
MODELS = Path(__file__).parents[1] / "assets" / "models"
TORCH = {"step": "torch", "version": "2.11.0+cu130", "built_for": "13.0"}
CUDA = {"step": "cuda", "available": False, "devices": [], "built_for": "13.0", "driver": False, "said": []}
AUDIO = {"step": "torchaudio", "version": "2.11.0"}
PYANNOTE = {"step": "pyannote.audio", "version": "4.0.7", "telemetry": False}
SOUND = (TORCH, CUDA, AUDIO, PYANNOTE)


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the program that imports torch answers, and how it ends; decoding works."""
    said: dict[str, Any] = {"answers": list(SOUND), "end": "", "err": ""}

    def apart(arguments: list[str], seconds: float) -> machine.Apart:
        if arguments[0] == "-c":
            return machine.Apart("8000\n", "", "")
        out = "".join(json.dumps(answer) + "\n" for answer in said["answers"])
        return machine.Apart(out, said["err"], said["end"])

    monkeypatch.setattr(machine, "run_apart", apart)
    return said


def examined(settings: Settings | None, **options: Any) -> dict[str, DoctorCheck]:
    return {check.name: check for check in doctor.examine(settings, **({"network": False} | options))}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return fake_settings(tmp_path / "data")


@pytest.fixture
def library(settings: Settings) -> Settings:
    """A library with a recording that was worked on; nobody has it open."""
    with SpeakerDB.open(settings, executor=FakeExecutor()) as db:
        db.add(None, two_voices(), recording_id="a", waveform=silence(20))
        db.work()
    return settings


@pytest.mark.usefixtures("libraries")
class TestNothingYet:
    def test_all_is_well_and_nothing_is_made(self, settings: Settings, tmp_path: Path) -> None:
        checks = examined(settings)
        assert {c.verdict for c in checks.values()} <= {"pass", "skipped"}
        assert checks["database"].verdict == checks["index"].verdict == "skipped"
        assert list(tmp_path.iterdir()) == []

    def test_without_settings_the_machine_is_still_looked_at(self) -> None:
        checks = examined(None, problem=ConfigurationError("no such setting", hint="mend it"))
        assert (checks["settings"].verdict, checks["settings"].mend) == ("fail", "mend it")
        assert checks["torch"].verdict == checks["decoding"].verdict == "pass"
        assert checks["database"].verdict == "skipped"

    def test_a_check_that_breaks_is_a_verdict(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: 1 / 0)
        checks = examined(settings)
        assert checks["disk"].verdict == "fail"
        assert "ZeroDivisionError" in checks["disk"].found
        assert checks["clock"].verdict == "pass", "the others went on"


class TestLibraries:
    def test_the_other_cuda_build_is_said_with_what_mends_it(
        self, settings: Settings, libraries: dict[str, Any]
    ) -> None:
        said = "Detected that PyTorch and TorchAudio were compiled with different CUDA versions."
        libraries["answers"] = [
            TORCH, CUDA, {"step": "torchaudio", "error": "RuntimeError", "message": said},
            {"step": "pyannote.audio", "error": "RuntimeError", "message": said},
        ]  # fmt: skip
        checks = examined(settings)
        assert checks["torchaudio"].verdict == checks["pyannote.audio"].verdict == "fail"
        assert said in checks["torchaudio"].found
        assert "torchaudio==2.11.0" in checks["torchaudio"].mend
        assert checks["telemetry"].verdict == "skipped"

    def test_a_library_that_cannot_be_loaded_too(self, settings: Settings, libraries: dict[str, Any]) -> None:
        libraries["answers"][2] = {"step": "torchaudio", "error": "OSError", "message": "libtorch_cuda.so: cannot open"}
        assert "pip install" in examined(settings)["torchaudio"].mend

    def test_missing_modules_are_said_by_name(self, settings: Settings, libraries: dict[str, Any]) -> None:
        libraries["answers"] = [
            {"step": step, "error": "ModuleNotFoundError", "message": f"No module named {step!r}"}
            for step in ("torch", "cuda", "torchaudio", "pyannote.audio")
        ]
        checks = examined(settings)
        assert [checks[name].verdict for name in ("torch", "pyannote.audio")] == ["fail", "fail"]
        assert "not installed" in checks["torch"].mend

    @pytest.mark.parametrize("end", ["was ended by signal 11", "was not done after 120 s"])
    def test_a_crash_and_a_hang_are_verdicts(self, settings: Settings, libraries: dict[str, Any], end: str) -> None:
        libraries["answers"], libraries["end"] = [TORCH, CUDA], end
        checks = examined(settings)
        assert checks["torch"].verdict == "pass"
        assert checks["torchaudio"].verdict == "fail"
        assert end in checks["torchaudio"].found
        assert checks["pyannote.audio"].verdict == "skipped"
        assert checks["disk"].verdict == "pass"

    @pytest.mark.parametrize(
        ("changes", "device", "verdict", "found"),
        [
            ({"available": True, "devices": ["A100"]}, "auto", "pass", "A100"),
            ({}, "auto", "pass", "CPU"),
            ({}, "cuda", "warn", "sees no such device"),
            ({"said": ["The NVIDIA driver on your system is too old"]}, "auto", "warn", "too old"),
            ({"built_for": None, "driver": True}, "auto", "warn", "built for the CPU alone"),
        ],
    )
    def test_cuda(
        self,
        tmp_path: Path,
        libraries: dict[str, Any],
        changes: dict[str, Any],
        device: str,
        verdict: str,
        found: str,
    ) -> None:
        libraries["answers"][1] = CUDA | changes
        check = examined(fake_settings(tmp_path, device=device))["cuda"]
        assert (check.verdict, found in check.found) == (verdict, True), check

    def test_telemetry_that_is_on_although_it_should_not_be_fails(
        self, settings: Settings, tmp_path: Path, libraries: dict[str, Any]
    ) -> None:
        assert examined(settings)["telemetry"].found == "off"
        libraries["answers"][3] = PYANNOTE | {"telemetry": True}
        assert examined(settings)["telemetry"].verdict == "fail"
        assert examined(fake_settings(tmp_path / "on", telemetry=True))["telemetry"].verdict == "warn"

    def test_another_version_than_the_tested_one_is_a_warning(
        self, settings: Settings, libraries: dict[str, Any]
    ) -> None:
        libraries["answers"][3] = PYANNOTE | {"version": "4.1.0"}
        check = examined(settings)["pyannote.audio"]
        assert (check.verdict, "4.0.7" in check.mend) == ("warn", True)

    def test_the_old_cache_variable_is_a_warning(
        self, settings: Settings, libraries: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYANNOTE_CACHE", "/somewhere")
        assert examined(settings)["model cache"].verdict == "warn"


class TestApart:
    def test_it_ends_what_hangs_and_tells_of_what_crashes(self) -> None:
        assert machine.run_apart(["-c", "import time; time.sleep(600)"], 0.3).end == "was not done after 0.3 s"
        crash = machine.run_apart(["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], 60)
        assert crash.end == "was ended by signal 9"
        failed = machine.run_apart(["-c", "import sys; sys.exit('no')"], 60)
        assert (failed.end, failed.err.strip()) == ("ended with status 1", "no")

    def test_nothing_of_the_working_directory_is_imported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "json.py").write_text("raise SystemExit(3)")
        monkeypatch.chdir(tmp_path)
        assert machine.run_apart(["-c", "import json"], 60).end == ""

    def test_decoding_really_decodes(self) -> None:
        (check,) = machine.check_decoding()
        assert check.verdict == "pass", check
        assert "PyAV" in check.found

    @pytest.mark.models
    def test_the_real_libraries(self) -> None:
        checks = {c.name: c for c in machine.check_libraries(telemetry=False, device="auto")}
        assert {name: checks[name].verdict for name in ("torch", "torchaudio", "pyannote.audio", "telemetry")} == (
            dict.fromkeys(("torch", "torchaudio", "pyannote.audio", "telemetry"), "pass")
        )


@pytest.mark.usefixtures("libraries")
class TestLibrary:
    def test_a_sound_one_passes(self, library: Settings) -> None:
        checks = examined(library)
        assert {c.verdict for c in checks.values()} <= {"pass", "skipped"}, checks
        assert "speakers_v3" in checks["index"].found
        assert checks["database writable"].verdict == "pass"

    def test_looking_changes_nothing(self, library: Settings) -> None:
        def files() -> dict[str, bytes]:
            return {p.name: p.read_bytes() for p in library.data_dir.iterdir() if p.is_file()}

        before = files()
        examined(library)
        assert files() == before

    @pytest.mark.parametrize("data", [b"", b"no database at all " * 100])
    def test_a_file_that_is_no_database(self, library: Settings, data: bytes) -> None:
        (library.data_dir / "catalog.db").write_bytes(data)
        check = examined(library)["database"]
        assert check.verdict == ("fail" if data else "warn")
        if data:
            assert "restore" in check.mend

    def test_a_damaged_page_is_found(self, library: Settings) -> None:
        path = library.data_dir / "catalog.db"
        data = bytearray(path.read_bytes())
        for page in range(4, len(data) // 4096):
            data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
        path.write_bytes(data)
        assert examined(library)["database"].verdict == "fail"

    @pytest.mark.parametrize(
        ("revision", "verdict", "mend"), [("0001", "warn", "db upgrade"), ("9999", "fail", "newer")]
    )
    def test_another_schema(self, library: Settings, revision: str, verdict: str, mend: str) -> None:
        with sqlite3.connect(library.data_dir / "catalog.db") as db:
            db.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        db.close()
        check = examined(library)["database"]
        assert (check.verdict, mend in check.mend) == (verdict, True)

    def test_one_that_cannot_be_written(self, library: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_: object) -> None:
            raise DatabaseReadOnly("The database cannot be written.")

        monkeypatch.setattr(health, "write_nothing", refuse)
        checks = examined(library)
        assert checks["database"].verdict == "pass"
        assert "writable" in checks["database writable"].mend

    def test_a_missing_and_a_damaged_index(self, library: Settings) -> None:
        library.index_path.write_bytes(b"no index " * 100)
        check = examined(library)["index"]
        assert (check.verdict, "index rebuild" in check.mend) == ("fail", True)
        for path in library.data_dir.glob("index.db*"):
            path.unlink()
        check = examined(library)["index"]
        assert (check.verdict, "index rebuild v3" in check.mend) == ("fail", True)
        assert not library.index_path.exists()

    def test_an_alias_that_names_nothing(self, library: Settings) -> None:
        with sqlite3.connect(library.index_path) as db:
            db.execute("DELETE FROM aliases WHERE alias = 'speakers'")
        db.close()
        assert examined(library)["index"].verdict == "fail"

    def test_versions_in_the_future(self, settings: Settings) -> None:
        now = 4_000_000_000_000_000
        with SpeakerDB.open(settings, executor=FakeExecutor(), clock=lambda: now) as db:
            db.add(None, two_voices(), recording_id="a", waveform=silence(20))
        check = examined(settings)["clock"]
        assert check.verdict == "warn"
        assert "in the future" in check.found

    def test_too_little_room(self, tmp_path: Path) -> None:
        check = examined(fake_settings(tmp_path / "data", disk_floor_mb=10**9))["disk"]
        assert (check.verdict, "disk_floor_mb" in check.mend) == ("fail", True)


def test_the_kind_of_file_system_is_read_from_the_table_of_mounts(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    share = tmp_path / "my share"
    share.mkdir()
    point = str(share).replace(" ", "\\040")
    table.write_text(f"/dev/root / ext4 rw 0 0\nserver:/x {point} nfs4 rw 0 0\nbroken\n")
    assert machine.file_system(share / "data", table) == "nfs4"
    assert machine.file_system(tmp_path, table) == "ext4"
    assert machine.file_system(tmp_path, tmp_path / "none") is None


def test_a_clock_that_jumps_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = machine.time.time
    clock = machine.Clock()
    monkeypatch.setattr(machine.time, "time", lambda: real() + 100)
    (check,) = clock.check(tmp_path / "none", 0)
    assert (check.verdict, "jumped" in check.found) == ("warn", True)


def refusing(status: int, error_class: type[errors.HfHubHTTPError] = errors.HfHubHTTPError) -> Exception:
    class Answer:
        status_code = status
        headers: dict[str, str] = {}  # noqa: RUF012
        request = "GET"

    return error_class(f"{status}", response=Answer())


@pytest.mark.usefixtures("libraries")
@pytest.mark.usefixtures("libraries")
class TestDiarizer:
    def test_one_that_is_not_here_is_no_fault_before_it_is_needed(self, settings: Settings) -> None:
        assert examined(settings)["diarizer"].verdict == "skipped"

    def test_a_config_that_is_not_taken_fails_where_recordings_wait_for_it(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        (tmp_path / "pipeline").mkdir()
        (tmp_path / "pipeline" / "config.yaml").write_text("pipeline: {name: os.system, params: {}}", encoding="utf-8")
        named = settings.model_copy(update={"diarizer": DiarizerSettings(pipeline=str(tmp_path / "pipeline"))})
        check = examined(named)["diarizer"]
        assert (check.verdict, check.found.partition(":")[0]) == ("warn", "diarizer-refused")
        with SpeakerDB.open(named, executor=FakeExecutor()) as db:
            db.add(None, recording_id="r", waveform=silence(20))
        assert examined(named)["diarizer"].verdict == "fail"

    def test_the_stand_in_is_here_where_its_sums_are_pinned(self, settings: Settings) -> None:
        folder = MODELS / "standin-diarization"
        files = (
            *folder.glob("*/*.bin"),
            *folder.glob("*/*.npz"),
            MODELS / "standin-wespeaker-resnet34/pytorch_model.bin",
        )
        sums = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
        named = settings.model_copy(update={"diarizer": DiarizerSettings(pipeline=str(folder), sha256=sums)})
        assert examined(named)["diarizer"].verdict == "pass"
        unpinned = settings.model_copy(update={"diarizer": DiarizerSettings(pipeline=str(folder), sha256=sums[1:])})
        assert "checkpoint-untrusted" in examined(unpinned)["diarizer"].found


@pytest.mark.usefixtures("libraries")
class TestModels:
    @pytest.fixture(autouse=True)
    def online(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.download)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", self.ask)
        self.error: Exception | None = None
        self.asked = 0

    def download(self, *_: Any, local_files_only: bool = False, **__: Any) -> str:
        assert local_files_only, "the doctor downloads nothing"
        raise errors.LocalEntryNotFoundError("no")

    def ask(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error

    def settings(self, folder: Path, **more: Any) -> Settings:
        generations = {
            "v3": GenerationSettings(family="spectral", model="spectral-a"),
            "v4": GenerationSettings(sha256=SHA),
        }
        return Settings(data_dir=folder, generations=generations, **more)

    @pytest.mark.parametrize(
        ("error", "token", "verdict", "found", "mend"),
        [
            (None, "", "warn", "would give it", "models fetch"),
            (refusing(401), "", "fail", "token-needed", "HF_TOKEN"),
            (refusing(401), "hf_x", "fail", "token-refused", "new token"),
            (refusing(403, errors.GatedRepoError), "hf_x", "fail", "terms-not-accepted", "Accept"),
            (ConnectionError(), "hf_x", "fail", "offline", "models install"),
        ],
        ids=["reachable", "401", "401 with a token", "403", "offline"],
    )
    def test_the_hubs_answers_are_told_apart(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception | None,
        token: str,
        verdict: str,
        found: str,
        mend: str,
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", token)
        self.error = error
        check = examined(self.settings(tmp_path / "d"), network=True)["model v4"]
        assert check.verdict == verdict
        assert found in check.found
        assert mend in check.mend

    def test_nobody_is_asked_where_that_is_forbidden_or_needless(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert examined(self.settings(tmp_path / "a"), network=False)["model v4"].verdict == "warn"
        offline = self.settings(tmp_path / "b", models=ModelSettings(offline=True))
        check = examined(offline, network=True)["model v4"]
        assert (check.verdict, "models.offline" in check.found) == ("fail", True)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        here = self.settings(tmp_path / "c")
        ModelStore(here.models_folder).put(
            DATA, StoredModel.of(here.known_generations()["v4"].model, SHA, len(DATA), None)
        )
        assert examined(here, network=True)["model v4"].verdict == "pass"
        assert self.asked == 0

    def test_a_damaged_copy_fails_and_says_what_repairs_it(self, tmp_path: Path) -> None:
        here = self.settings(tmp_path)
        store = ModelStore(here.models_folder)
        store.put(DATA, StoredModel.of(here.known_generations()["v4"].model, SHA, len(DATA), None))
        store.path(SHA).write_bytes(b"damaged")
        check = examined(here)["model v4"]
        assert (check.verdict, "verify --repair" in check.mend) == ("fail", True)

    def test_what_is_not_needed_is_a_warning_only(self, tmp_path: Path) -> None:
        self.error = refusing(401)
        settings = Settings(data_dir=tmp_path, serving="v4", generations={"v4": GenerationSettings(sha256=SHA)})
        checks = examined(settings, network=True)
        assert (checks["model v3"].verdict, checks["model v4"].verdict) == ("warn", "fail")

    def test_a_token_is_never_shown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HUGGINGFACE_TOKEN", "hf_ThisMustNotBeSeen")
        checks = examined(self.settings(tmp_path), network=True)
        assert checks["token"].found == "HUGGINGFACE_TOKEN is set"
        assert "ThisMustNotBeSeen" not in repr(checks)


def test_the_verdict_is_the_worst_of_the_checks() -> None:
    def report(*verdicts: Any) -> str:
        return DoctorReport.of(tuple(DoctorCheck("x", v, "") for v in verdicts)).verdict

    assert report("pass", "skipped") == "pass"
    assert report("pass", "warn") == "warn"
    assert report("warn", "fail", "pass") == "fail"


@pytest.mark.usefixtures("libraries")
def test_a_variable_that_nothing_reads_is_told_with_the_one_that_is_meant(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SPEAKERDB_CONFIG", "SPEAKERDB_WORKERS", "SPEAKERDB_MODELS__OFFLINE", "speakerdb_who"):
        monkeypatch.setenv(name, "1")
    assert "variables" not in examined(settings)
    monkeypatch.setenv("SPEAKERDB_MEDIA_ROOT", "/private/place")
    found = examined(settings)["variables"]
    assert (found.verdict, found.found) == ("warn", "nothing reads SPEAKERDB_MEDIA_ROOT")
    assert "Is SPEAKERDB_MEDIA_ROOTS meant?" in found.mend
    monkeypatch.delenv("SPEAKERDB_MEDIA_ROOT")
    monkeypatch.setenv("SPEAKERDB_QQQQ", "1")
    assert "meant" not in examined(settings)["variables"].mend
