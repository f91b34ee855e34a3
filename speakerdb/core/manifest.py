"""Manifests: one recording a line, as JSON Lines or CSV, with one schema for both.

Pure functions over lines that somebody else reads. A bad line is `InvalidManifest` with ``details["line"]`` and the next
line goes on; a CSV header that cannot be used, and a text that is no manifest, refuse the whole file.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from speakerdb.core.texts import MAX_ID_LENGTH, MAX_NAME_LENGTH, flaw
from speakerdb.errors import InvalidManifest

MAX_LINE_BYTES = 128 * 1024 * 1024
"""A longer line of a manifest (a longer row of a CSV) is refused. A million turns are some 60 MB."""

SUFFIXES = (".jsonl", ".ndjson", ".csv")
JSON_COLUMNS = ("turns", "speakers", "error")
"""Columns of a CSV that hold a JSON text."""
IGNORED = "error"
"""What a refused entry carries: why it was refused. It is not read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_YEAR = 9998
"""The end of the next one, rounded, is in no year that can be shown."""
_TURN_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "start": {"type": "number", "minimum": 0},
            "end": {"type": "number"},
            "speaker": {"type": "string", "maxLength": MAX_NAME_LENGTH},
        },
        "required": ["start", "end", "speaker"],
    },
}


class SpeakerEntry(BaseModel):
    """What is known of a voice of the recording."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str | None, Field(max_length=MAX_NAME_LENGTH)] = Field(
        default=None, description="The speaker's name in this recording."
    )
    profile: Annotated[str | None, Field(max_length=MAX_NAME_LENGTH)] = Field(
        default=None,
        description="The person: a profile's name in the recording's library (made where there is none), or its id.",
    )


class ManifestEntry(BaseModel):
    """One line of a manifest: one recording."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str = Field(description="The media file; a relative path counts from the manifest's folder.")
    id: Annotated[str | None, Field(max_length=MAX_ID_LENGTH)] = Field(
        default=None, description="The recording's id. Without one it is known by its path, and gets an id of ours."
    )
    library: Annotated[str | None, Field(max_length=MAX_NAME_LENGTH)] = Field(
        default=None, description="The library it belongs to; that of `--library` unless given."
    )
    turns: Annotated[list[Any] | None, WithJsonSchema(_TURN_SCHEMA)] = Field(
        default=None, description="Who talks when: a list of start and end (seconds) and speaker (label)."
    )
    turns_file: str | None = Field(
        default=None,
        description="A file with the turns, in any form that `--turns` takes; relative to the manifest's folder. Without"
        " turns and turns_file they are looked for where those of a media file are.",
    )
    speakers: dict[str, SpeakerEntry] | None = Field(
        default=None, description="By the label of the turns: name and profile of each speaker that is known."
    )
    recorded_at: Annotated[str | None, WithJsonSchema({"type": "string", "format": "date-time"})] = Field(
        default=None, description="When it was recorded, ISO 8601; UTC unless it says an offset."
    )


FIELDS = tuple(ManifestEntry.model_fields)


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """A line that could be read."""

    line: int
    entry: ManifestEntry
    recorded_at: int | None
    """Microseconds since the epoch."""
    given: dict[str, Any]
    """What stood there, by column, without `error`."""


Line: TypeAlias = tuple[int, str | InvalidManifest]
"""A line's number (the first is 1) with its text (line end too), or why there is no text."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was refused, with what could be understood of it."""

    line: int
    error: InvalidManifest
    given: dict[str, Any]


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of a line."""
    return ManifestEntry.model_json_schema()


def read_json_lines(lines: Iterable[Line]) -> Iterator[ManifestLine | Refusal]:
    """The entries of a manifest in JSON Lines, as its lines come. Empty lines are left out."""
    for number, text in lines:
        if isinstance(text, InvalidManifest):
            yield Refusal(number, text, {})
        elif not text.isspace():
            yield _json_line(number, text)


def _json_line(number: int, text: str) -> ManifestLine | Refusal:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _refused(number, f"it is not JSON: {error}", {"text": text[:1000].rstrip("\r\n")})
    if not isinstance(given, dict):
        return _refused(number, f"it is a {type(given).__name__}, not an object", {"text": text[:1000].rstrip("\r\n")})
    return _entry(number, given)


def read_csv(lines: Iterable[Line]) -> Iterator[ManifestLine | Refusal]:
    """The entries of a manifest in CSV: a header, then a row a recording, with commas and double quotes.

    `turns` and `speakers` hold a JSON text; an empty cell is nothing. Raises `InvalidManifest` for a header that cannot be
    used, before any entry.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    source = _Rows(lines)
    rows = csv.reader(source, strict=True)
    header: list[str] | None = None
    while True:
        source.begin()
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, InvalidManifest) as error:
            if header is None:
                _no_header(str(error))
            yield _refused(source.first, f"it is not CSV: {error}", {"text": source.seen[:1000].rstrip("\r\n")})
            continue
        if not row:
            continue
        if header is None:
            header = _header(row)
        elif len(row) != len(header):
            given = dict(zip(header, row, strict=False))
            yield _refused(source.first, f"it has {len(row)} cells, the header has {len(header)}", given)
        else:
            yield _csv_row(source.first, dict(zip(header, row, strict=True)))


