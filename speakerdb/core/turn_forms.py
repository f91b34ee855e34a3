"""Turns from what diarizers and transcribers write: one function for every form, told apart by ending and by content.

| form | where its turns are |
|---|---|
| RTTM | its SPEAKER lines; of many recordings too |
| JSON list | objects with `start`, `end`, `speaker` |
| pyannote's `DiarizeOutput.serialize()` | `diarization`: the set in which turns may overlap |
| two-stage transcript | `diarization` where it is there, else `segments` |
| WhisperX | `segments`, else `word_segments` |
| WebVTT, SRT | cues whose text names the speaker |

Pure functions. Whatever the text, they raise `InvalidTurns` and `NeedsTurns` only.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speakerdb.core.turns import check_turn, parse_json_turns, parse_rttm, position, turns_of_items
from speakerdb.errors import InvalidTurns, NeedsTurns
from speakerdb.types import Turn

SUFFIXES = (".rttm", ".json", ".vtt", ".srt")
"""Endings of files that may hold turns, a diarizer's own first."""

WORD_GAP_SECONDS = 1.0
"""Words of one speaker that follow each other within this are one turn: a word alone is too short to hear a voice in."""

_ANY_HINT = "Turns are RTTM, JSON (a list, pyannote, WhisperX), WebVTT or SRT with the speaker's name in each cue."
_JSON_HINT = (
    'Give a JSON list such as [{"start": 0.0, "end": 2.5, "speaker": "A"}], pyannote\'s serialize(), or WhisperX\'s result'
    " after assign_word_speakers."
)
_CUE_HINT = "A cue begins with a line such as 00:01:02.500 --> 00:01:04.000."
_TAG_HINT = "Name the speaker in each cue: <v Ada> (WebVTT), [SPEAKER_00] or SPEAKER_00: before its text."

