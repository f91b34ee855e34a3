"""Transcripts from what transcribers write, told apart by ending and by content.

| form | where its text is |
|---|---|
| WhisperX, faster-whisper | `segments` with `text`, and `words` where word times were asked for |
| WhisperLive | `segments`, or a list of them; times are numbers written as texts |
| words only | `word_segments`, or `words` |
| WebVTT, SRT | cues |

Pure functions. Whatever the text, they raise `InvalidTranscript` only.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from speakerdb.core.transcript.words import Segment, Transcript, Word
from speakerdb.core.turn_forms import cues, without_speaker
from speakerdb.errors import InvalidTranscript, InvalidTurns

SUFFIXES = (".json", ".vtt", ".srt")
MOST_CHARACTERS = 64 * 1024**2
"""Of a transcript: some hundred hours of speech."""
BEYOND_SECONDS = 2.0
"""How far a transcript may reach behind its recording's end: transcribers work in windows, and round up."""
WORD_BREAK_SECONDS = 1.0
"""Words without segments are put together as long as the silence between them is shorter."""

_HINT = "Give the JSON of WhisperX, faster-whisper or WhisperLive, or a WebVTT or SRT file."
_MEND = "Mend the item that the message names, or make the transcript again."


def parse_transcript(text: str, suffix: str = "", *, duration: float | None = None) -> Transcript:
    """A transcript from a text; `suffix` is the ending of its file, or anything where it is not known.

    With `duration` (seconds) one that reaches far beyond the recording's end is refused: it is another recording's.
    Raises `InvalidTranscript` with the item or line, and what to do.
    """
    if len(text) > MOST_CHARACTERS:
        raise InvalidTranscript(f"The transcript has {len(text):,} characters; {MOST_CHARACTERS:,} are allowed.")
    text = text.removeprefix("\ufeff")
    subtitles = suffix.lower() in (".vtt", ".srt") or text.lstrip().startswith("WEBVTT")
    if subtitles or (suffix.lower() != ".json" and "-->" in text and not text.lstrip().startswith(("{", "["))):
        found = _subtitles(text)
    else:
        found = _json(text)
    if not found.segments:
        raise InvalidTranscript("The transcript holds no text.", hint=_HINT)
    if duration is not None and found.ends > duration + BEYOND_SECONDS:
        raise InvalidTranscript(
            f"The transcript ends at {found.ends:.1f} s, and the recording after {duration:.1f} s.",
            hint="Is it the transcript of this file? Make it again from it.",
            ends=found.ends,
            duration=duration,
        )
    return found


def _subtitles(text: str) -> Transcript:
    segments: list[Segment] = []
    skipped = 0
    try:
        for number, start, end, lines in cues(text):
            said = " ".join(filter(None, (html.unescape(without_speaker(line)).strip() for line in lines)))
            _text(said, f"Line {number}", {"line": number})
            if not said:
                skipped += 1
                continue
            _check_times(start, end, f"Line {number}", {"line": number}, segments)
            segments.append(Segment(start, end, said))
    except InvalidTurns as error:
        # Its message quotes the line, and what was said stands in no message.
        line = error.details.get("line", "?")
        raise InvalidTranscript(f"Line {line} does not say from when to when.", hint=error.hint, line=line) from None
    return Transcript(tuple(segments), None, skipped)


def _json(text: str) -> Transcript:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidTranscript(f"The transcript is not JSON: {error}.", hint=_HINT) from error
    if isinstance(given, list):
        given = {"segments": given}
    if not isinstance(given, dict):
        raise InvalidTranscript(f"The JSON text is a {type(given).__name__}, not an object or a list.", hint=_HINT)
    language = given.get("language")
    language = language if isinstance(language, str) and len(language) <= 40 else None
    for key in ("segments", "word_segments", "words"):
        items = given.get(key)
        if items is None:
            continue
        if not isinstance(items, list):
            raise InvalidTranscript(f"`{key}` is a {type(items).__name__}, not a list.", hint=_HINT)
        if items:
            return _segments(items, language) if key == "segments" else _words_only(items, language)
    raise InvalidTranscript("The JSON text holds neither segments nor words.", hint=_HINT)