class _Rows:
    """Feeds lines to the CSV reader, and remembers which of them the row at hand is made of."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self.begin()

    def begin(self) -> None:
        """A new row begins."""
        self.first, self.size, self.seen = 0, 0, ""

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> str:
        number, text = next(self._lines)
        self.first = self.first or number
        if isinstance(text, InvalidManifest):
            raise text
        self.size += len(text)
        if self.size > MAX_LINE_BYTES:
            raise InvalidManifest(f"A row is longer than {MAX_LINE_BYTES:,} bytes; is a quote not closed?")
        if len(self.seen) < 1000:
            self.seen += text[:1000]
        return text


def _header(row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    for name in names:
        if name not in (*FIELDS, IGNORED):
            _no_header(f"it has the unknown column {name[:60]!r}{_nearest(name)}")
    if len(set(names)) != len(names):
        _no_header("it has a column twice")
    if "path" not in names:
        _no_header("it lacks the column path")
    return names


def _no_header(why: str) -> NoReturn:
    raise InvalidManifest(
        f"The header cannot be used: {why}.",
        hint=f"The first line names the columns, with commas between them: path, and any of"
        f" {', '.join(name for name in FIELDS if name != 'path')}.",
        line=1,
    )


def _csv_row(number: int, row: dict[str, str]) -> ManifestLine | Refusal:
    given: dict[str, Any] = {}
    for name, cell in row.items():
        if name == IGNORED or not cell.strip():
            continue
        if name not in JSON_COLUMNS:
            given[name] = cell
            continue
        try:
            given[name] = json.loads(cell)
        except (ValueError, RecursionError) as error:
            return _refused(number, f"the column {name} is not a JSON text: {error}", given | {name: cell[:1000]})
    return _entry(number, given)


def _entry(number: int, given: dict[str, Any]) -> ManifestLine | Refusal:
    given.pop(IGNORED, None)
    try:
        entry = ManifestEntry.model_validate(given)
        return ManifestLine(number, entry, _checked(entry), given)
    except ValidationError as error:
        return _refused(number, _first_problem(error), given)
    except ValueError as error:
        return _refused(number, str(error), given)


def _checked(entry: ManifestEntry) -> int | None:
    """When it was recorded. `ValueError` for texts that cannot be used."""
    texts = [("id", entry.id, MAX_ID_LENGTH), ("library", entry.library, MAX_NAME_LENGTH)]
    for label, said in (entry.speakers or {}).items():
        texts += [("a label in speakers", label, MAX_NAME_LENGTH)]
        texts += [(f"`{key}` of a speaker", getattr(said, key), MAX_NAME_LENGTH) for key in ("name", "profile")]
    for what, text, limit in texts:
        if text is not None and (found := flaw(text, limit)) is not None:
            raise ValueError(f"{what} {found}")
    if not entry.path.strip():
        raise ValueError("path is empty")
    if entry.turns is not None and entry.turns_file is not None:
        raise ValueError("it has both turns and turns_file")
    return None if entry.recorded_at is None else _instant(entry.recorded_at)


def _instant(text: str) -> int:
    try:
        when = datetime.fromisoformat(text.strip())
        aware = when.astimezone(UTC) if when.tzinfo is not None else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"recorded_at {text[:40]!r} is not a time such as 2024-05-31T18:30:00+02:00") from error
    if aware.year > _LAST_YEAR:
        raise ValueError(f"recorded_at {text[:40]!r} is after the year {_LAST_YEAR}")
    return (aware - _EPOCH) // timedelta(microseconds=1)


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:60] for part in first["loc"])
    if first["type"] == "extra_forbidden":
        inner = SpeakerEntry.model_fields if len(first["loc"]) > 1 else FIELDS
        return f"it has the unknown column {where!r}{_nearest(str(first['loc'][-1]), tuple(inner))}"
    if first["type"] == "missing":
        return f"it lacks {where}"
    return f"`{where}`: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _nearest(name: str, known: tuple[str, ...] = FIELDS) -> str:
    close = difflib.get_close_matches(name[:60].lower().strip(), known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def _refused(number: int, why: str, given: dict[str, Any]) -> Refusal:
    return Refusal(number, InvalidManifest(f"Line {number}: {why}.", line=number), given)
