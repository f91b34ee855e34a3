"""Finding a model's checkpoint: an ordered list of sources, each tried and reported, and checked before it is loaded.

speakerdb's own store of models comes first. A source is ``hub`` (needs network), ``cache`` (what the hub left on this
disk) or a path to a file or folder. A checkpoint is a program: its bytes are read once, their SHA-256 is compared with
the pinned one, and those very bytes are handed on, so that nobody can change the file between the check and the load.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from speakerdb.errors import (
    CheckpointUntrusted,
    ConfigurationError,
    ModelAccessDenied,
    ModelOffline,
    ModelUnavailable,
)
from speakerdb.models import hub
from speakerdb.models.hub import CACHE, CHECKPOINT_FILE, HUB, STORE, Attempt, Outcome
from speakerdb.models.store import ModelStore
from speakerdb.types import ModelSpec

MAX_BYTES = 2 * 1024**3
"""A checkpoint of an embedding model has some tens of MB; what is larger than this is something else."""

_T = TypeVar("_T")

_DENIED = (Outcome.TERMS_NOT_ACCEPTED, Outcome.TOKEN_REFUSED, Outcome.TOKEN_NEEDED)
_UNTRUSTED = (Outcome.WRONG_CHECKSUM, Outcome.NOT_PINNED)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The bytes of a checkpoint whose checksum was accepted. `pinned` is False where it was accepted unseen."""

    data: bytes = field(repr=False)
    sha256: str
    pinned: bool
    source: str


def load_first(
    spec: ModelSpec,
    build: Callable[[Checkpoint], _T],
    *,
    allow_unknown: bool,
    store: ModelStore | None = None,
    offline: bool = False,
) -> tuple[_T, Checkpoint, tuple[Attempt, ...]]:
    """What `build` makes of the first source that has an acceptable checkpoint, that checkpoint, and every attempt.

    A source is passed over, and reported, when it has no file, the wrong checksum, no pinned checksum (unless
    `allow_unknown`), or when `build` raises `ModelUnavailable`; other errors of `build` end the search. With `offline`
    the hub is not asked, by anything in this process.

    When none is left, with `details["attempts"]`: `CheckpointUntrusted` if a file was there but not trusted, else
    `ModelAccessDenied` if the hub refused, else `ModelOffline` if the hub was not or could not be asked, else
    `ModelUnavailable`.
    """
    if not spec.sources:
        raise ConfigurationError(
            f"The model {spec.id} has no sources.", hint="Give `hub`, `cache` or a path in `sources`."
        )
    if offline:
        hub.go_offline()
    attempts: list[Attempt] = []
    cause: Exception | None = None
    for source in ((STORE,) if store is not None else ()) + spec.sources:
        found = locate(spec, source, store=store, offline=offline)
        checkpoint = found if isinstance(found, Attempt) else checked(spec, source, found, allow_unknown)
        if isinstance(checkpoint, Attempt):
            attempts.append(checkpoint)
            continue
        try:
            built = build(checkpoint)
        except ModelUnavailable as error:
            cause = error
            attempts.append(Attempt(source, Outcome.UNUSABLE, error.message))
            continue
        attempts.append(Attempt(source, Outcome.LOADED, f"loaded, SHA-256 {checkpoint.sha256}"))
        return built, checkpoint, tuple(attempts)
    raise refusal(spec, attempts) from cause


def locate(spec: ModelSpec, source: str, *, store: ModelStore | None = None, offline: bool = False) -> Path | Attempt:
    """The file that a source has, its content unseen; for ``hub`` it is fetched into the hub's cache first."""
    if source == STORE and store is not None:
        return store.find(spec) or Attempt(STORE, Outcome.NOT_FOUND, "speakerdb's own models do not have it")
    if source == HUB:
        if offline:
            return Attempt(HUB, Outcome.OFFLINE, "not asked, because the setting models.offline is on")
        return hub.download(spec)
    if source == CACHE:
        return hub.from_cache(spec)
    path = Path(source).expanduser()
    folders = [path / spec.subfolder, path] if spec.subfolder else [path]
    try:
        # Look before anybody else does: pyannote takes a path that is not there for the name of a hub repository.
        if path.is_file():
            return path
        if path.is_dir():
            for folder in folders:
                if (folder / CHECKPOINT_FILE).is_file():
                    return folder / CHECKPOINT_FILE
            return Attempt(source, Outcome.NOT_FOUND, f"the folder has no {CHECKPOINT_FILE}")
    except OSError as error:
        return Attempt(source, Outcome.UNUSABLE, f"cannot be read ({error.strerror})")
    return Attempt(source, Outcome.NOT_FOUND, "there is no such file or folder")


def checked(spec: ModelSpec, source: str, path: Path, allow_unknown: bool) -> Checkpoint | Attempt:
    """The bytes of a file whose checksum is acceptable, or why they are not."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                return Attempt(
                    source, Outcome.UNUSABLE, f"{path} is no checkpoint: not a file, or above {MAX_BYTES} bytes"
                )
            data = file.read()
    except OSError as error:
        return Attempt(source, Outcome.UNUSABLE, f"{path} cannot be read ({error.strerror})")
    digest = hashlib.sha256(data).hexdigest()
    if spec.sha256 is not None and digest != spec.sha256:
        return Attempt(source, Outcome.WRONG_CHECKSUM, f"{path} has SHA-256 {digest}, but {spec.sha256} is pinned")
    if source == STORE and digest != path.parent.name:
        # Without a pin the store still knows what it was given.
        return Attempt(source, Outcome.WRONG_CHECKSUM, f"{path} has SHA-256 {digest}; it was changed or is damaged")
    if spec.sha256 is None and not allow_unknown:
        return Attempt(source, Outcome.NOT_PINNED, f"{path} has SHA-256 {digest}, and none is pinned")
    return Checkpoint(data, digest, pinned=spec.sha256 is not None, source=source)


def refusal(spec: ModelSpec, attempts: Sequence[Attempt]) -> ModelUnavailable:
    """The error that says why no source could be used."""
    outcomes = {attempt.outcome for attempt in attempts}
    tried = "; ".join(map(str, attempts))
    details = [{"source": a.source, "outcome": a.outcome.value, "detail": a.detail} for a in attempts]
    for outcome in (*_UNTRUSTED, *_DENIED):
        if outcome in outcomes:
            error_class: type[ModelUnavailable] = CheckpointUntrusted if outcome in _UNTRUSTED else ModelAccessDenied
            return error_class(
                f"The model {spec.id} was refused. {tried}.", hint=hub.hint(spec, outcome), attempts=details
            )
    if Outcome.OFFLINE in outcomes:
        revision = f" (revision {spec.revision})" if spec.revision else ""
        return ModelOffline(
            f"The model {spec.id}{revision} is not on this machine. {tried}.",
            hint=hub.hint(spec, Outcome.OFFLINE),
            attempts=details,
        )
    return ModelUnavailable(
        f"The model {spec.id} could not be loaded. {tried}.", hint=hub.hint(spec, None), attempts=details
    )
