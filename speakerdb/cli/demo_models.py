"""Which models the demo uses: a given file or folder, the real ones of the hub, or the stand-ins; and it says which."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from speakerdb.errors import ConfigurationError, ExtractionError, ModelUnavailable
from speakerdb.generations import BUILT_IN
from speakerdb.models.registry import STAND_INS, load_embedder
from speakerdb.settings import TOKEN_VARIABLES, GenerationSettings

STAND_IN_FOLDERS = {"v3": "standin-xvector-sincnet", "v4": "standin-wespeaker-resnet34"}
CHECKPOINT_FILE = "pytorch_model.bin"
DEFAULT_FOLDER = Path("tests", "assets", "models")


@dataclass(frozen=True, slots=True)
class DemoModel:
    """The model of one generation: its settings, and one line that says what it is."""

    settings: GenerationSettings
    line: str
    stand_in: bool


def stand_in_folder(given: Path | None) -> Path:
    """The folder of the stand-in checkpoints: the given one, else the project's. `ConfigurationError` without one."""
    project = Path(__file__).resolve().parents[2]
    for folder in (given,) if given is not None else (DEFAULT_FOLDER, project / DEFAULT_FOLDER):
        if all((folder / name / CHECKPOINT_FILE).is_file() for name in STAND_IN_FOLDERS.values()):
            return folder.resolve()
    raise ConfigurationError(
        f"The stand-in checkpoints are not in {given or DEFAULT_FOLDER}.",
        hint="Run `make demo` in a clone of speakerdb, or give `--models FOLDER`, or `--v3-model` and `--v4-model`.",
    )


def choose_models(given: Mapping[str, Path | None], folder: Path | None) -> dict[str, DemoModel]:
    """A model for each generation: the given one, else the hub's where a token is set and it loads, else a stand-in."""
    chosen = {name: _local(name, path) for name, path in given.items() if path is not None}
    missing = [name for name in STAND_IN_FOLDERS if name not in chosen]
    if not missing:
        return chosen
    refused = None
    if any(os.environ.get(variable) for variable in TOKEN_VARIABLES):
        try:
            return chosen | {name: _from_hub(name) for name in missing}
        except ExtractionError as error:
            refused = f"the hub's model was not loaded: {error.message}"
    models = stand_in_folder(folder)
    return chosen | {name: _stand_in(name, models, refused) for name in missing}


def _stand_in(name: str, models: Path, refused: str | None) -> DemoModel:
    checkpoint = STAND_IN_FOLDERS[name]
    pinned = {folder: sha256 for sha256, folder in STAND_INS.items()}[checkpoint]
    settings = GenerationSettings(model=f"speakerdb/{checkpoint}", sha256=pinned, sources=(str(models / checkpoint),))
    why = f" ({refused})" if refused else ""
    line = f"{checkpoint}, a stand-in with the class and dimension of {BUILT_IN[name].model.id}{why}"
    return DemoModel(settings, line, stand_in=True)


def _local(name: str, path: Path) -> DemoModel:
    """A checkpoint that was named on the command line: whoever names it trusts it, so it is pinned as it is now."""
    model = BUILT_IN[name].model
    folders = [path / model.subfolder, path] if model.subfolder else [path]
    file = next((f / CHECKPOINT_FILE for f in folders if (f / CHECKPOINT_FILE).is_file()), path)
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelUnavailable(
            f"The {name} model {path} cannot be read: {error}.",
            hint=f"Give {CHECKPOINT_FILE} or the folder that holds it.",
        ) from error
    resolved = str(path.resolve())
    stand_in = digest in STAND_INS
    if digest == model.sha256:
        return DemoModel(GenerationSettings(sources=(resolved,)), f"{model.id}, from {path}", stand_in)
    name_shown = STAND_INS.get(digest, path.name)
    settings = GenerationSettings(model=f"local/{name_shown}", sha256=digest, sources=(resolved,))
    return DemoModel(settings, f"{name_shown}, from {path} (SHA-256 {digest[:12]})", stand_in)


def _from_hub(name: str) -> DemoModel:
    """The model of the hub, if it loads now; what `load_embedder` raises if it does not."""
    model = BUILT_IN[name].model
    # The v3 repository states no checksum to pin. Its revision is pinned, and what loads here is pinned for this demo.
    loaded = load_embedder(model, device="cpu", allow_unknown=model.sha256 is None)
    return DemoModel(GenerationSettings(sha256=loaded.checksum), f"{model.id}, from the hub", stand_in=False)
