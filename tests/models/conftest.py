"""Definitions of the stand-in models, and the two loaded once a session."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from speakerdb.generations import V3, V4
from speakerdb.models.registry import LoadedModel, load_embedder
from speakerdb.types import ModelSpec


def _standin(folder: Path, spec: ModelSpec) -> ModelSpec:
    digest = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    return replace(spec, id=folder.name, revision=None, sha256=digest, sources=(str(folder),))


@pytest.fixture(scope="session")
def standin_v4(standin_models: Path) -> ModelSpec:
    return _standin(standin_models / "standin-wespeaker-resnet34", V4.model)


@pytest.fixture(scope="session")
def standin_v3(standin_models: Path) -> ModelSpec:
    return _standin(standin_models / "standin-xvector-sincnet", V3.model)


@pytest.fixture(scope="session")
def loaded_v4(standin_v4: ModelSpec) -> LoadedModel:
    return load_embedder(standin_v4, device="cpu")


@pytest.fixture(scope="session")
def loaded_v3(standin_v3: ModelSpec) -> LoadedModel:
    return load_embedder(standin_v3, device="cpu")
