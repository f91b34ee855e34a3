"""`support-bundle`: what somebody else needs to help, in one zip, without anybody's name, path or secret.

Every text that is not a word of speakerdb's own is replaced by a hash with a key that stays in the data folder, so two
bundles of one library can be compared and nobody can try out which name it was.
"""

from __future__ import annotations

import builtins
import importlib
import io
import json
import os
import pkgutil
import re
import secrets
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from speakerdb import __version__, errors, reports
from speakerdb.catalog.health import hosts_of, kind_of, secrets_of
from speakerdb.core.lifecycle import State
from speakerdb.core.redaction import Redactor
from speakerdb.errors import InvalidInput, SpeakerDBError
from speakerdb.events import KINDS
from speakerdb.generations import TERMS
from speakerdb.models import hub
from speakerdb.models.bundle import requirements
from speakerdb.models.manage import versions
from speakerdb.reports import as_json
from speakerdb.reports.mending import DoctorReport, SupportReport
from speakerdb.settings import TOKEN_VARIABLES, ModelSettings, OpenSearchSettings, Settings

EVENTS = 200
LOG_LINES = 400
KEY_NAME = "support.key"
FILES: Mapping[str, str] = {
    "README.txt": "what is in it, and what was replaced",
    "versions.json": "Python, speakerdb and every package it needs",
    "settings.json": "the settings; secrets and paths replaced",
    "doctor.json": "the result of `speakerdb doctor`",
    "status.json": "the result of `speakerdb status`; texts replaced",
    "events.json": f"the last {EVENTS} events; names and texts replaced",
    "log.txt": f"the last {LOG_LINES} lines of the log; all but its own words replaced",
}
SHOWN_VARIABLES = (
    *TOKEN_VARIABLES, "HF_HOME", "HF_HUB_OFFLINE", hub.OLD_CACHE_VARIABLE, "PYANNOTE_METRICS_ENABLED",
    "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SPEAKERDB_CONFIG", "SPEAKERDB_DATA_DIR",
)  # fmt: skip
_README = """A support bundle of speakerdb.

{files}

Replaced by hashes such as text-0123456789ab and path-0123456789ab: names of people and profiles, file names and
paths, libraries, ids that you gave yourself, reasons that people typed, who did what. The same text has the same hash
in every bundle of one library. The hashes are made with a key that is not in here ({key}), so nobody can try out which
name it was. Tokens and passwords are left out altogether. Look into the files before you hand them on; they are text.
"""


def words(known: Iterable[str], verbs: Iterable[str]) -> set[str]:
    """The texts that speakerdb itself makes and that say nothing of anybody: codes, kinds, states, generations, verbs."""
    names = set(known)
    made = {name for text in KINDS.values() for name in re.findall(r"`(\w+)`", text)}
    return (
        names
        | {f"speakers_{name}" for name in names}
        | {f"speakers_{name}_write" for name in names}
        | {
            "speakers",
            "id",
            "at",
            "kind",
            "who",
            "source",
            "cli",
            "api",
            "schedule",
            "why",
            "migration",
            "entity",
            "data",
            "work",
            "serving",
            "fallback",
        }
        | set(_codes(SpeakerDBError))
        | set(_literals())
        | {state.value for state in State}
        | set(KINDS)
        | made
        | {verb.replace(" ", ".") for verb in verbs if verb}
        | {name for name in dir(builtins) if name[0].isupper()}
        | {error.__name__ for error in vars(errors).values() if isinstance(error, type)}
        | {hub.OLD_CACHE_VARIABLE, __version__}
    )


