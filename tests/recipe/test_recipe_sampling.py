"""Which voices are tried: at random, always the same, and enough of those that can be compared."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.sampling import VOICES, Reservoir, some_voices
from speakerdb.reports.recipes import Voice


def library(named: dict[str, int], unnamed: int) -> list[Voice]:
    """So many voices of each profile, each in a recording of its own, profile by profile."""
    voices = [
        Voice(f"{profile}-{n}", f"r-{profile}-{n}", "l", profile)
        for profile, count in named.items()
        for n in range(count)
    ]
    return voices + [Voice(f"x-{n}", f"r-x-{n}", "l", None) for n in range(unnamed)]


@given(st.integers(0, 60), st.integers(1, 40))
def test_a_reservoir_keeps_all_or_so_many(offered: int, size: int) -> None:
    kept = Reservoir[int](size)
    for n in range(offered):
        kept.offer(n)
    assert len(set(kept.kept)) == len(kept.kept) == min(offered, size)
    assert set(kept.kept) <= set(range(offered))


def test_every_place_of_a_stream_has_the_same_chance() -> None:
    """With other numbers than the fixed seed's: 4,000 samples of 5 of 20, each place expected 1,000 times."""
    import random

    seen: Counter[int] = Counter()
    for seed in range(4000):
        kept = Reservoir[int](5)
        kept._numbers = random.Random(seed)  # noqa: S311
        for n in range(20):
            kept.offer(n)
        seen.update(kept.kept)
    assert all(850 < seen[n] < 1150 for n in range(20)), seen


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 12)), st.integers(0, 40), st.integers(1, 30))
def test_as_many_as_were_asked_for_and_each_once(named: dict[str, int], unnamed: int, size: int) -> None:
    voices = library(named, unnamed)
    found = some_voices(voices, size)
    assert len(found) == len({voice.speaker_id for voice in found}) == min(size, len(voices))
    assert set(found) <= set(voices)
    assert found == some_voices(voices, size)
    assert found == sorted(found, key=lambda voice: (voice.recording_id, voice.speaker_id))


def test_up_to_half_are_of_profiles_that_can_be_compared() -> None:
    found = some_voices(library({f"p{n}": 20 for n in range(10)}, 5000), 50)
    named = Counter(voice.profile_id for voice in found if voice.profile_id)
    assert sum(named.values()) >= 25
    assert sum(count >= VOICES for count in named.values()) >= 4, named
    assert sum(voice.profile_id is None for voice in found) >= 20


def test_a_profile_of_one_recording_is_not_preferred() -> None:
    alone = [Voice(f"a{n}", "r", "l", "ann") for n in range(9)]
    unnamed = library({}, 2000)
    found = some_voices([*alone, *unnamed], 10)
    assert sum(voice.profile_id == "ann" for voice in found) <= 2


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_samples(size: int) -> None:
    assert len(some_voices(library({"a": 3, "b": 3}, 10), size)) == size
