"""Finding a model's checkpoint: an ordered list of sources, each tried and reported, and checked before it is loaded.

A source is ``hub`` (needs network), ``cache`` (what the hub left on this disk) or a path to a file or folder.
A checkpoint is a program: its bytes are read once, their SHA-256 is compared with the pinned one, and those very bytes
are handed on, so that nobody can change the file between the check and the load.

No message, and no exception that is passed on, carries a token: the hub's own exceptions hold the request with its
headers, and are therefore translated and not chained.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from speakerdb.errors import CheckpointUntrusted, ConfigurationError, ModelAccessDenied, ModelUnavailable
from speakerdb.settings import TOKEN_VARIABLES
from speakerdb.types import ModelSpec

HUB = "hub"
CACHE = "cache"
CHECKPOINT_FILE = "pytorch_model.bin"
HUB_TIMEOUT = 10.0
"""Seconds the hub has for each answer. There is one try: whoever is offline learns it at once."""
MAX_BYTES = 2 * 1024**3
"""A checkpoint of an embedding model has some tens of MB; what is larger than this is something else."""

_T = TypeVar("_T")


class Outcome(StrEnum):
    """What came of one source."""

    LOADED = "loaded"
    NOT_FOUND = "not-found"
    OFFLINE = "offline"
    """The hub was not asked, or did not answer."""
    TOKEN_NEEDED = "token-needed"  # noqa: S105 - a word, no password
    TOKEN_REFUSED = "token-refused"  # noqa: S105
    TERMS_NOT_ACCEPTED = "terms-not-accepted"
    NOT_PINNED = "not-pinned"
    WRONG_CHECKSUM = "wrong-checksum"
    UNUSABLE = "unusable"
    """There is a file, but it cannot be read, or is not a checkpoint of this model."""


_DENIED = (Outcome.TERMS_NOT_ACCEPTED, Outcome.TOKEN_REFUSED, Outcome.TOKEN_NEEDED)
_UNTRUSTED = (Outcome.WRONG_CHECKSUM, Outcome.NOT_PINNED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One source that was tried. `detail` is for a person and never holds a token."""

    source: str
    outcome: Outcome
    detail: str

    def __str__(self) -> str:
        return f"{self.source}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The bytes of a checkpoint whose checksum was accepted. `pinned` is False where it was accepted unseen."""

    data: bytes = field(repr=False)
    sha256: str
    pinned: bool
    source: str


def load_first(
    spec: ModelSpec, build: Callable[[Checkpoint], _T], *, allow_unknown: bool
) -> tuple[_T, Checkpoint, tuple[Attempt, ...]]:
    """What `build` makes of the first source that has an acceptable checkpoint, that checkpoint, and every attempt.

    A source is passed over, and reported, when it has no file, the wrong checksum, no pinned checksum (unless
    `allow_unknown`), or when `build` raises `ModelUnavailable`; other errors of `build` end the search.

    When none is left, with `details["attempts"]`: `CheckpointUntrusted` if a file was there but not trusted, else
    `ModelAccessDenied` if the hub refused, else `ModelUnavailable`.
    """
    if not spec.sources:
        raise ConfigurationError(
            f"The model {spec.id} has no sources.", hint="Give `hub`, `cache` or a path in `sources`."
        )
    attempts: list[Attempt] = []
    cause: Exception | None = None
    for source in spec.sources:
        found = _locate(spec, source)
        checkpoint = found if isinstance(found, Attempt) else _checked(spec, source, found, allow_unknown)
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
    raise _refusal(spec, attempts) from cause


def _locate(spec: ModelSpec, source: str) -> Path | Attempt:
    if source in (HUB, CACHE):
        return _from_hub(spec, source)
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


def _checked(spec: ModelSpec, source: str, path: Path, allow_unknown: bool) -> Checkpoint | Attempt:
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
    if spec.sha256 is None and not allow_unknown:
        return Attempt(source, Outcome.NOT_PINNED, f"{path} has SHA-256 {digest}, and none is pinned")
    if spec.sha256 is not None and digest != spec.sha256:
        return Attempt(source, Outcome.WRONG_CHECKSUM, f"{path} has SHA-256 {digest}, but {spec.sha256} is pinned")
    return Checkpoint(data, digest, pinned=spec.sha256 is not None, source=source)


def _hub_is_switched_off() -> bool:
    # The hub's library reads this once, at its first import; we ask each time.
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE")


def _token() -> tuple[str, str] | None:
    """Name and value of the first token variable that is set."""
    for name in TOKEN_VARIABLES:
        value = os.environ.get(name, "").strip()
        if value:
            return name, value
    return None


