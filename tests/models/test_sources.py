"""Finding a checkpoint: every source, every way it can fail, and what is said of it. No model is loaded here."""

from __future__ import annotations

import hashlib
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from speakerdb.errors import (
    CheckpointUntrusted,
    ConfigurationError,
    DimensionMismatch,
    ModelAccessDenied,
    ModelOffline,
    ModelUnavailable,
    SpeakerDBError,
)
from speakerdb.models import sources
from speakerdb.models.sources import Attempt, Checkpoint, Outcome, load_first
from speakerdb.types import ModelSpec

SECRET = "hf_ThisMustNotBeSeenAnywhere"  # noqa: S105 - made up
DATA = b"a checkpoint"
PINNED = hashlib.sha256(DATA).hexdigest()
SPEC = ModelSpec("pyannote", "someone/model", 256, revision="abc", sha256=PINNED)


def whole(checkpoint: Checkpoint) -> bytes:
    return checkpoint.data


def load(
    spec: ModelSpec, build: Callable[[Checkpoint], Any] = whole, *, allow_unknown: bool = False
) -> tuple[Any, Checkpoint, tuple[Attempt, ...]]:
    return load_first(spec, build, allow_unknown=allow_unknown)


def refused(spec: ModelSpec, error_class: type[ModelUnavailable], **options: Any) -> tuple[ModelUnavailable, list[str]]:
    """The error, which must be of exactly this class, and the outcomes of its attempts."""
    with pytest.raises(ModelUnavailable) as caught:
        load(spec, **options)
    assert type(caught.value) is error_class
    assert caught.value.hint
    return caught.value, [attempt["outcome"] for attempt in caught.value.details["attempts"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(DATA)
    return tmp_path / "model"


class TestPaths:
    @pytest.mark.parametrize("kind", ["file", "folder", "subfolder", "folder though a subfolder is named"])
    def test_is_found(self, folder: Path, kind: str) -> None:
        spec = {
            "file": replace(SPEC, sources=(str(folder / "pytorch_model.bin"),)),
            "folder": replace(SPEC, sources=(str(folder),)),
            "subfolder": replace(SPEC, sources=(str(folder.parent),), subfolder="model"),
            "folder though a subfolder is named": replace(SPEC, sources=(str(folder),), subfolder="embedding"),
        }[kind]
        built, checkpoint, attempts = load(spec)
        assert built == DATA
        assert (checkpoint.sha256, checkpoint.pinned) == (PINNED, True)
        assert [attempt.outcome for attempt in attempts] == [Outcome.LOADED]

    def test_of_the_home_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(folder.parent))
        assert load(replace(SPEC, sources=("~/model",)))[0] == DATA

    @pytest.mark.parametrize("source", ["/not/there", "not/there", "pyannote/embedding", "bad\0name"])
    def test_that_are_missing_never_reach_the_hub(
        self, source: str, monkeypatch: pytest.MonkeyPatch, hub: FakeHub
    ) -> None:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        error, outcomes = refused(replace(SPEC, sources=(source,)), ModelUnavailable)
        assert outcomes == ["not-found"]
        assert source in error.message
        assert hub.calls == []

    def test_a_folder_without_a_checkpoint_says_so(self, tmp_path: Path) -> None:
        error, outcomes = refused(replace(SPEC, sources=(str(tmp_path),)), ModelUnavailable)
        assert outcomes == ["not-found"]
        assert "pytorch_model.bin" in error.message

    def test_a_file_that_is_too_large_is_not_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "MAX_BYTES", len(DATA) - 1)
        assert refused(replace(SPEC, sources=(str(folder),)), ModelUnavailable)[1] == ["unusable"]

    def test_a_file_that_cannot_be_read_is_passed_over(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Path, *args: Any) -> Any:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        error, outcomes = refused(replace(SPEC, sources=(str(folder),)), ModelUnavailable)
        assert outcomes == ["unusable"]
        assert "Permission denied" in error.message


