"""The models of a machine: see, fetch, verify, repair, clear; the loader's own store; no look-up where it is forbidden."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from speakerdb.errors import (
    CheckpointUntrusted,
    ConfigurationError,
    ModelAccessDenied,
    ModelOffline,
    ModelUnavailable,
)
from speakerdb.generations import TERMS, V3, V4
from speakerdb.models import hub as hub_module
from speakerdb.models.manage import Models
from speakerdb.models.sources import load_first
from speakerdb.models.store import ModelStore, StoredModel
from speakerdb.reports.mending import FetchedModel, ModelsReport
from speakerdb.settings import GenerationSettings, ModelSettings, Settings, load_settings

DATA = b"a checkpoint"
OTHER = b"another checkpoint"
SHA = hashlib.sha256(DATA).hexdigest()


def settings(
    folder: Path, *, pinned: bool = True, offline: bool = False, sources: tuple[str, ...] = ("cache", "hub")
) -> Settings:
    """v4 pinned to `DATA`, v3 without a checkpoint, so that one model counts."""
    return Settings(
        data_dir=folder / "data",
        generations={
            "v3": GenerationSettings(family="spectral", model="spectral-a"),
            "v4": GenerationSettings(sha256=SHA, sources=sources)
            if pinned
            else GenerationSettings(model="me/mine", dimension=256, revision="abc", sources=sources),
        },
        models=ModelSettings(offline=offline),
    )


@dataclass
class FakeHub:
    """Stands in for the hub: what it has, what its cache has, and what asking it raises."""

    cache: Path
    data: bytes = DATA
    error: Exception | None = None
    calls: list[str] = field(default_factory=list)

    def ask(self, url: str, **options: Any) -> None:
        self.calls.append("ask")
        if self.error is not None:
            raise self.error

    def download(
        self, repo: str, name: str, *, local_files_only: bool = False, force_download: bool = False, **options: Any
    ) -> str:
        self.calls.append("cache" if local_files_only else "force" if force_download else "download")
        path = self.cache / name
        if local_files_only:
            if not path.is_file():
                raise errors.LocalEntryNotFoundError("not in the cache")
        elif force_download or not path.is_file():
            self.cache.mkdir(exist_ok=True)
            path.write_bytes(self.data)
        return str(path)

    @property
    def asked(self) -> list[str]:
        return [call for call in self.calls if call != "cache"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    """A hub that can be reached."""
    fake = FakeHub(tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fake.ask)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.download)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return fake


def refusing(status: int, error_class: type[errors.HfHubHTTPError] = errors.HfHubHTTPError) -> Exception:
    class Answer:
        status_code = status
        headers: dict[str, str] = {}  # noqa: RUF012
        request = "GET"

    return error_class(f"{status}", response=Answer())


def fetch(models: Models, **options: Any) -> dict[str, FetchedModel]:
    return {one.generation: one for one in models.fetch(**options)}


def verdicts(report: ModelsReport) -> dict[str, str]:
    return {place.place: place.verdict for view in report.models for place in view.places}


class TestSeeing:
    def test_nothing_is_here_and_nobody_is_asked(self, hub: FakeHub, tmp_path: Path) -> None:
        report = Models(settings(tmp_path)).overview()
        assert verdicts(report) == {"store": "missing", "cache": "missing"}
        assert [view.usable for view in report.models] == [True, False]
        assert hub.asked == []
        assert not (tmp_path / "data").exists()

    def test_terms_are_known_of_the_published_models(self, tmp_path: Path) -> None:
        assert {V3.model.id, V4.model.id} <= set(TERMS)
        views = {v.generation: v for v in Models(Settings(data_dir=tmp_path)).overview().models}
        assert (views["v3"].licence, views["v3"].gated) == ("MIT", True)
        assert views["v4"].gated is False
        assert views["v3"].page == "https://huggingface.co/pyannote/embedding"

    def test_a_generation_that_does_not_exist_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="v9"):
            Models(settings(tmp_path)).verify(["v9"])


class TestFetching:
    def test_downloads_into_cache_and_store_and_the_loader_takes_it_from_there(
        self, hub: FakeHub, tmp_path: Path
    ) -> None:
        models = Models(settings(tmp_path))
        fetched = fetch(models)
        assert (fetched["v3"].outcome, fetched["v4"].outcome, fetched["v4"].sha256) == ("no-weights", "fetched", SHA)
        assert models.store.path(SHA).read_bytes() == DATA
        assert verdicts(models.verify()) == {"store": "good", "cache": "good"}
        (hub.cache / "pytorch_model.bin").unlink()
        spec = settings(tmp_path).known_generations()["v4"].model
        _, checkpoint, _ = load_first(spec, lambda c: c, allow_unknown=False, store=models.store)
        assert (checkpoint.source, checkpoint.data, checkpoint.pinned) == ("store", DATA, True)

    def test_what_is_here_is_not_fetched_again_unless_forced(self, hub: FakeHub, tmp_path: Path) -> None:
        models = Models(settings(tmp_path))
        fetch(models)
        hub.calls.clear()
        assert fetch(models)["v4"].outcome == "there"
        assert hub.asked == []
        assert fetch(models, force=True)["v4"].outcome == "fetched"
        assert hub.asked == ["ask", "force"]

    @pytest.mark.parametrize(
        ("error", "token", "code", "said", "next_step"),
        [
            (refusing(401), "", ModelAccessDenied.code, "401", "HF_TOKEN"),
            (refusing(401), "hf_x", ModelAccessDenied.code, "does not accept the token in HF_TOKEN", "new token"),
            (
                refusing(403, errors.GatedRepoError),
                "hf_x",
                ModelAccessDenied.code,
                "terms",
                "Accept the model's terms at",
            ),
            (ConnectionError("no route"), "hf_x", ModelOffline.code, "could not be reached", "models install"),
            (refusing(404, errors.RevisionNotFoundError), "hf_x", ModelUnavailable.code, "no revision", "sources"),
        ],
        ids=["401 without a token", "401 with one", "403 of a gated model", "offline", "no such revision"],
    )
    def test_refusals_are_told_apart(
        self,
        hub: FakeHub,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        token: str,
        code: str,
        said: str,
        next_step: str,
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", token)
        hub.error = error
        told: list[str] = []
        found = fetch(Models(settings(tmp_path)), on_terms=lambda view: told.append(view.page or ""))["v4"]
        assert (found.outcome, found.code) == ("refused", code)
        assert said in found.message
        assert next_step in found.hint
        assert told == ["https://huggingface.co/pyannote/wespeaker-voxceleb-resnet34-LM"]

    def test_another_file_than_the_pinned_one_is_never_kept(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.data = OTHER
        models = Models(settings(tmp_path))
        found = fetch(models)["v4"]
        assert (found.outcome, found.code) == ("refused", CheckpointUntrusted.code)
        assert models.store.folders() == []

    def test_a_damaged_cache_is_fetched_again_by_itself(self, hub: FakeHub, tmp_path: Path) -> None:
        hub.cache.mkdir()
        (hub.cache / "pytorch_model.bin").write_bytes(b"damaged")
        assert fetch(Models(settings(tmp_path)))["v4"].outcome == "fetched"
        assert hub.asked == ["ask", "download", "ask", "force"]

    def test_a_model_without_a_pin_is_kept_and_still_not_loaded_unasked(self, hub: FakeHub, tmp_path: Path) -> None:
        given = settings(tmp_path, pinned=False)
        models = Models(given)
        found = fetch(models)["v4"]
        assert (found.outcome, found.pinned) == ("fetched", False)
        spec = given.known_generations()["v4"].model
        with pytest.raises(CheckpointUntrusted, match=SHA):
            load_first(spec, lambda c: c, allow_unknown=False, store=models.store)
        _, checkpoint, _ = load_first(spec, lambda c: c, allow_unknown=True, store=models.store)
        assert checkpoint.source == "store"

    def test_sources_without_the_hub_are_left_alone(self, hub: FakeHub, tmp_path: Path) -> None:
        assert fetch(Models(settings(tmp_path, sources=("/a/folder",))))["v4"].outcome == "local"
        assert hub.asked == []


class TestVerifying:
    @pytest.fixture
    def models(self, hub: FakeHub, tmp_path: Path) -> Models:
        models = Models(settings(tmp_path))
        fetch(models)
        hub.calls.clear()
        return models

    def test_a_damaged_copy_in_the_store_is_repaired_from_a_sound_one_without_asking(
        self, models: Models, hub: FakeHub
    ) -> None:
        models.store.path(SHA).write_bytes(b"damaged")
        assert verdicts(models.verify()) == {"store": "damaged", "cache": "good"}
        report = models.verify(repair=True)
        assert verdicts(report) == {"store": "good", "cache": "good"}
        assert report.repaired == ("v4: store",)
        assert hub.asked == []
        assert models.store.path(SHA).read_bytes() == DATA

    def test_damaged_copies_everywhere_are_fetched_again(self, models: Models, hub: FakeHub) -> None:
        models.store.path(SHA).write_bytes(b"damaged")
        (hub.cache / "pytorch_model.bin").write_bytes(b"damaged too")
        assert verdicts(models.verify(repair=True)) == {"store": "good", "cache": "good"}
        assert hub.asked == ["ask", "force"]

    def test_offline_a_damaged_copy_cannot_be_fetched(self, models: Models, hub: FakeHub, tmp_path: Path) -> None:
        models.store.path(SHA).write_bytes(b"damaged")
        (hub.cache / "pytorch_model.bin").unlink()
        with pytest.raises(ModelOffline):
            Models(settings(tmp_path, offline=True)).verify(repair=True)
        assert hub.asked == []

    def test_without_a_pin_it_is_unknown_and_damage_in_the_store_still_shows(
        self, hub: FakeHub, tmp_path: Path
    ) -> None:
        models = Models(settings(tmp_path, pinned=False))
        fetch(models)
        assert verdicts(models.verify()) == {"store": "unknown", "cache": "unknown"}
        models.store.path(SHA).write_bytes(b"damaged")
        assert verdicts(models.verify())["store"] == "damaged"

    def test_without_a_pin_the_cache_is_compared_with_what_the_hub_stated(self, hub: FakeHub, tmp_path: Path) -> None:
        blob = tmp_path / "blobs" / ("0" * 64)
        blob.parent.mkdir()
        blob.write_bytes(DATA)
        hub.cache.mkdir()
        (hub.cache / "pytorch_model.bin").symlink_to(blob)
        assert verdicts(Models(settings(tmp_path, pinned=False)).verify())["cache"] == "damaged"


class TestStore:
    def test_putting_it_twice_changes_nothing(self, tmp_path: Path) -> None:
        store = ModelStore(tmp_path / "models")
        model = StoredModel.of(V4.model, SHA, len(DATA), "MIT")
        assert store.put(DATA, model)
        assert not store.put(DATA, model)
        assert [p.name for p in store.folder.iterdir()] == [SHA]

    @pytest.mark.parametrize("text", ["{", "[]", '{"id": "x"}', "\x00"])
    def test_a_manifest_that_cannot_be_read_is_told_of_and_hides_nothing(self, tmp_path: Path, text: str) -> None:
        store = ModelStore(tmp_path / "models")
        store.put(DATA, StoredModel.of(V4.model, SHA, len(DATA), None))
        (store.folder / SHA / "manifest.json").write_text(text)
        assert (store.models(), store.unreadable()) == ([], [SHA])
        assert store.find(replace(V4.model, sha256=SHA)) is not None
        assert store.put(DATA, StoredModel.of(V4.model, SHA, len(DATA), None))
        assert store.unreadable() == []

    def test_it_is_found_by_id_and_revision_only_where_nothing_is_pinned(self, tmp_path: Path) -> None:
        store = ModelStore(tmp_path / "models")
        store.put(DATA, StoredModel.of(V4.model, SHA, len(DATA), None))
        assert store.find(replace(V4.model, sha256=None)) is not None
        assert store.find(replace(V4.model, sha256=None, revision="other")) is None
        assert store.find(V4.model) is None, "another checksum is pinned"

    def test_clear_removes_the_store_alone(self, hub: FakeHub, tmp_path: Path) -> None:
        models = Models(settings(tmp_path))
        fetch(models)
        planned = models.clear(dry_run=True)
        assert [model.sha256 for model in planned.removed] == [SHA]
        assert models.store.path(SHA).is_file()
        assert models.clear(["v4"]).freed > len(DATA)
        assert models.store.folders() == []
        assert (hub.cache / "pytorch_model.bin").is_file()
        assert list(models.store.folder.iterdir()) == []


class TestOffline:
    def test_the_setting_forbids_asking_and_the_error_says_what_to_do(self, hub: FakeHub, tmp_path: Path) -> None:
        given = settings(tmp_path, offline=True)
        spec = given.known_generations()["v4"].model
        with pytest.raises(ModelOffline) as caught:
            load_first(spec, lambda c: c, allow_unknown=False, store=ModelStore(tmp_path / "m"), offline=True)
        assert spec.id in caught.value.message
        assert str(spec.revision) in caught.value.message
        assert "models.offline" in caught.value.message
        assert all(f"`speakerdb models {verb}" in caught.value.hint for verb in ("fetch", "pack", "install"))
        assert [a["outcome"] for a in caught.value.details["attempts"]] == ["not-found", "not-found", "offline"]
        assert hub.asked == []
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        assert constants.HF_HUB_OFFLINE is True

    def test_fetch_and_verify_do_not_ask_either(self, hub: FakeHub, tmp_path: Path) -> None:
        models = Models(settings(tmp_path, offline=True))
        assert fetch(models)["v4"].code == ModelOffline.code
        models.verify(repair=True)
        assert hub.asked == []


class TestSettings:
    def test_a_revision_in_the_name_is_refused_with_the_right_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPEAKERDB_GENERATIONS__V3__MODEL", "pyannote/embedding@main")
        with pytest.raises(ConfigurationError, match="revision = 'main'"):
            load_settings()

    def test_the_old_cache_variable_is_told_of_and_not_used(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub: FakeHub
    ) -> None:
        old = tmp_path / "old"
        old.mkdir()
        (old / "pytorch_model.bin").write_bytes(DATA)
        monkeypatch.setenv("PYANNOTE_CACHE", str(old))
        report = Models(settings(tmp_path)).overview()
        assert verdicts(report) == {"store": "missing", "cache": "missing"}
        assert "HF_HOME" in report.notices[0]
        monkeypatch.delenv("PYANNOTE_CACHE")
        assert hub_module.old_cache_notice() is None
