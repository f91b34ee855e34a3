"""With models.offline nothing on this machine is asked for over the network: not here, and not in a worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from speakerdb.errors import ModelOffline, SpeakerDBError
from speakerdb.executors import ProcessExecutor
from speakerdb.extraction.extract import Loader
from speakerdb.generations import V3
from speakerdb.service import SpeakerDB
from speakerdb.settings import GenerationSettings, ModelSettings, Settings
from speakerdb.testing.factories import two_voices
from speakerdb.types import Generation
from tests.audio_files import write

Answer = tuple[str, list[str], str | None]


def watch(reached: list[str]) -> None:
    """Every socket that is opened, and every name that is looked up, is refused and recorded."""

    def refuse(what: str) -> Callable[..., Any]:
        def refused(*arguments: Any, **options: Any) -> Any:
            reached.append(f"{what} {arguments[1:2]}")
            raise OSError("refused by the test")

        return refused

    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, refuse(name))
    socket.getaddrinfo = refuse("look-up")
    socket.create_connection = refuse("connection")


def load_watched(task: tuple[Loader, Generation]) -> Answer:
    """In a worker: what loading ends with, what was reached on the way, and what HF_HUB_OFFLINE is then."""
    reached: list[str] = []
    watch(reached)
    os.environ.pop("HF_HUB_OFFLINE", None)
    loader, generation = task
    try:
        loader(generation)
    except SpeakerDBError as error:
        return error.code, reached, os.environ.get("HF_HUB_OFFLINE")
    return "loaded", reached, os.environ.get("HF_HUB_OFFLINE")


def test_no_socket_is_opened_in_a_worker(tmp_path: Path) -> None:
    executor = ProcessExecutor(1)
    try:
        offline: Future[Answer] = executor.submit(load_watched, (Loader("cpu", offline=True, folder=tmp_path), V3))
        assert offline.result(60) == ("model-offline", [], "1")
    finally:
        executor.close()


def test_the_watcher_sees_what_a_worker_asks_for_where_it_may(tmp_path: Path) -> None:
    """The same without the setting: so the test above can fail."""
    executor = ProcessExecutor(1)
    try:
        online: Future[Answer] = executor.submit(load_watched, (Loader("cpu", folder=tmp_path), V3))
        code, reached, _ = online.result(60)
    finally:
        executor.close()
    assert code == "model-offline"
    assert reached


def test_no_socket_is_opened_by_a_whole_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse_network: list[str]
) -> None:
    """In this process (executor inline): adding, working, matching, the pre-flight; the network is refused by the fixture
    that all tests have, and it recorded nothing."""
    import numpy as np
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    sound = tmp_path / "a.wav"
    write(sound, 0.1 * np.sin(np.arange(16000 * 20) / 9).astype(np.float32), 16000, codec="pcm_s16le")
    settings = Settings(
        data_dir=tmp_path / "data",
        executor="inline",
        disk_floor_mb=0,
        models=ModelSettings(offline=True),
        generations={"v3": GenerationSettings(sources=("hub", "cache"))},
    )
    with SpeakerDB.open(settings) as db:
        db.add(sound, two_voices())
        with pytest.raises(ModelOffline) as caught:
            db.work()
        assert "models install" in caught.value.hint
        assert not db.preflight("v3").passed
    assert refuse_network == []
    assert os.environ["HF_HUB_OFFLINE"] == "1"
