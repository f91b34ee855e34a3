"""Transcripts and turns as files: JSON and subtitles with speakers, RTTM, and what pyannote's `serialize()` gives.

The JSON of two-stage transcription holds `segments` (times as texts with three decimals), `speakers`, and `diarization` (the
turns, which may overlap, times as numbers). Pure functions; what is written can be read again by `core.turn_forms`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from speakerdb.core.transcript.labelling import Labelled, Piece
from speakerdb.core.turns import in_time
from speakerdb.errors import InvalidInput
from speakerdb.types import Turn


def two_stage(
    labelled: Labelled, turns: Sequence[Turn], names: Mapping[str, str] | None = None, *, words: bool = False
) -> dict[str, Any]:
    """The JSON document of a transcript with speakers. `names` are shown in the place of labels; `words` adds them."""
    known = names or {}
    segments: list[dict[str, Any]] = []
    for piece in labelled.pieces:
        one: dict[str, Any] = {
            "start": f"{piece.start:.3f}",
            "end": f"{piece.end:.3f}",
            "text": piece.text,
            "speaker": _named(piece.speaker, known),
        }
        if words and piece.words:
            one["words"] = [
                {"word": word.text, "start": word.start, "end": word.end, "speaker": _named(word.speaker, known)}
                for word in piece.words
            ]
        segments.append(one)
    spoken = dict.fromkeys(turn.speaker for turn in _in_order(turns))
    speakers = dict.fromkeys((*labelled.speakers, *spoken))
    return {
        "segments": segments,
        "speakers": list(dict.fromkeys(known.get(speaker, speaker) for speaker in speakers)),
        "diarization": _items(turns, known),
    }


def srt(labelled: Labelled, names: Mapping[str, str] | None = None) -> str:
    """SubRip subtitles; what a speaker says begins with ``[NAME]``, what nobody says with nothing."""
    known = names or {}
    blocks = [
        f"{number}\n{_clock(piece.start, ',')} --> {_clock(piece.end, ',')}\n{_tagged(piece, known)}\n"
        for number, piece in enumerate(labelled.pieces, start=1)
    ]
    return "\n".join(blocks)


def vtt(labelled: Labelled, names: Mapping[str, str] | None = None) -> str:
    """WebVTT, with voice tags."""
    known = names or {}
    blocks = ["WEBVTT\n"]
    for piece in labelled.pieces:
        name, text = _named(piece.speaker, known), html.escape(_one_line(piece.text), quote=False)
        said = text if name is None else f"<v {html.escape(_one_line(name), quote=False)}>{text}"
        blocks.append(f"{_clock(piece.start, '.')} --> {_clock(piece.end, '.')}\n{said}\n")
    return "\n".join(blocks)


def plain_text(labelled: Labelled, names: Mapping[str, str] | None = None) -> str:
    """To be read: a paragraph whenever another one speaks, with who it is in front; what nobody says stands alone."""
    known = names or {}
    paragraphs = []
    for speaker, pieces in groupby(labelled.pieces, key=lambda piece: piece.speaker):
        name, said = _named(speaker, known), " ".join(filter(None, (_one_line(piece.text) for piece in pieces)))
        paragraphs.append(said if name is None else f"{_one_line(name)}: {said}")
    return "".join(f"{each}\n" for each in paragraphs)


def rttm(turns: Iterable[Turn], recording: str) -> str:
    """RTTM, a line a turn, in order of time. `InvalidInput` for a name with a space in it: RTTM has columns."""
    lines = []
    for turn in _in_order(turns):
        for what, name in (("recording", recording), ("speaker", turn.speaker)):
            if not name or any(character.isspace() for character in name):
                raise InvalidInput(
                    f"RTTM cannot hold the {what} {name!r}: its columns end at a space.",
                    hint="Rename it without spaces, or write JSON.",
                )
        seconds = turn.end - turn.start
        lines.append(f"SPEAKER {recording} 1 {turn.start:.3f} {seconds:.3f} <NA> <NA> {turn.speaker} <NA> <NA>\n")
    return "".join(lines)


def serialized(turns: Sequence[Turn], exclusive: Sequence[Turn]) -> dict[str, Any]:
    """As pyannote's `DiarizeOutput.serialize()`: both sets of turns, to the millisecond."""
    return {"diarization": _items(turns, {}), "exclusive_diarization": _items(exclusive, {})}


def without_text(exclusive: Sequence[Turn]) -> Labelled:
    """Turns as a transcript in which nothing is written yet, for the forms that want segments."""
    pieces = (
        Piece(number, turn.start, turn.end, "", turn.speaker, (), ((turn.speaker, turn.end - turn.start),))
        for number, turn in enumerate(_in_order(exclusive))
    )
    return Labelled(tuple(pieces), 0)


def _items(turns: Iterable[Turn], names: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"start": round(turn.start, 3), "end": round(turn.end, 3), "speaker": names.get(turn.speaker, turn.speaker)}
        for turn in _in_order(turns)
    ]


def _in_order(turns: Iterable[Turn]) -> list[Turn]:
    return sorted(turns, key=in_time)


def _named(speaker: str | None, names: Mapping[str, str]) -> str | None:
    return None if speaker is None else names.get(speaker, speaker)


def _tagged(piece: Piece, names: Mapping[str, str]) -> str:
    name = _named(piece.speaker, names)
    return " ".join(filter(None, ("" if name is None else f"[{_one_line(name)}]", _one_line(piece.text))))


def _one_line(text: str) -> str:
    """A line end inside a cue could end the cue."""
    return " ".join(text.split()).replace("-->", "->")


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