def collect(
    settings: Settings | None,
    doctor: DoctorReport,
    status: object,
    events: object,
    *,
    verbs: Sequence[str] = (),
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The files of a bundle by name, and what could not be read. `status` and `events` may be the error that kept them
    from being read."""
    redactor = _redactor(settings, verbs)
    read = (("status", status), ("events", events))
    problems = [f"{name}: {error.code}" for name, error in read if isinstance(error, SpeakerDBError)]
    if settings is None:
        problems.append("settings: they cannot be read")
    files = {
        "README.txt": _readme(settings).encode(),
        "versions.json": _document({"versions": versions(), "packages": requirements()}),
        "settings.json": _document(_settings(settings, redactor)),
        "doctor.json": _document(as_json(_doctor(doctor, redactor))),
        "status.json": _document(_read(status, redactor)),
        "events.json": _document(_read(events, redactor)),
        "log.txt": _log(settings, redactor).encode(),
    }
    return files, tuple(problems)


def write(out: Path, files: Mapping[str, bytes], problems: Sequence[str]) -> SupportReport:
    """Write the zip, readable by its owner alone. `InvalidInput` where `out` exists already."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InvalidInput(f"{out} exists already.", hint="Give another name with `--out`.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(buffer.getvalue())
    return SupportReport(str(out), len(buffer.getvalue()), {name: FILES[name] for name in files}, tuple(problems))


def _codes(cls: type[SpeakerDBError]) -> Iterable[str]:
    yield cls.code
    for child in cls.__subclasses__():
        yield from _codes(child)


def _literals() -> Iterable[str]:
    """The words that fields of reports can have by their types."""
    names = [found.name for found in pkgutil.iter_modules(reports.__path__, "speakerdb.reports.")]
    for module in (reports, *map(importlib.import_module, names)):
        for value in vars(module).values():
            yield from (word for word in get_args(value) if isinstance(word, str))
            for annotation in getattr(value, "__annotations__", {}).values():
                yield from re.findall(r"['\"]([a-z-]+)['\"]", str(annotation))


def _redactor(settings: Settings | None, verbs: Sequence[str]) -> Redactor:
    named = (*TOKEN_VARIABLES, "PGPASSWORD")
    private = [value for name in named if (value := os.environ.get(name, "").strip())]
    # Folders of ours alone: what follows after one of them is ours, too. A home may hold anything.
    known = {sys.prefix: "<python>", str(hub.cache_folder("x").parent): "<hub-cache>"}
    if settings is None:
        fresh = secrets.token_bytes(32)
        return Redactor(fresh, words((), verbs), commands=_parts(verbs), known=known, secrets=private)
    generations = settings.known_generations()
    key = _key(settings.data_dir)
    hashes = Redactor(key, ())
    for generation in generations.values():
        model = generation.model
        if model.id not in TERMS and model.family != "spectral":
            known[model.id] = hashes.hashed(model.id, "model")
        known |= {s: hashes.hashed(s, "path") for s in model.sources if s not in (hub.HUB, hub.CACHE)}
    known[str(settings.models_folder)] = "<models>"
    known[str(settings.data_dir)] = "<data-folder>"
    if settings.database_url:
        known[settings.database_url] = "<database>"
        private += secrets_of(settings.database_url)
        known |= dict.fromkeys(hosts_of(settings.database_url), "<database-host>")
    # A name without a dot may be any word.
    known |= {
        name: "<search-host>" for host in settings.opensearch.hosts if "." in (name := urlsplit(host).hostname or "")
    }
    if settings.who:
        known[settings.who] = "<who>"
    return Redactor(key, words(generations, verbs), commands=_parts(verbs), known=known, secrets=private)


def _parts(verbs: Iterable[str]) -> set[str]:
    return {part for verb in verbs for part in verb.split()} | {"speakerdb"}


def _key(folder: Path) -> bytes:
    """The key of the library's hashes, made once. Where the folder cannot be written, or is not there: one for this run."""
    path = folder / KEY_NAME
    fresh = secrets.token_bytes(32)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(fresh)
    except FileExistsError:
        try:
            kept = path.read_bytes()[:64]
        except OSError:
            return fresh
        return kept if len(kept) >= 16 else fresh
    except OSError:
        return fresh
    return fresh


def _settings(settings: Settings | None, redactor: Redactor) -> dict[str, Any]:
    variables = {name: "set" if os.environ.get(name) else "not set" for name in SHOWN_VARIABLES}
    if settings is None:
        return {"variables": variables, "settings": "they cannot be read; see doctor.json"}
    shown: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, (bool, int, float)):
            shown[name] = value
    generations = settings.known_generations()
    return {
        "variables": variables,
        "settings": shown
        | {
            "data_dir": redactor.hashed(str(settings.data_dir), "path"),
            "database_url": kind_of(settings.catalog_url) if settings.database_url else "SQLite in the data folder",
            "media_roots": [redactor.hashed(str(root), "path") for root in settings.media_roots],
            "serving": redactor.value(settings.serving),
            "device": settings.device,
            "executor": settings.executor,
            "who": "set" if settings.who else "not set",
            "models": _model_settings(settings.models, redactor),
            "opensearch": _search_settings(settings.opensearch),
        },
        "generations": {name: _generation(generations[name], redactor) for name in sorted(generations)},
    }


