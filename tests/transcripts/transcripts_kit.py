"""Transcripts of two voices, as transcribers write them; recordings for them, and the command line on a library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import silence, two_voices
from speakerdb.types import Turn

SAID = "unmistakeably"
"""A word that is said in every one of them, to be looked for where it must not be."""

# SPEAKER_00 talks from 0 to 10 s, SPEAKER_01 from 10 to 20 s (`factories.two_voices`).
WORDS = [
    ("Well,", 1.0, 1.5), ("um,", 2.0, 2.4), ("hello", 3.0, 3.5), ("there.", 4.0, 4.5),
    ("Hello", 11.0, 11.5), (SAID, 12.0, 13.0), ("uh", 14.0, 14.2),
]  # fmt: skip


def word_items(words: Iterable[tuple[str, float, float]] = WORDS) -> list[dict[str, Any]]:
    return [{"word": word, "start": start, "end": end} for word, start, end in words]


def whisperx(**more: Any) -> str:
    """One segment across both voices, with words."""
    text = " ".join(word for word, _, _ in WORDS)
    segment = {"start": 1.0, "end": 14.2, "text": f" {text}", "words": word_items()}
    return json.dumps({"segments": [segment], "language": "en"} | more)


SRT = f"""\ufeff1\r
00:00:01,000 --> 00:00:04,500\r
Well, um, hello there.\r
\r
2\r
00:00:11,000 --> 00:00:14,200\r
Hello {SAID} uh\r
"""
VTT = f"WEBVTT\n\n00:01.000 --> 00:04.500\nWell, um, hello there.\n\n00:11.000 --> 00:14.200\nHello {SAID} uh\n"

HOSTILE: Mapping[str, tuple[bytes, str]] = {
    "half a JSON": (b'{"segments": [{"start": 0, "end": 1, "text": "unmistakeably', ".json"),
    "not JSON": (b"unmistakeably", ".json"),
    "deep": (b"[" * 100_000, ".json"),
    "nothing": (b"", ".json"),
    "empty words": (b'{"segments": [{"start": 0, "end": 1, "text": "", "words": [{"word": " "}]}]}', ".json"),
    "backwards": (
        b'[{"start": 5, "end": 6, "text": "unmistakeably"}, {"start": 1, "end": 2, "text": "b"}]', ".json",
    ),
    "a segment that ends before it begins": (b'[{"start": 5, "end": 4, "text": "unmistakeably"}]', ".json"),
    "words backwards": (
        b'[{"start": 0, "end": 9, "text": "unmistakeably b", "words": [{"word": "unmistakeably", "start": 3, "end": 4},'
        b' {"word": "b", "start": 1, "end": 2}]}]', ".json",
    ),
    "of another file": (b'[{"start": 0, "end": 9000, "text": "unmistakeably"}]', ".json"),
    "negative": (b'[{"start": -1, "end": 4, "text": "unmistakeably"}]', ".json"),
    "not finite": (b'[{"start": 0, "end": Infinity, "text": "unmistakeably"}]', ".json"),
    "a NUL": (b'[{"start": 0, "end": 1, "text": "unmistakeably\\u0000"}]', ".json"),
    "half a character": (b'[{"start": 0, "end": 1, "text": "unmistakeably \\ud800"}]', ".json"),
    "not UTF-8": (b'[{"start": 0, "end": 1, "text": "unmistakeably \xff"}]', ".json"),
    "an arrow without times": (b"WEBVTT\n\nunmistakeably --> there\nunmistakeably\n", ".vtt"),
    "no cues": (b"WEBVTT\n\nunmistakeably\n", ".vtt"),
    "cues backwards": (
        b"1\n00:00:05,000 --> 00:00:06,000\nunmistakeably\n\n2\n00:00:01,000 --> 00:00:02,000\nb\n", ".srt",
    ),
}  # fmt: skip
"""What is no transcript of a recording of 20 s, by what is wrong with it: the bytes, and the ending of the file."""


def add(db: SpeakerDB, name: str = "talk", turns: tuple[Turn, ...] = two_voices(), **more: Any) -> dict[str, str]:
    """A recording in memory, 20 s long; speaker ids by label."""
    report = db.add(None, turns, recording_id=name, waveform=silence(20), **more)
    return dict(report.speakers)