class TestTrust:
    def test_the_wrong_checksum_is_passed_over_and_reported(self, folder: Path, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.bin"
        wrong.write_bytes(DATA + b"!")
        built, checkpoint, attempts = load(replace(SPEC, sources=(str(wrong), str(folder))))
        assert built == DATA
        assert checkpoint.source == str(folder)
        assert [attempt.outcome for attempt in attempts] == [Outcome.WRONG_CHECKSUM, Outcome.LOADED]

    def test_the_wrong_checksum_is_refused_even_where_unknown_ones_are_allowed(self, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.bin"
        wrong.write_bytes(DATA + b"!")
        error, outcomes = refused(replace(SPEC, sources=(str(wrong),)), CheckpointUntrusted, allow_unknown=True)
        assert outcomes == ["wrong-checksum"]
        assert hashlib.sha256(DATA + b"!").hexdigest() in error.message
        assert PINNED in error.message

    def test_without_a_pin_it_is_refused_and_told_how_to_pin_it(self, folder: Path) -> None:
        error, outcomes = refused(replace(SPEC, sha256=None, sources=(str(folder),)), CheckpointUntrusted)
        assert outcomes == ["not-pinned"]
        assert PINNED in error.message
        assert "sha256" in error.hint
        assert "allow_unknown_checkpoints" in error.hint

    def test_without_a_pin_it_is_loaded_on_request(self, folder: Path) -> None:
        built, checkpoint, _ = load(replace(SPEC, sha256=None, sources=(str(folder),)), allow_unknown=True)
        assert built == DATA
        assert (checkpoint.sha256, checkpoint.pinned) == (PINNED, False)

    def test_what_was_refused_is_never_built(self, folder: Path) -> None:
        def build(checkpoint: Checkpoint) -> bytes:
            raise AssertionError("built what was not checked")

        for spec in (replace(SPEC, sha256=None), replace(SPEC, sha256="0" * 64)):
            refused(replace(spec, sources=(str(folder),)), CheckpointUntrusted, build=build)

    def test_a_file_swapped_after_the_check_is_not_what_is_built(self, folder: Path) -> None:
        def build(checkpoint: Checkpoint) -> bytes:
            (folder / "pytorch_model.bin").write_bytes(b"something else")
            return checkpoint.data

        assert load(replace(SPEC, sources=(str(folder),)), build)[0] == DATA

    def test_the_bytes_are_not_printed(self, folder: Path) -> None:
        assert "a checkpoint" not in repr(load(replace(SPEC, sources=(str(folder),)))[1])


class TestBuilding:
    def test_a_checkpoint_that_cannot_be_built_is_passed_over(self, folder: Path, tmp_path: Path) -> None:
        damaged = tmp_path / "damaged.bin"
        damaged.write_bytes(b"damaged")

        def build(checkpoint: Checkpoint) -> bytes:
            if checkpoint.data == b"damaged":
                raise ModelUnavailable("it is damaged")
            return checkpoint.data

        spec = replace(SPEC, sha256=None, sources=(str(damaged), str(folder)))
        built, _, attempts = load(spec, build, allow_unknown=True)
        assert built == DATA
        assert attempts[0] == Attempt(str(damaged), Outcome.UNUSABLE, "it is damaged")
        error, outcomes = refused(
            replace(spec, sources=spec.sources[:1]), ModelUnavailable, build=build, allow_unknown=True
        )
        assert outcomes == ["unusable"]
        assert isinstance(error.__cause__, ModelUnavailable)

    def test_the_wrong_dimension_ends_the_search(self, folder: Path) -> None:
        built: list[str] = []

        def build(checkpoint: Checkpoint) -> bytes:
            built.append(checkpoint.source)
            raise DimensionMismatch("512 and not 256")

        with pytest.raises(DimensionMismatch):
            load(replace(SPEC, sources=(str(folder), str(folder / "pytorch_model.bin"))), build)
        assert built == [str(folder)]

    def test_no_sources_are_a_mistake_in_the_settings(self) -> None:
        with pytest.raises(ConfigurationError):
            load(replace(SPEC, sources=()))


@dataclass
class FakeHub:
    """Stands in for the hub: `error` is what asking for the file raises, `file` what a download gives."""

    file: Path | None = None
    error: Exception | None = None
    calls: list[str] = field(default_factory=list)
    tokens: set[Any] = field(default_factory=set)

    def ask(self, url: str, *, token: Any = None, timeout: float) -> None:
        self.calls.append("ask")
        self.tokens.add(token)
        assert "someone/model" in url
        assert timeout <= 30
        if self.error is not None:
            raise self.error

    def download(self, repo: str, name: str, *, local_files_only: bool = False, **options: Any) -> str:
        assert (repo, name, options["revision"]) == ("someone/model", "pytorch_model.bin", "abc")
        self.calls.append("cache" if local_files_only else "download")
        if self.file is None:
            raise errors.LocalEntryNotFoundError("not in the cache")
        self.tokens.add(options.get("token"))
        return str(self.file)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fake.ask)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.download)
    return fake


