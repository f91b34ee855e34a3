"""Turns from text: RTTM and a plain JSON list, checked before anything else sees them. `core.turn_forms` reads more forms.

Pure functions. Every problem is `InvalidTurns` (it says which line or item, and what to do) or `NeedsTurns`
(there is no turn at all); no input text raises anything else.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Final

from speakerdb.core.texts import MAX_NAME_LENGTH, flaw
from speakerdb.errors import InvalidTurns, NeedsTurns
from speakerdb.types import Turn

END_TOLERANCE_SECONDS = 0.5
"""A turn may end this much after its recording and is cut there: diarizers round up, lengths are rounded."""

_RTTM_COLUMNS = "SPEAKER <recording> <channel> <start> <duration> <NA> <NA> <speaker> [<NA> [<NA>]]"
_RTTM_LINE_HINT = f"A turn in RTTM is one line of 8 to 10 columns: {_RTTM_COLUMNS}"
_JSON_HINT = 'Give a JSON list such as [{"start": 0.0, "end": 2.5, "speaker": "A"}], in seconds.'
_VALUE_HINT = "Mend or remove this turn and give the turns again."

# The object types of the RTTM definition (NIST, Rich Transcription 2009) that are not turns.
_OTHER_RTTM_TYPES = frozenset(
    (
        "SEGMENT",
        "NOSCORE",
        "NO_RT_METADATA",
        "LEXEME",
        "NON-LEX",
        "NON-SPEECH",
        "FILLER",
        "EDIT",
        "IP",
        "SU",
        "CB",
        "A/P",
        "SPKR-INFO",
    )
)
# `float` also takes underscores, "nan", "inf" and digits of other scripts; no turn file means these as a position.
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_COLUMN_GAP = re.compile(r"[ \t]+")
_LINE_END = re.compile(r"\r\n|\r|\n")


def parse_rttm(text: str) -> dict[str, tuple[Turn, ...]]:
    """Turns by recording name, in the order of the file. One file may hold many recordings.

    Empty lines, comments (``;`` or ``#``) and RTTM's other object types are skipped. A line with fewer than 8 or more
    than 10 columns is an error: more means that a name holds a space, and half a name is another name.

    Raises `InvalidTurns` with ``details["line"]``, `NeedsTurns` when there is no SPEAKER line.
    """
    found: dict[str, list[Turn]] = {}
    for number, line in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), start=1):
        columns = _COLUMN_GAP.split(line.strip(" \t"))
        kind = columns[0]
        if not kind or kind.startswith((";", "#")) or kind in _OTHER_RTTM_TYPES:
            continue
        where = {"line": number}
        if kind != "SPEAKER":
            raise InvalidTurns(
                f"Line {number} is not RTTM: it begins with {kind[:40]!r}.", hint=_RTTM_LINE_HINT, **where
            )
        if not 8 <= len(columns) <= 10:
            raise InvalidTurns(
                f"Line {number} has {len(columns)} columns instead of 8 to 10.", hint=_RTTM_LINE_HINT, **where
            )
        _, recording, _, start_text, seconds_text, _, _, speaker = columns[:8]
        start = _number(start_text, "start", number)
        seconds = _number(seconds_text, "duration", number)
        _check_name(recording, "recording name", f"Line {number}", where)
        if speaker == "<NA>":
            raise InvalidTurns(f"Line {number} names no speaker (<NA>).", hint=_RTTM_LINE_HINT, **where)
        turn = Turn(start, start + seconds, speaker)
        check_turn(turn, f"Line {number}", where)
        found.setdefault(recording, []).append(turn)
    if not found:
        raise NeedsTurns("The RTTM text holds no SPEAKER line.")
    return {recording: tuple(turns) for recording, turns in found.items()}


def parse_json_turns(text: str) -> tuple[Turn, ...]:
    """Turns of one recording from a JSON list of objects with `start`, `end` (seconds) and `speaker`.

    Other keys are ignored.

    Raises `InvalidTurns` with ``details["item"]`` (the first item is 1), `NeedsTurns` for an empty text or list.
    """
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise NeedsTurns("The text with the turns is empty.")
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, and a number with thousands of digits
        raise InvalidTurns(f"The turns are not JSON: {error}.", hint=_JSON_HINT) from error
    if not isinstance(items, list):
        raise InvalidTurns(f"The JSON text is a {type(items).__name__}, not a list of turns.", hint=_JSON_HINT)
    if not items:
        raise NeedsTurns("The JSON list of turns is empty.")
    return turns_of_items(items)


def turns_of_items(items: Sequence[object], *, what: str = "Item", texts: bool = False) -> tuple[Turn, ...]:
    """Turns from JSON objects with `start`, `end` and `speaker`, in their order; other keys are ignored.

    `what` is what an item is called in a message; with `texts`, positions may also be numbers written as texts.
    Raises `InvalidTurns` with ``details["item"]`` (the first is 1).
    """
    return tuple(_json_turn(item, number, what, texts) for number, item in enumerate(items, start=1))


def turns_given(given: object) -> tuple[Turn, ...]:
    """The turns that a program gave. `InvalidTurns` for anything but some `Turn`, with the way there from what pyannote
    returns; which turns can be used is for `validate`.
    """
    kind = type(given).__name__
    # Told apart by what they offer: pyannote is not imported for this.
    for attribute, name in (("speaker_diarization", "output.speaker_diarization"), ("itertracks", "annotation")):
        if hasattr(given, attribute):
            raise InvalidTurns(
                f"A {kind} of pyannote is not a list of turns.",
                hint=f"Give `[Turn(s.start, s.end, speaker) for s, _, speaker in {name}.itertracks(yield_label=True)]`,"
                " or add a JSON file of `output.serialize()` with `speakerdb add FILE --turns FILE`.",
            )
    hint = "Give a list of `speakerdb.types.Turn(start, end, speaker)`, in seconds."
    if isinstance(given, dict) and "diarization" in given:
        hint = f"{hint[:-1]}, made of its list diarization; or add it as a JSON file with `speakerdb add FILE --turns FILE`."
    if isinstance(given, (str, bytes, dict)) or not isinstance(given, Iterable):
        raise InvalidTurns(f"The turns are a {kind}, not a list of turns.", hint=hint)
    turns: list[Turn] = []
    for number, turn in enumerate(given, start=1):
        if not isinstance(turn, Turn):
            raise InvalidTurns(f"Turn {number} is a {type(turn).__name__}, not a Turn.", hint=hint, item=number)
        if not (isinstance(turn.start, Real) and isinstance(turn.end, Real) and isinstance(turn.speaker, str)):
            raise InvalidTurns(f"Turn {number} is not two numbers and a text: {turn}.", hint=hint, item=number)
        plain = type(turn.start) is type(turn.end) is float  # a database does not take numpy's numbers
        turns.append(turn if plain else Turn(float(turn.start), float(turn.end), turn.speaker))
    return tuple(turns)


def validate(turns: Iterable[Turn], duration: float | None) -> tuple[Turn, ...]:
    """The turns sorted by start, end and speaker, cut at the recording's end, each kept once.

    `duration` is the recording's length in seconds, None where it is not known. A turn that ends up to
    `END_TOLERANCE_SECONDS` after it is cut; one that starts at or after it, or ends later, is an error. Repeated turns
    (same start, end and speaker) are dropped without a word: they say nothing new.

    Raises `InvalidTurns` with ``details["item"]`` (position in `turns`, the first is 1), `NeedsTurns` for no turns.
    """
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise InvalidTurns(f"A recording cannot be {duration} seconds long.", hint="Check the media file.")
    kept: set[Turn] = set()
    for number, turn in enumerate(turns, start=1):
        where = {"item": number}
        check_turn(turn, f"Turn {number}", where)
        end = turn.end
        if duration is not None and end > duration:
            if turn.start >= duration or end > duration + END_TOLERANCE_SECONDS:
                raise InvalidTurns(
                    f"Turn {number} ({turn.start:g} to {end:g} s, {turn.speaker!r}) lies beyond the end of the "
                    f"recording, which is {duration:g} s long.",
                    hint="Are these the turns of this file? Make them again from it.",
                    duration=duration,
                    **where,
                )
            end = duration
        kept.add(Turn(turn.start, end, turn.speaker))
    if not kept:
        raise NeedsTurns("The recording has no turns.")
    return tuple(sorted(kept, key=in_time))


DIARIZE: Final = "diarize"
"""What is to be done with a recording whose turns are to be found, and the name of that lane of the queue."""
AWAITED = "awaited"
"""In the place of a digest: the turns are yet to be found, by a diarizer."""
NOBODY = "nobody"
"""In the place of a digest: a diarizer has listened, and nobody talks."""


def turns_digest(turns: Sequence[Turn]) -> str:
    """A hash of who talks when, to the millisecond, whatever the order of the turns and however often one is repeated.

    Equal digests mean "not changed". The millisecond makes turns that went through another format (RTTM holds a
    duration, JSON an end) equal to themselves.
    """
    rows = sorted({(round(t.start * 1000), round(t.end * 1000), t.speaker) for t in turns})
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=16).hexdigest()


def in_time(turn: Turn) -> tuple[float, float, str]:
    """The key by which turns are in order: start, end, speaker."""
    return turn.start, turn.end, turn.speaker


def _number(text: str, name: str, line: int) -> float:
    if _NUMBER.fullmatch(text) is None:
        raise InvalidTurns(
            f"Line {line}: the {name} {text[:40]!r} is not a number of seconds.", hint=_RTTM_LINE_HINT, line=line
        )
    return float(text)


def _json_turn(item: object, number: int, what: str, texts: bool) -> Turn:
    where = {"item": number}
    if not isinstance(item, dict):
        raise InvalidTurns(f"{what} {number} is a {type(item).__name__}, not an object.", hint=_JSON_HINT, **where)
    missing = [key for key in ("start", "end", "speaker") if key not in item]
    if missing:
        raise InvalidTurns(f"{what} {number} lacks {', '.join(missing)}.", hint=_JSON_HINT, **where)
    start, end = (position(item[key], key, f"{what} {number}", where, texts=texts) for key in ("start", "end"))
    if not isinstance(item["speaker"], str):
        raise InvalidTurns(f"{what} {number}: `speaker` is not a text.", hint=_JSON_HINT, **where)
    turn = Turn(start, end, item["speaker"])
    check_turn(turn, f"{what} {number}", where)
    return turn


def position(value: object, key: str, what: str, where: dict[str, int], *, texts: bool) -> float:
    """Seconds from a JSON value; with `texts` also from a number written as a text. Raises `InvalidTurns`."""
    if texts and isinstance(value, str) and len(value) < 100 and _NUMBER.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTurns(f"{what}: `{key}` is not a number.", hint=_JSON_HINT, **where)
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidTurns(f"{what}: `{key}` is too large.", hint=_VALUE_HINT, **where) from error


def check_turn(turn: Turn, what: str, where: dict[str, int]) -> None:
    """`InvalidTurns` for a turn that cannot be one; `what` begins the message, `where` goes into its details."""
    if not (math.isfinite(turn.start) and math.isfinite(turn.end)):
        raise InvalidTurns(f"{what}: {turn.start} to {turn.end} is not a stretch of time.", hint=_VALUE_HINT, **where)
    if turn.start < 0:
        raise InvalidTurns(f"{what} starts at {turn.start:g} s, before the recording.", hint=_VALUE_HINT, **where)
    if turn.end <= turn.start:
        raise InvalidTurns(
            f"{what} has no length: it starts at {turn.start:g} s and ends at {turn.end:g} s.",
            hint=_VALUE_HINT,
            **where,
        )
    _check_name(turn.speaker, "speaker", what, where)


def _check_name(name: str, role: str, what: str, where: dict[str, int]) -> None:
    if (found := flaw(name, MAX_NAME_LENGTH)) is not None:
        raise InvalidTurns(f"{what}: the {role} {found}.", hint=_VALUE_HINT, **where)
