"""Files to files of turns, without a library: each through a diarizer, in the forms that were asked for.

What is written comes in whole or not at all: all forms of a file are written beside their places first, and then renamed into
them. A file that fails is reported with its error and stops nobody; an error of the run, as a model that cannot be loaded is,
ends it.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from speakerdb import media
from speakerdb.core.overlap import overlaps
from speakerdb.core.talk import talk
from speakerdb.core.transcript import writing
from speakerdb.diarizers.port import Artifact, Diarization, DiarizationProgress, Diarizer, Hints
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import DuplicateEntry, InvalidInput, SpeakerDBError
from speakerdb.reports.diarizing import DiarizedFile, DiarizedSpeaker

OnFile = Callable[[Path, DiarizationProgress], None]


def _rttm(found: Diarization, name: str) -> str:
    return writing.rttm(found.turns, name)


def _json(found: Diarization, _: str) -> str:
    document = writing.two_stage(writing.without_text(found.exclusive), found.turns)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _srt(found: Diarization, _: str) -> str:
    return writing.srt(writing.without_text(found.exclusive))


def _serialized(found: Diarization, _: str) -> str:
    return json.dumps(writing.serialized(found.turns, found.exclusive), indent=2, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, tuple[str, Callable[[Diarization, str], str]]] = MappingProxyType(
    {
        "rttm": (".rttm", _rttm),
        "json": (".json", _json),
        "srt": (".srt", _srt),
        "serialized": (".serialized.json", _serialized),
    }
)
"""Forms by name: the ending of their files, and what writes them."""


def check_formats(names: Iterable[str]) -> tuple[str, ...]:
    """The forms, each once. `InvalidInput` for none, or for one that there is not."""
    given = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    unknown = [name for name in given if name not in FORMATS]
    if unknown or not given:
        raise InvalidInput(
            f"There is no form {unknown[0]!r}." if unknown else "No form was asked for.",
            hint=f"Use some of {', '.join(FORMATS)}, joined by commas.",
        )
    return given


def check_names(files: Sequence[Path]) -> None:
    """`DuplicateEntry` where two files would be written to the same place."""
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(file.stem, file)
        if other is not file:
            raise DuplicateEntry(
                f"{other} and {file} would both be written as {file.stem}.", hint="Diarize them into two folders."
            )


def diarize_files(
    files: Sequence[Path],
    diarizer: Diarizer,
    *,
    output: Path,
    formats: Sequence[str] = ("rttm",),
    hints: Hints,
    artifacts: Path | None = None,
    roots: Sequence[Path] = (),
    on_progress: OnFile | None = None,
) -> Iterator[DiarizedFile]:
    """What became of each file, as soon as it is known. `roots` are the folders in which media may lie, any if none.

    At once `InvalidInput` and `DuplicateEntry`; while iterating errors of the run, and `OSError` where nothing can be written.
    """
    forms = check_formats(formats)
    check_names(files)
    for folder in (output, *(() if artifacts is None else (artifacts,))):
        if folder.exists() and not folder.is_dir():
            raise InvalidInput(f"{folder} is there and is no folder.")

    def run() -> Iterator[DiarizedFile]:
        for file in files:
            begun = time.perf_counter()
            try:
                yield _one(file, diarizer, output, forms, hints, artifacts, roots, on_progress)
            except SpeakerDBError as error:
                if error.scope == "run":
                    raise
                yield DiarizedFile(str(file), took=time.perf_counter() - begun, error=_told(error))

    return run()


def _one(
    file: Path,
    diarizer: Diarizer,
    output: Path,
    forms: Sequence[str],
    hints: Hints,
    artifacts: Path | None,
    roots: Sequence[Path],
    on_progress: OnFile | None,
) -> DiarizedFile:
    begun = time.perf_counter()
    real = media.check_allowed(file, roots)
    name = re.sub(r"\s+", "_", file.stem)
    kept: list[tuple[Path, bytes]] = []

    def keep(artifact: Artifact) -> None:
        window = "" if artifact.window == 1 else f".window{artifact.window}"
        kept.append(((artifacts or output) / f"{file.stem}.{artifact.step_name}{window}.npz", _archived(artifact)))

    found = diarizer.diarize(
        Sound(file.stem, Sound.of_file(real).read, real),
        hints,
        on_progress=None if on_progress is None else lambda progress: on_progress(file, progress),
        on_artifact=None if artifacts is None else keep,
    )
    texts = []
    for form in forms:
        ending, write = FORMATS[form]
        texts.append((output / f"{file.stem}{ending}", write(found, name).encode()))
    write_whole([*texts, *kept])
    notices = list(found.notices)
    if name != file.stem and "rttm" in forms:
        notices.append(f"the RTTM calls it {name}, because its columns end at a space")
    return DiarizedFile(
        file=str(file),
        seconds=found.seconds,
        speakers=tuple(
            DiarizedSpeaker(each.speaker, each.turns, each.seconds, each.share) for each in talk(found.turns)
        ),
        turns=len(found.turns),
        overlap_seconds=sum(each.seconds for each in overlaps(found.turns)),
        written=tuple(str(path) for path, _ in texts),
        artifacts=tuple(str(path) for path, _ in kept),
        timing=dict(found.timing),
        took=time.perf_counter() - begun,
        windows=found.windows,
        notices=tuple(notices),
    )


def write_whole(files: Sequence[tuple[Path, bytes]]) -> None:
    """All of them, or none: written beside, and then renamed."""
    with ExitStack() as clean:
        waiting = []
        for path, data in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{uuid.uuid4().hex}")
            clean.callback(_forget, beside)
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            waiting.append((beside, path))
        for beside, path in waiting:
            os.replace(beside, path)


def _forget(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()


def _archived(artifact: Artifact) -> bytes:
    """NumPy's `.npz`: `values`, and where their rows lie in time, where they do."""
    place = {"start": artifact.start, "step": artifact.step, "duration": artifact.duration}
    kept: dict[str, Any] = {key: np.asarray(value) for key, value in place.items() if value is not None}
    file = io.BytesIO()
    np.savez(file, values=artifact.values, **kept)
    return file.getvalue()


def _told(error: SpeakerDBError) -> dict[str, object]:
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "details": error.details,
        "exit_code": error.exit_code,
    }