def _from_hub(spec: ModelSpec, source: str) -> Path | Attempt:
    """The checkpoint in the hub's cache; for the source ``hub`` it is fetched into it first, if it is not there."""
    if source == HUB and _hub_is_switched_off():
        return Attempt(source, Outcome.OFFLINE, "not asked, because HF_HUB_OFFLINE is set")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub as hub
    from huggingface_hub import errors

    where = {"subfolder": spec.subfolder, "revision": spec.revision}
    token = _token()
    if source == CACHE:
        try:
            return Path(hub.hf_hub_download(spec.id, CHECKPOINT_FILE, local_files_only=True, **where))
        except errors.LocalEntryNotFoundError:
            return Attempt(source, Outcome.NOT_FOUND, "the hub's cache on this machine does not have it")
        except (OSError, ValueError) as error:
            # ValueError: the id is none that a hub repository can have.
            return Attempt(source, Outcome.UNUSABLE, f"the hub's cache cannot be used ({type(error).__name__})")
    if token is not None and not (token[1].isascii() and token[1].isprintable() and " " not in token[1]):
        # Sent as it is, it would come back in the text of an exception.
        return Attempt(source, Outcome.TOKEN_REFUSED, f"the value of {token[0]} cannot be a token")
    value = token[1] if token is not None else None
    try:
        # Asking first, with one try and a time limit, tells why the hub refuses; a download that fails says "offline"
        # for most reasons, and only after half a minute of retries.
        hub.get_hf_file_metadata(hub.hf_hub_url(spec.id, CHECKPOINT_FILE, **where), token=value, timeout=HUB_TIMEOUT)
        return Path(hub.hf_hub_download(spec.id, CHECKPOINT_FILE, token=value, etag_timeout=HUB_TIMEOUT, **where))
    except errors.HfHubHTTPError as error:
        return _refused_by_hub(spec, error, token[0] if token is not None else None)
    except (errors.HTTPError, errors.XetDownloadError, OSError) as error:
        # errors.HTTPError is the base class of the hub's HTTP client: no route, no name, a time-out, a broken answer.
        return Attempt(source, Outcome.OFFLINE, f"the hub could not be reached ({type(error).__name__})")
    except ValueError as error:
        return Attempt(
            source, Outcome.NOT_FOUND, f"{spec.id!r} is no name of a hub repository ({type(error).__name__})"
        )


def _refused_by_hub(spec: ModelSpec, error: Any, variable: str | None) -> Attempt:
    """The hub answered, but not with the file: which of its reasons it was, by class and status."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = int(error.response.status_code)
    if status == 401 and variable is not None:
        return Attempt(HUB, Outcome.TOKEN_REFUSED, f"the hub does not accept the token in {variable} (401)")
    if status == 401:
        return Attempt(HUB, Outcome.TOKEN_NEEDED, f"the hub shows {spec.id} only to those who have a token (401)")
    if isinstance(error, GatedRepoError):
        return Attempt(HUB, Outcome.TERMS_NOT_ACCEPTED, f"the terms of {spec.id} were not accepted ({status})")
    if isinstance(error, RevisionNotFoundError):
        return Attempt(HUB, Outcome.NOT_FOUND, f"{spec.id} has no revision {spec.revision} ({status})")
    if isinstance(error, RepositoryNotFoundError):
        return Attempt(HUB, Outcome.NOT_FOUND, f"the hub has no repository {spec.id} ({status})")
    if isinstance(error, EntryNotFoundError):
        return Attempt(HUB, Outcome.NOT_FOUND, f"{spec.id} has no file {CHECKPOINT_FILE} there ({status})")
    if status == 403:
        return Attempt(HUB, Outcome.TOKEN_REFUSED, f"the token may not read {spec.id} (403)")
    return Attempt(HUB, Outcome.OFFLINE, f"the hub answered {status}")


def _refusal(spec: ModelSpec, attempts: Sequence[Attempt]) -> ModelUnavailable:
    outcomes = {attempt.outcome: attempt for attempt in reversed(attempts)}
    tried = "; ".join(map(str, attempts))
    details = [{"source": a.source, "outcome": a.outcome.value, "detail": a.detail} for a in attempts]
    for outcome in (*_UNTRUSTED, *_DENIED):
        if outcome in outcomes:
            error_class: type[ModelUnavailable] = CheckpointUntrusted if outcome in _UNTRUSTED else ModelAccessDenied
            return error_class(
                f"The model {spec.id} was refused. {tried}.", hint=_hint(spec, outcome), attempts=details
            )
    return ModelUnavailable(
        f"The model {spec.id} could not be loaded. {tried}.", hint=_hint(spec, None), attempts=details
    )


def _hint(spec: ModelSpec, outcome: Outcome | None) -> str:
    page = f"https://huggingface.co/{spec.id}"
    match outcome:
        case Outcome.WRONG_CHECKSUM:
            return "Get the file again from where the pinned one came from. Another model is a new generation."
        case Outcome.NOT_PINNED:
            return (
                "A checkpoint is a program. If you trust where it came from, pin it: put the SHA-256 shown above into "
                "`sha256` of its generation in speakerdb.toml (`[generations.NAME]`), or "
                "SPEAKERDB_GENERATIONS__NAME__SHA256. To load any file unseen, set `allow_unknown_checkpoints`."
            )
        case Outcome.TERMS_NOT_ACCEPTED:
            return f"Accept the model's terms at {page} with the account the token belongs to, then try again."
        case Outcome.TOKEN_NEEDED:
            return f"Accept the model's terms at {page}, make a token, and set it as {TOKEN_VARIABLES[0]}."
        case Outcome.TOKEN_REFUSED:
            return f"Make a new token that may read {page} (gated models too), and set it as {TOKEN_VARIABLES[0]}."
        case _:
            return (
                "Put a local file or folder first in `sources` of its generation, or make the hub reachable "
                f"(the model's page is {page})."
            )
