"""The model hub: asking it, downloading from it, its cache on this disk, and why it refuses.

No message, and no exception that is passed on, carries a token: the hub's own exceptions hold the request with its
headers, and are therefore translated and not chained.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from speakerdb.settings import TOKEN_VARIABLES
from speakerdb.types import ModelSpec

HUB = "hub"
CACHE = "cache"
STORE = "store"
"""The folder of models that speakerdb keeps itself; never written as a source, it always comes first."""
CHECKPOINT_FILE = "pytorch_model.bin"
HUB_TIMEOUT = 10.0
"""Seconds the hub has for each answer. There is one try: whoever is offline learns it at once."""
OLD_CACHE_VARIABLE = "PYANNOTE_CACHE"

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


@dataclass(frozen=True, slots=True)
class Attempt:
    """One source that was tried. `detail` is for a person and never holds a token."""

    source: str
    outcome: Outcome
    detail: str

    def __str__(self) -> str:
        return f"{self.source}: {self.detail}"


def page_of(model_id: str) -> str:
    """The address of a model's page, where its terms stand."""
    return f"https://huggingface.co/{model_id}"


def go_offline() -> None:
    """From now on nothing in this process, or in one that it starts, asks the hub."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if "huggingface_hub" in sys.modules:
        # The hub's library reads the variable once, at its first import.
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True


def switched_off() -> bool:
    """Whether HF_HUB_OFFLINE forbids asking. The hub's library reads it once; we ask each time."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE")


def token_variable() -> str | None:
    """The name of the first token variable that is set."""
    found = _token()
    return None if found is None else found[0]


def saved_token() -> Path | None:
    """The file of a token that the hub's own log-in saved; None where there is none. It is not opened."""
    path = Path(_constants().HF_TOKEN_PATH)
    return path if path.is_file() else None


def old_cache_notice() -> str | None:
    """What a person should read who still sets the variable of pyannote.audio 3."""
    if not os.environ.get(OLD_CACHE_VARIABLE):
        return None
    return (
        f"{OLD_CACHE_VARIABLE} is set and is not used: pyannote.audio 4 keeps models in the hub's cache, which HF_HOME"
        " moves. Unset it; `speakerdb models list` shows where models are looked for."
    )


def cache_folder(model_id: str) -> Path:
    """Where the hub's cache keeps a model (HF_HOME is honoured); it need not be there."""
    return Path(_constants().HF_HUB_CACHE) / f"models--{model_id.replace('/', '--')}"


def from_cache(spec: ModelSpec, *, file: str = CHECKPOINT_FILE) -> Path | Attempt:
    """The checkpoint (or another file beside it) in the hub's cache. Asks nobody."""
    hub = _library()
    from huggingface_hub import errors

    try:
        return Path(hub.hf_hub_download(spec.id, file, local_files_only=True, **_where(spec)))
    except errors.LocalEntryNotFoundError:
        return Attempt(CACHE, Outcome.NOT_FOUND, "the hub's cache on this machine does not have it")
    except (OSError, ValueError) as error:
        # ValueError: the id is none that a hub repository can have.
        return Attempt(CACHE, Outcome.UNUSABLE, f"the hub's cache cannot be used ({type(error).__name__})")


def ask(spec: ModelSpec, *, file: str = CHECKPOINT_FILE) -> int | Attempt:
    """The checkpoint's size in bytes (0 where the hub does not say), or why the hub refuses. Downloads nothing."""

    def size(hub: Any, token: str | None) -> int:
        url = hub.hf_hub_url(spec.id, file, **_where(spec))
        found = hub.get_hf_file_metadata(url, token=token, timeout=HUB_TIMEOUT)
        return int(getattr(found, "size", None) or 0)

    return _asked(spec, size)


def download(spec: ModelSpec, *, force: bool = False, file: str = CHECKPOINT_FILE) -> Path | Attempt:
    """The checkpoint (or another file beside it), fetched into the hub's cache if it is not there, or with `force` anyway."""
    # Asking first, with one try and a time limit, tells why the hub refuses; a download that fails says "offline" for
    # most reasons, and only after half a minute of retries.
    answer = ask(spec, file=file)
    if isinstance(answer, Attempt):
        return answer

    def fetch(hub: Any, token: str | None) -> Path:
        options: dict[str, Any] = {"force_download": True} if force else {}
        return Path(
            hub.hf_hub_download(spec.id, file, token=token, etag_timeout=HUB_TIMEOUT, **options, **_where(spec))
        )

    return _asked(spec, fetch)


def _asked(spec: ModelSpec, question: Callable[[Any, str | None], _T]) -> _T | Attempt:
    """The answer to a question to the hub, or an `Attempt` that says why there is none."""
    if switched_off():
        return Attempt(HUB, Outcome.OFFLINE, "not asked, because HF_HUB_OFFLINE is set")
    hub = _library()
    from huggingface_hub import errors

    token = _token()
    if token is not None and not (token[1].isascii() and token[1].isprintable() and " " not in token[1]):
        # Sent as it is, it would come back in the text of an exception.
        return Attempt(HUB, Outcome.TOKEN_REFUSED, f"the value of {token[0]} cannot be a token")
    try:
        return question(hub, token[1] if token is not None else None)
    except errors.HfHubHTTPError as error:
        return _refused(spec, error, token[0] if token is not None else None)
    except (errors.HTTPError, errors.XetDownloadError, OSError) as error:
        # errors.HTTPError is the base class of the hub's HTTP client: no route, no name, a time-out, a broken answer.
        return Attempt(HUB, Outcome.OFFLINE, f"the hub could not be reached ({type(error).__name__})")
    except ValueError as error:
        return Attempt(HUB, Outcome.NOT_FOUND, f"{spec.id!r} is no name of a hub repository ({type(error).__name__})")


def _refused(spec: ModelSpec, error: Any, variable: str | None) -> Attempt:
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
        return Attempt(HUB, Outcome.NOT_FOUND, f"{spec.id} has no such file there ({status})")
    if status == 403:
        return Attempt(HUB, Outcome.TOKEN_REFUSED, f"the token may not read {spec.id} (403)")
    return Attempt(HUB, Outcome.OFFLINE, f"the hub answered {status}")


def hint(spec: ModelSpec, outcome: Outcome | None) -> str:
    """What to do about a refusal."""
    page = page_of(spec.id)
    match outcome:
        case Outcome.WRONG_CHECKSUM:
            return (
                "Get the file again from where the pinned one came from (`speakerdb models verify --repair` does, where"
                " the hub has it). Another model is a new generation."
            )
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
        case Outcome.OFFLINE:
            return (
                "Bring it from a machine with network: there `speakerdb models fetch` and `speakerdb models pack"
                " models.tar`, here `speakerdb models install models.tar`. Or put a local file or folder first in"
                f" `sources` of its generation, or make the hub reachable (the model's page is {page})."
            )
        case _:
            return (
                "Put a local file or folder first in `sources` of its generation, or make the hub reachable "
                f"(the model's page is {page})."
            )


def _where(spec: ModelSpec) -> dict[str, str | None]:
    return {"subfolder": spec.subfolder, "revision": spec.revision}


def _token() -> tuple[str, str] | None:
    """Name and value of the first token variable that is set."""
    for name in TOKEN_VARIABLES:
        value = os.environ.get(name, "").strip()
        if value:
            return name, value
    return None


def _library() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub

    return huggingface_hub


def _constants() -> Any:
    _library()
    from huggingface_hub import constants

    return constants