def _model_settings(models: ModelSettings, redactor: Redactor) -> dict[str, Any]:
    folder = None if models.folder is None else redactor.hashed(str(models.folder), "path")
    return {"offline": models.offline, "folder": folder, "keep": models.keep}


def _search_settings(search: OpenSearchSettings) -> dict[str, Any]:
    """How it is used, and not where it is or as whom."""
    shown = {
        name: value
        for name in type(search).model_fields
        if isinstance(value := getattr(search, name), bool | int | float)
    }
    named = ("username", "password", "ca_file", "prefix")
    return {
        "hosts": [urlsplit(host).scheme for host in search.hosts],
        "engine": search.engine,
        **shown,
        **{name: "set" if getattr(search, name) else "not set" for name in named},
    }


def _generation(generation: Any, redactor: Redactor) -> dict[str, Any]:
    model = generation.model
    public = model.id in TERMS or model.family == "spectral"
    return {
        "family": model.family,
        "model": model.id if public else redactor.hashed(model.id, "model"),
        "revision": model.revision if public else None,
        "sha256": model.sha256,
        "dimension": model.dimension,
        "sources": [s if s in (hub.HUB, hub.CACHE) else redactor.hashed(s, "path") for s in model.sources],
        "operating_point": as_json(generation.operating_point),
        "recipe": generation.recipe.digest,
    }


def _doctor(report: DoctorReport, redactor: Redactor) -> DoctorReport:
    checks = []
    for check in report.checks:
        if check.name == "settings" and check.verdict == "fail":
            # Settings that cannot be read may hold anything, and their error quotes them.
            checks.append(replace(check, found="cannot be read", mend=""))
        else:
            checks.append(replace(check, found=redactor.sentence(check.found), mend=redactor.sentence(check.mend)))
    return replace(report, checks=tuple(checks))


def _read(value: object, redactor: Redactor) -> Any:
    if isinstance(value, SpeakerDBError):
        return {"error": {"code": value.code, "message": redactor.message(value.message)}}
    return redactor.value(value)


def _log(settings: Settings | None, redactor: Redactor) -> str:
    if settings is None:
        return ""
    try:
        with (settings.data_dir / "speakerdb.log").open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 400 * LOG_LINES))
            lines = file.read(400 * LOG_LINES).decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    except OSError as error:
        return f"no log could be read ({type(error).__name__})\n"
    return "".join(f"{redactor.log_line(line)}\n" for line in lines if line.strip())


def _readme(settings: Settings | None) -> str:
    key = "made for this bundle alone" if settings is None else f"{KEY_NAME} in the data folder"
    return _README.format(files="\n".join(f"- {name}: {what}" for name, what in FILES.items()), key=key)


def _document(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=True, default=str) + "\n").encode()