_LINE_END = re.compile(r"\r\n|\r|\n")
_TIME = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})", re.ASCII)
# Possessive, so that a tag which is never closed takes no longer than one that is.
_VOICE = re.compile(r"<v(?:\.[^\s<>]*+)?[ \t]++([^<>]*+)>")
# A diarizer's label, so that neither "[laughs]" nor "Note: ..." is taken for somebody.
_LABEL = r"(?:speaker|spkr|spk|s)[ _-]?\d{1,4}"
_TAG = re.compile(rf"\s*(?:-\s*)?(?:\[\s*({_LABEL})\s*\]\s*:?|({_LABEL})\s*:)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class ParsedTurns:
    """What a text with turns holds."""

    recordings: Mapping[str, tuple[Turn, ...]]
    """Turns by recording. Only RTTM names recordings; elsewhere the one name is empty."""
    skipped: int = 0
    """Segments, words or cues that name no speaker."""

    def of(self, *names: str, only: bool = True) -> tuple[Turn, ...]:
        """The turns of the recording that has the first of these names that is there; with `only`, of the only one.

        Raises `InvalidTurns` where there is none of these.
        """
        if only and len(self.recordings) == 1:
            return next(iter(self.recordings.values()))
        for name in names:
            if name in self.recordings:
                return self.recordings[name]
        there = sorted(self.recordings)
        shown = ", ".join(there[:10]) + (f" and {len(there) - 10:,} more" if len(there) > 10 else "")
        raise InvalidTurns(
            f"it has no turns of a recording {names[0] if names else ''}; it has {shown}.",
            hint="A recording's name in the RTTM must be the media file's name without its ending.",
        )


def parse_turns(text: str, suffix: str) -> ParsedTurns:
    """Turns from a text; `suffix` is the ending of its file (``.rttm``), or anything where it is not known.

    The ending decides between the known forms, the content where it says nothing. Raises `InvalidTurns` with the line or
    item and a hint, `NeedsTurns` where there is no turn.
    """
    text = text.removeprefix("\ufeff")
    suffix = suffix.lower()
    start = text.lstrip()[:10]
    if suffix == ".rttm":
        return ParsedTurns(parse_rttm(text))
    if suffix == ".json":
        return _json(text)
    if suffix in (".vtt", ".srt") or start.startswith("WEBVTT"):
        return _cues(text)
    if start.startswith(("[", "{")):
        return _json(text)
    if "-->" in text:
        return _cues(text)
    return ParsedTurns(parse_rttm(text))


def _json(text: str) -> ParsedTurns:
    if not text.lstrip().startswith("{"):
        return ParsedTurns({"": parse_json_turns(text)})
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidTurns(f"The turns are not JSON: {error}.", hint=_JSON_HINT) from error
    return _of_object(given)


def _of_object(given: dict[str, Any]) -> ParsedTurns:
    if items := _list(given, "diarization"):
        return ParsedTurns({"": turns_of_items(items, what="Item", texts=True)})
    if items := _list(given, "segments"):
        return _segments(items)
    if items := _list(given, "word_segments"):
        return _words(items)
    if any(key in given for key in ("diarization", "segments", "word_segments")):
        raise NeedsTurns("The JSON text holds no turn: its lists are empty.")
    if "exclusive_diarization" in given:
        raise InvalidTurns(
            "The JSON text holds exclusive_diarization only, which hides where two people talk at once.",
            hint="Give all of pyannote's serialize(), with its list diarization.",
        )
    raise InvalidTurns("The JSON text is a dict, and holds neither diarization nor segments.", hint=_JSON_HINT)


def _list(given: dict[str, Any], key: str) -> list[Any]:
    value = given.get(key)
    if value is not None and not isinstance(value, list):
        raise InvalidTurns(f"`{key}` is a {type(value).__name__}, not a list.", hint=_JSON_HINT)
    return value or []


def _segments(items: Sequence[Any]) -> ParsedTurns:
    """Segments that name a speaker; each is a turn."""
    spoken = []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise InvalidTurns(
                f"Segment {number} is a {type(item).__name__}, not an object.", hint=_JSON_HINT, item=number
            )
        if item.get("speaker") is not None:
            spoken.append((number, item))
    turns = [_segment(item, number) for number, item in spoken]
    return _spoken(turns, len(items) - len(turns), "segments")


def _segment(item: dict[str, Any], number: int) -> Turn:
    what, where = f"Segment {number}", {"item": number}
    if missing := [key for key in ("start", "end") if key not in item]:
        raise InvalidTurns(f"{what} lacks {', '.join(missing)}.", hint=_JSON_HINT, **where)
    if not isinstance(item["speaker"], str):
        raise InvalidTurns(f"{what}: `speaker` is not a text.", hint=_JSON_HINT, **where)
    start, end = (position(item[key], key, what, where, texts=True) for key in ("start", "end"))
    turn = Turn(start, end, item["speaker"])
    check_turn(turn, what, where)
    return turn


def _words(items: Sequence[Any]) -> ParsedTurns:
    """Words in a row that one speaker says, as one turn. Words without a speaker or a position are left out."""
    turns: list[Turn] = []
    skipped = 0
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise InvalidTurns(
                f"Word {number} is a {type(item).__name__}, not an object.", hint=_JSON_HINT, item=number
            )
        if item.get("speaker") is None or item.get("start") is None or item.get("end") is None:
            skipped += 1
            continue
        word = _segment(item, number)
        last = turns[-1] if turns else None
        if last is not None and last.speaker == word.speaker and 0 <= word.start - last.end <= WORD_GAP_SECONDS:
            turns[-1] = Turn(last.start, word.end, word.speaker)
        else:
            turns.append(word)
    return _spoken(turns, skipped, "words")


def _spoken(turns: Sequence[Turn], skipped: int, what: str, hint: str | None = None) -> ParsedTurns:
    if not turns:
        raise NeedsTurns(f"None of the {skipped:,} {what} names a speaker.", hint=hint)
    return ParsedTurns({"": tuple(turns)}, skipped)


# Subtitles


def _cues(text: str) -> ParsedTurns:
    """Cues whose text names who speaks. A cue with several voices is a turn of each: when each of them talks is not known."""
    turns: list[Turn] = []
    skipped = 0
    for number, start, end, lines in cues(text):
        speakers = dict.fromkeys(name for line in lines for name in _speakers(line))
        skipped += not speakers
        for speaker in speakers:
            turn = Turn(start, end, speaker)
            check_turn(turn, f"Line {number}", {"line": number})
            turns.append(turn)
    if not turns and not skipped:
        raise NeedsTurns("The text holds no cue.", hint=_CUE_HINT)
    return _spoken(turns, skipped, "cues", _TAG_HINT)


def cues(text: str) -> Iterator[tuple[int, float, float, list[str]]]:
    """Number of the line with its times, start and end in seconds, and the lines of text of each cue of WebVTT or SRT.

    Raises `InvalidTurns` for a line that does not say from when to when.
    """
    lines = _LINE_END.split(text)
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        at += 1
        if line.split(maxsplit=1)[:1] in (["NOTE"], ["STYLE"], ["REGION"]) and "-->" not in line:
            while at < len(lines) and lines[at].strip():
                at += 1
        if "-->" not in line:
            continue
        number = at
        start, end = _times(line, number)
        content = []
        while at < len(lines) and lines[at].strip():
            content.append(lines[at])
            at += 1
        yield number, start, end, content


def _times(line: str, number: int) -> tuple[float, float]:
    first, _, rest = line.partition("-->")
    second = rest.split(maxsplit=1)[0] if rest.strip() else ""
    found = [_TIME.fullmatch(part.strip()) for part in (first, second)]
    if not all(found):
        raise InvalidTurns(f"Line {number}: {line[:60]!r} does not say from when to when.", hint=_CUE_HINT, line=number)
    start, end = (_seconds(each) for each in found if each is not None)
    return start, end


def _seconds(found: re.Match[str]) -> float:
    hours, minutes, seconds, fraction = found.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def without_speaker(line: str) -> str:
    """What a line of a cue says: without tags, and without the label of who says it."""
    plain = re.sub(r"<[^<>]*>", "", line)
    tag = _TAG.match(plain)
    return plain if tag is None else plain[tag.end() :]


def _speakers(line: str) -> list[str]:
    voices = [html.unescape(name).strip() for name in _VOICE.findall(line)]
    if voices:
        return [name for name in voices if name]
    tag = _TAG.match(re.sub(r"<[^<>]*>", "", line))
    return [] if tag is None else [tag[1] or tag[2]]