def answer(error_class: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    """The hub's own exception, as it really is: it holds the request, and the request holds the token."""

    class Message:
        status_code = status
        headers: dict[str, str] = {}  # noqa: RUF012
        request = f"GET with Authorization: Bearer {SECRET}"

    return error_class(f"{status} for Bearer {SECRET}", response=Message())


@pytest.mark.usefixtures("hub")
class TestHub:
    @pytest.fixture(autouse=True)
    def online(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_HUB_OFFLINE")

    def test_gives_the_file(self, hub: FakeHub, folder: Path) -> None:
        hub.file = folder / "pytorch_model.bin"
        assert load(replace(SPEC, sources=("hub",)))[0] == DATA
        assert hub.calls == ["ask", "download"]

    def test_the_cache_is_read_without_asking_anybody(self, hub: FakeHub, folder: Path) -> None:
        hub.file = folder / "pytorch_model.bin"
        _, checkpoint, _ = load(SPEC)
        assert checkpoint.source == "cache"
        assert hub.calls == ["cache"]

    def test_sources_are_tried_in_their_order(self, hub: FakeHub, folder: Path) -> None:
        hub.error = answer(errors.GatedRepoError, 403)
        _, checkpoint, attempts = load(replace(SPEC, sources=("cache", "hub", str(folder))))
        assert checkpoint.source == str(folder)
        assert [(a.source, a.outcome) for a in attempts] == [
            ("cache", Outcome.NOT_FOUND),
            ("hub", Outcome.TERMS_NOT_ACCEPTED),
            (str(folder), Outcome.LOADED),
        ]

    @pytest.mark.parametrize(
        ("error", "with_token", "error_class", "outcome", "hint"),
        [
            (answer(errors.GatedRepoError, 401), False, ModelAccessDenied, "token-needed", "HF_TOKEN"),
            (answer(errors.RepositoryNotFoundError, 401), False, ModelAccessDenied, "token-needed", "HF_TOKEN"),
            (answer(errors.HfHubHTTPError, 401), True, ModelAccessDenied, "token-refused", "new token"),
            (answer(errors.GatedRepoError, 401), True, ModelAccessDenied, "token-refused", "new token"),
            (answer(errors.GatedRepoError, 403), True, ModelAccessDenied, "terms-not-accepted", "co/someone/model"),
            (answer(errors.HfHubHTTPError, 403), True, ModelAccessDenied, "token-refused", "new token"),
            (answer(errors.RepositoryNotFoundError, 404), True, ModelUnavailable, "not-found", "sources"),
            (answer(errors.RevisionNotFoundError, 404), True, ModelUnavailable, "not-found", "sources"),
            (answer(errors.RemoteEntryNotFoundError, 404), True, ModelUnavailable, "not-found", "sources"),
            (answer(errors.HfHubHTTPError, 503), True, ModelOffline, "offline", "sources"),
            (errors.HTTPError(f"no route for {SECRET}"), True, ModelOffline, "offline", "sources"),
            (ConnectionError(f"refused for {SECRET}"), True, ModelOffline, "offline", "sources"),
            (TimeoutError(), True, ModelOffline, "offline", "sources"),
            (errors.OfflineModeIsEnabled(), True, ModelOffline, "offline", "sources"),
            (errors.HFValidationError(SECRET), True, ModelUnavailable, "not-found", "sources"),
        ],
    )
    def test_its_refusals_are_told_apart_and_no_token_is_shown(
        self,
        hub: FakeHub,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
        with_token: bool,
        error_class: type[ModelUnavailable],
        outcome: str,
        hint: str,
    ) -> None:
        if with_token:
            monkeypatch.setenv("HF_TOKEN", SECRET)
        hub.error = error
        raised, outcomes = refused(replace(SPEC, sources=("hub",)), error_class)
        assert outcomes == [outcome]
        assert hint in raised.hint
        assert "offline" not in raised.message or outcome == "offline"
        assert hub.calls == ["ask"]
        assert_secret(raised, caplog)

    @pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGINGFACE_TOKEN", "HUGGINGFACE_ACCESS_TOKEN"])
    def test_each_token_variable_is_used(
        self, hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        hub.file = folder / "pytorch_model.bin"
        monkeypatch.setenv("HF_TOKEN", "")
        monkeypatch.setenv(name, f" {SECRET}\n")
        load(replace(SPEC, sources=("hub",)))
        assert hub.tokens == {SECRET}

    def test_the_first_token_variable_wins(self, hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.file = folder / "pytorch_model.bin"
        monkeypatch.setenv("HUGGINGFACE_TOKEN", "hf_second")
        monkeypatch.setenv("HF_TOKEN", SECRET)
        load(replace(SPEC, sources=("hub",)))
        assert hub.tokens == {SECRET}

    @pytest.mark.parametrize("value", [f"{SECRET}\nX-Header: 1", f"{SECRET} {SECRET}", f"{SECRET}\u00e9"])
    def test_what_cannot_be_a_token_is_never_sent(
        self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
    ) -> None:
        monkeypatch.setenv("HUGGINGFACE_TOKEN", value)
        raised, outcomes = refused(replace(SPEC, sources=("hub",)), ModelAccessDenied)
        assert outcomes == ["token-refused"]
        assert "HUGGINGFACE_TOKEN" in raised.message
        assert hub.calls == []
        assert_secret(raised, caplog)

    @pytest.mark.parametrize("value", ["1", "true", "ON", "yes"])
    def test_is_not_asked_when_it_is_switched_off(
        self, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        error, outcomes = refused(SPEC, ModelOffline)
        assert outcomes == ["not-found", "offline"]
        assert "HF_HUB_OFFLINE" in error.message
        assert hub.calls == ["cache"]


def assert_secret(error: SpeakerDBError, caplog: pytest.LogCaptureFixture) -> None:
    """The token is in no text, no chained exception, no log, and in nothing that crosses a process border."""
    assert SECRET not in "".join(traceback.format_exception(error))
    assert SECRET not in repr((error, error.hint, error.details))
    assert SECRET not in caplog.text
    assert SECRET.encode() not in pickle.dumps(error)
    assert error.__cause__ is None


def test_the_real_library_reads_an_empty_cache_without_network() -> None:
    """Not mocked: HF_HUB_OFFLINE is set for all tests, and every connection is refused."""
    _, outcomes = refused(SPEC, ModelOffline)
    assert outcomes == ["not-found", "offline"]


def test_the_real_library_offline_ends_after_one_try(
    monkeypatch: pytest.MonkeyPatch, refuse_network: list[str]
) -> None:
    """Not mocked: the hub's address cannot be looked up, and it is asked for once only."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    import socket

    asked: list[str] = []

    def no_name(host: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(str(host))
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    _, outcomes = refused(replace(SPEC, sources=("hub",)), ModelOffline)
    assert outcomes == ["offline"]
    assert len(asked) == 1
