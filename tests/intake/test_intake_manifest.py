"""Manifests: one schema for JSON Lines and CSV; a bad line is one bad line."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core import manifest
from speakerdb.core.manifest import Line, ManifestLine, Refusal, manifest_schema, read_csv, read_json_lines
from speakerdb.errors import InvalidManifest

TURNS = [{"start": 0, "end": 1, "speaker": "A"}]
FULL: dict[str, Any] = {
    "id": "a/b", "path": "x.wav", "library": "tv", "turns": TURNS, "recorded_at": "2024-05-31T18:30:00+02:00",
    "speakers": {"A": {"name": 'Ann "x", y\nz'.replace("\n", " "), "profile": "Ann"}},
}  # fmt: skip


def lines(text: str) -> list[Line]:
    return list(enumerate(text.splitlines(keepends=True), start=1))


def of_json(*entries: Any) -> list[ManifestLine | Refusal]:
    return list(read_json_lines(lines("".join(json.dumps(e) + "\n" for e in entries))))


def of_csv(text: str) -> list[ManifestLine | Refusal]:
    return list(read_csv(lines(text)))


def test_both_forms_say_the_same() -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(FULL), lineterminator="\r\n")
    writer.writeheader()
    writer.writerow({k: json.dumps(v, indent=1) if k in manifest.JSON_COLUMNS else v for k, v in FULL.items()})
    (one,), (other,) = of_csv(out.getvalue()), of_json(FULL)
    assert isinstance(one, ManifestLine)
    assert isinstance(other, ManifestLine)
    assert one.entry == other.entry
    assert one.recorded_at == other.recorded_at == 1_717_173_000_000_000
    assert (one.line, other.line) == (2, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"nmae": 1}, "unknown column 'nmae'"),
        ({"turn": []}, "did you mean turns?"),
        ({"path": None}, "`path`"),
        ({"path": " "}, "path is empty"),
        ({"id": 7}, "`id`"),
        ({"id": "x" * 201}, "`id`"),
        ({"id": "a\u0000b"}, "U+0000"),
        ({"library": "\n"}, "library is empty"),
        ({"library": "a\u001b[31m"}, "U+001B"),
        ({"turns": {}}, "`turns`"),
        ({"turns_file": "x.rttm"}, "both turns and turns_file"),
        ({"speakers": []}, "`speakers`"),
        ({"speakers": {"A": {"nam": "x"}}}, "did you mean name?"),
        ({"speakers": {"A": {"name": ""}}}, "`name` of a speaker is empty"),
        ({"speakers": {"A": {"name": "x" * 10_000}}}, "speakers.A.name"),
        ({"speakers": {"A": {"profile": "a\tb"}}}, "U+0009"),
        ({"recorded_at": "yesterday"}, "recorded_at"),
        ({"recorded_at": "9999-12-31T23:59:59-23:59"}, "recorded_at"),
        ({"recorded_at": "9999-12-31T23:59:59.999999"}, "recorded_at"),
        ({"recorded_at": "0001-01-01T00:00:00+23:59"}, "recorded_at"),
        ({"recorded_at": 1717173000}, "`recorded_at`"),
    ],
)
def test_a_bad_line_is_named_and_the_next_goes_on(change: dict[str, Any], says: str) -> None:
    good, bad, last = of_json(FULL, FULL | change, FULL)
    assert isinstance(good, ManifestLine)
    assert isinstance(last, ManifestLine)
    assert isinstance(bad, Refusal)
    assert says in bad.error.message
    assert bad.error.message.startswith("Line 2: ")
    assert (bad.line, bad.error.details["line"], bad.error.hint != "") == (2, 2, True)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{", "x" * 5000, '{"path": "a"', "[" * 100_000, "1" * 5000])
def test_a_line_that_is_no_object(text: str) -> None:
    (bad,) = read_json_lines([(7, text + "\n")])
    assert isinstance(bad, Refusal)
    assert bad.line == 7


def test_what_a_refused_entry_carries_is_not_read() -> None:
    (one,) = of_json(FULL | {"error": {"code": "media-missing"}})
    assert isinstance(one, ManifestLine)
    assert "error" not in one.given
    (other,) = of_csv("path,error\na.wav,anything at all\n")
    assert isinstance(other, ManifestLine)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("pth,id", "did you mean path?"),
        ("id,library", "lacks the column path"),
        ("path,path", "twice"),
        ("path;id", "unknown column"),
        ('"path', "not CSV"),
    ],
)
def test_a_header_that_cannot_be_used_refuses_the_file(header: str, says: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        of_csv(f"{header}\na.wav,1\n")
    assert says.replace("not CSV", "header") in caught.value.message
    assert "path, and any of id, library, turns" in caught.value.hint


def test_csv_cells_with_quotes_commas_and_line_ends() -> None:
    text = 'path,id,speakers\r\n"a, ""b"".wav","x",\r\n"new\nline.wav",y,"{""A"": {""name"": ""Ann, B""}}"\r\n\r\nc.wav,,\r\n'
    found = [each.entry for each in of_csv(text) if isinstance(each, ManifestLine)]
    assert [(e.path, e.id) for e in found] == [('a, "b".wav', "x"), ("new\nline.wav", "y"), ("c.wav", None)]
    assert found[1].speakers is not None
    assert found[1].speakers["A"].name == "Ann, B"


def test_a_bad_row_refuses_that_row() -> None:
    text = 'path,turns\na.wav,\n"b"x.wav,\nc.wav,[\nd.wav\ne.wav,\n"f.wav,\n'
    found = of_csv(text)
    assert [each.line for each in found if isinstance(each, ManifestLine)] == [2, 6]
    refused = [each for each in found if isinstance(each, Refusal)]
    assert [each.line for each in refused] == [3, 4, 5, 7]
    assert refused[1].given["path"] == "c.wav"


def test_a_row_that_never_ends_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_LINE_BYTES", 1000)
    found = of_csv("path\n" + '"' + "x\n" * 600 + '"\nlast.wav\n')
    assert isinstance(found[0], Refusal)
    assert "quote" in found[0].error.message


@given(st.lists(st.text(max_size=30), max_size=6))
def test_no_lines_raise_anything_else(texts: list[str]) -> None:
    given = [(n, text + "\n") for n, text in enumerate(texts, start=1)]
    assert all(each.line for each in read_json_lines(given))
    assert all(each.line for each in read_csv([(0, "path,id,turns,speakers\n"), *given]) if given)


def test_the_schema_names_every_column() -> None:
    schema = manifest_schema()
    assert tuple(schema["properties"]) == manifest.FIELDS
    assert schema["required"] == ["path"]
    assert all(value.get("description") for value in schema["properties"].values())