def _segments(items: Sequence[Any], language: str | None) -> Transcript:
    segments: list[Segment] = []
    skipped = 0
    for number, item in enumerate(items, start=1):
        what, where = f"Segment {number}", {"item": number}
        fields = _object(item, what, where)
        said = _text(fields.get("text", ""), what, where)
        words = tuple(_words(fields.get("words"), what, where))
        if not said.strip():
            said = " ".join(word.text.strip() for word in words)
        if not said.strip():
            skipped += 1
            continue
        start, end = (_seconds(fields.get(key), key, what, where) for key in ("start", "end"))
        if start is None or end is None:
            raise InvalidTranscript(f"{what} lacks its start or its end.", hint=_MEND, **where)
        _check_times(start, end, what, where, segments)
        segments.append(Segment(start, end, said.strip(), words))
    return Transcript(tuple(segments), language, skipped)


def _words(items: Any, what: str, where: Mapping[str, int]) -> list[Word]:
    if items is None:
        return []
    if not isinstance(items, list):
        raise InvalidTranscript(f"{what}: `words` is a {type(items).__name__}, not a list.", hint=_MEND, **where)
    words = []
    for number, item in enumerate(items, start=1):
        which = f"{what}, word {number}"
        fields = _object(item, which, where)
        said = _text(fields.get("word", fields.get("text", "")), which, where)
        if not said.strip():
            continue  # no word at all
        start, end = (_seconds(fields.get(key), key, which, where) for key in ("start", "end"))
        if start is None or end is None:
            words.append(Word(said))
            continue
        _check_times(start, end, which, where, ())
        words.append(Word(said, start, end))
    placed = [word.start for word in words if word.start is not None]
    if any(after < before for before, after in pairwise(placed)):
        raise InvalidTranscript(f"{what}: the times of its words run backwards.", hint=_MEND, **where)
    return words


def _words_only(items: Sequence[Any], language: str | None) -> Transcript:
    """Words in a row, as segments that end at a silence."""
    segments: list[list[Word]] = []
    end = -math.inf
    for word in _words(list(items), "The list", {}):
        if not segments or (word.start is not None and word.start - end > WORD_BREAK_SECONDS):
            segments.append([])
        segments[-1].append(word)
        end = end if word.end is None else word.end
    made = []
    for words in segments:
        starts, ends = [w.start for w in words if w.start is not None], [w.end for w in words if w.end is not None]
        if not starts:
            raise InvalidTranscript("None of the words says when it was said.", hint=_MEND)
        made.append(Segment(starts[0], max(ends), " ".join(word.text.strip() for word in words), tuple(words)))
    return Transcript(tuple(made), language)


def _object(item: Any, what: str, where: Mapping[str, int]) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise InvalidTranscript(f"{what} is a {type(item).__name__}, not an object.", hint=_HINT, **where)
    return item


def _text(value: Any, what: str, where: Mapping[str, int]) -> str:
    if not isinstance(value, str):
        raise InvalidTranscript(f"{what}: its text is a {type(value).__name__}.", hint=_MEND, **where)
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidTranscript(f"{what}: its text holds a character that cannot be stored.", hint=_MEND, **where)
    return value


_NUMBER = re.compile(r"[+-]?\d{1,12}(?:\.\d{0,12})?", re.ASCII)


def _seconds(value: Any, key: str, what: str, where: Mapping[str, int]) -> float | None:
    """A position; WhisperLive writes it as a text. None where there is none."""
    if value is None:
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTranscript(f"{what}: `{key}` is not a number of seconds.", hint=_MEND, **where)
    if isinstance(value, int) and abs(value) > 10**12:
        raise InvalidTranscript(f"{what}: `{key}` is too large.", hint=_MEND, **where)
    return float(value)


def _check_times(start: float, end: float, what: str, where: Mapping[str, int], before: Sequence[Segment]) -> None:
    if not (math.isfinite(start) and math.isfinite(end)) or start < 0:
        raise InvalidTranscript(f"{what}: {start} to {end} is not a stretch of the recording.", hint=_MEND, **where)
    if end < start:
        raise InvalidTranscript(f"{what} ends at {end:g} s, before it begins at {start:g} s.", hint=_MEND, **where)
    if before and start < before[-1].start:
        raise InvalidTranscript(
            f"{what} begins at {start:g} s, before the one in front of it ({before[-1].start:g} s).",
            hint=_MEND,
            **where,
        )
