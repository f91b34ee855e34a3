"""The parts without a network: exclusive turns, channels, blocks of sound, and error rates against what a hand computes."""

from __future__ import annotations

import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from audio_files import chirps, write
from diarize_kit import RATE, conversation, file_of
from hypothesis import given
from hypothesis import strategies as st

from speakerdb import media
from speakerdb.core.channels import FRAME_SECONDS, channel_turns, levels, same_sound
from speakerdb.core.exclusive import exclusive
from speakerdb.diarizers.channels import ChannelsAsSpeakers
from speakerdb.diarizers.evaluating import evaluate
from speakerdb.diarizers.given import TurnsFile
from speakerdb.diarizers.port import Hints
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import InvalidInput, InvalidTurns, MediaError
from speakerdb.types import Turn

FRAME = 0.25
turns = st.lists(
    st.builds(
        lambda start, length, who: Turn(start * FRAME, (start + length) * FRAME, who),
        st.integers(0, 60), st.integers(1, 30), st.sampled_from("ABCD"),
    ),
    max_size=20,
)  # fmt: skip


def _frames(given: list[Turn] | tuple[Turn, ...]) -> list[set[str]]:
    return [{t.speaker for t in given if t.start <= n * FRAME < t.end} for n in range(400)]


@given(turns)
def test_exclusive_turns_are_one_of_those_who_talk_in_each_frame(given: list[Turn]) -> None:
    found = exclusive(given)
    for talking, alone in zip(_frames(given), _frames(found), strict=True):
        assert len(alone) == min(1, len(talking))
        assert alone <= talking
    assert all(before.end <= after.start for before, after in pairwise(found))


@given(turns)
def test_turns_that_do_not_overlap_stay_as_they_are(given: list[Turn]) -> None:
    once = exclusive(given)
    assert exclusive(once) == tuple(sorted(once, key=lambda turn: (turn.start, turn.end, turn.speaker)))


# Channels


def _call(tmp_path: Path, left: list[tuple[int, float]], right: list[tuple[int, float]], leak: float = 0.0) -> Path:
    one, two = conversation(left), conversation(right)
    rng = np.random.default_rng(0)
    noise = [0.0005 * rng.standard_normal(len(each)).astype(np.float32) for each in (one, two)]
    return file_of(
        tmp_path / "call.wav", np.stack([one + leak * two + noise[0], two + leak * one + noise[1]]), "stereo"
    )


def _assert_turns(found: tuple[Turn, ...], expected: list[tuple[float, float, str]]) -> None:
    assert [turn.speaker for turn in found] == [who for *_, who in expected]
    for turn, (start, end, _) in zip(found, expected, strict=True):
        assert turn.start == pytest.approx(start, abs=0.1)
        assert turn.end == pytest.approx(end, abs=0.1)


@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_each_channel_is_a_speaker_whatever_leaks_into_it(tmp_path: Path, leak: float) -> None:
    path = _call(tmp_path, [(1, 3), (0, 3), (1, 2)], [(0, 2.5), (2, 3), (0, 2.5)], leak)
    found = ChannelsAsSpeakers().diarize(Sound.of_file(path))
    _assert_turns(found.turns, [(0, 3, "SPEAKER_00"), (2.5, 5.5, "SPEAKER_01"), (6, 8, "SPEAKER_00")])
    assert found.seconds == pytest.approx(8.0)
    assert found.overlap_scores is None


def test_a_channel_that_only_hums_says_nothing(tmp_path: Path) -> None:
    path = _call(tmp_path, [(1, 3), (0, 3)], [(0, 6)])
    found = ChannelsAsSpeakers().diarize(Sound.of_file(path))
    assert found.speakers == ("SPEAKER_00",)
    assert any("SPEAKER_01" in notice for notice in found.notices)


def test_what_has_no_channels_for_speakers_is_refused(tmp_path: Path) -> None:
    voice = conversation([(1, 2), (0, 1)])
    mono, twice = (
        file_of(tmp_path / "mono.wav", voice),
        file_of(tmp_path / "twice.wav", np.stack([voice, voice]), "stereo"),
    )
    for path, says in ((mono, "1 channel;"), (twice, "the same sound")):
        with pytest.raises(InvalidInput, match=says):
            ChannelsAsSpeakers().diarize(Sound.of_file(path))
    with pytest.raises(InvalidInput, match="more speakers"):
        ChannelsAsSpeakers().diarize(Sound.of_file(twice), Hints(max_speakers=1))


def test_levels_and_short_pauses() -> None:
    tone = np.full(RATE, 0.1, np.float32)
    assert np.allclose(levels(tone, RATE), -20.0, atol=0.01)
    assert len(levels(tone[:-1], RATE)) == round(1 / FRAME_SECONDS) - 1
    loud, quiet = np.full(100, -20, np.float32), np.full(100, -80, np.float32)
    talk = np.concatenate([quiet, loud, quiet[:10], loud, quiet, loud[:5], quiet])  # a pause of 0.2 s, a burst of 0.1 s
    assert not same_sound([talk, np.full_like(talk, -100)])
    found, alone = channel_turns([talk, np.full_like(talk, -100)], ["A", "B"])
    assert found == alone == (Turn(2.0, 6.2, "A"),)


# Sound


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("ending", ["wav", "mp3"])
def test_blocks_are_the_whole_sound_in_pieces(tmp_path: Path, ending: str, rate: int) -> None:
    codec, kind = {"wav": ("pcm_s16le", "s16"), "mp3": ("libmp3lame", "fltp")}[ending]
    path = write(tmp_path / f"sound.{ending}", chirps(7.3, rate), rate, codec=codec, sample_format=kind)
    blocks = list(media.decode_blocks(path, 16_000, 2.0))
    whole = media.decode_all(path, 16_000, 100.0)
    assert {len(block) for block in blocks[:-1]} == {32_000}
    joined = np.concatenate(blocks)
    assert len(joined) == pytest.approx(len(whole), abs=16)
    same = min(len(joined), len(whole))
    assert np.abs(joined[:same] - whole[:same]).max() < 2e-3
    assert Sound.of_file(path).seconds() == pytest.approx(len(whole) / 16_000, abs=0.01)


def test_a_block_that_ends_with_the_sound_is_the_last(tmp_path: Path) -> None:
    path = write(tmp_path / "even.wav", chirps(4.0, RATE), RATE, codec="pcm_s16le")
    assert [len(block) for block in media.decode_blocks(path, RATE, 2.0)] == [32_000, 32_000]


def test_one_channel_can_be_read_alone(tmp_path: Path) -> None:
    left, right = chirps(1.0, RATE, seed=1), chirps(1.0, RATE, seed=2)
    path = write(tmp_path / "two.wav", np.stack([left, right]), RATE, codec="pcm_s16le", layout="stereo")
    for channel, expected in enumerate((left, right)):
        (found,) = media.decode_blocks(path, RATE, 2.0, channel=channel)
        assert np.abs(found - expected).max() < 1e-3
    with pytest.raises(InvalidInput, match="no channel 3"):
        list(media.decode_blocks(path, RATE, 2.0, channel=2))


def test_what_is_missing_inside_a_file_does_not_move_what_comes_after(tmp_path: Path) -> None:
    path = write(
        tmp_path / "hole.mka", chirps(8.0, RATE), RATE, codec="pcm_s16le", container="matroska", hole=(3.0, 3.5)
    )
    blocks = list(media.decode_blocks(path, RATE, 2.0))
    assert [len(block) for block in blocks] == [32_000] * 4
    expected = chirps(8.0, RATE)[6 * RATE :]
    assert np.abs(blocks[3] - expected).max() < 1e-2


def test_a_file_without_a_sample_is_an_error(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "none.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
    with pytest.raises(MediaError):
        list(media.decode_blocks(tmp_path / "none.wav", RATE, 2.0))


def test_turns_that_do_not_fit_the_sound_are_refused(sound_file: Path) -> None:
    diarizer = TurnsFile(lambda _: [Turn(0, 1, "A"), Turn(5, 9, "B")])
    with pytest.raises(InvalidTurns, match="beyond the end"):
        diarizer.diarize(Sound.of_file(sound_file))


# Evaluation


REFERENCE = {"one": [Turn(0, 10, "a"), Turn(10, 20, "b")]}


def test_a_perfect_answer_has_no_error_whatever_the_labels() -> None:
    report = evaluate(REFERENCE, {"one": [Turn(0, 10, "X"), Turn(10, 20, "Y")]})
    assert report.error_rate == 0.0
    assert report.total == 20.0


def test_each_part_is_what_a_hand_computes() -> None:
    report = evaluate(REFERENCE, {"one": [Turn(0, 8, "X"), Turn(10, 15, "Y"), Turn(15, 20, "X"), Turn(20, 22, "Y")]})
    assert (report.missed, report.confusion, report.false_alarm) == pytest.approx((2, 5, 2))
    assert report.error_rate == pytest.approx(9 / 20)
    (row,) = report.recordings
    assert (row.speakers, row.speakers_found) == (2, 2)


def test_the_collar_is_a_total_width() -> None:
    late = {"one": [Turn(0.2, 10, "X"), Turn(10, 20, "Y")]}
    assert evaluate(REFERENCE, late).missed == pytest.approx(0.2)
    assert evaluate(REFERENCE, late, collar=0.2).missed == pytest.approx(0.1)
    assert evaluate(REFERENCE, late, collar=0.4).missed == pytest.approx(0.0, abs=1e-9)


def test_overlapped_speech_can_be_left_out() -> None:
    both = {"one": [Turn(0, 10, "a"), Turn(5, 10, "b")]}
    one = {"one": [Turn(0, 10, "X")]}
    assert evaluate(both, one).missed == pytest.approx(5)
    report = evaluate(both, one, skip_overlap=True)
    assert (report.missed, report.total) == pytest.approx((0, 5))


def test_several_recordings_are_summed_and_what_is_missing_is_named() -> None:
    reference = REFERENCE | {"two": [Turn(0, 5, "c")], "three": [Turn(0, 5, "d")]}
    report = evaluate(reference, {"one": [Turn(0, 10, "X")], "two": [Turn(0, 5, "Z")], "other": [Turn(0, 1, "Q")]})
    assert [row.recording for row in report.recordings] == ["one", "two", "three"]
    assert [row.error_rate for row in report.recordings] == pytest.approx([0.5, 0.0, 1.0])
    assert report.error_rate == pytest.approx(15 / 30)
    assert report.without_reference == ("other",)
    assert report.without_hypothesis == ("three",)


def test_one_recording_on_each_side_is_compared_whatever_its_name() -> None:
    assert evaluate(REFERENCE, {"": [Turn(0, 20, "X")]}).error_rate == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("reference", "hypothesis"), [({}, {}), (REFERENCE | {"x": []}, {"other": [], "more": []}), ({"a": []}, {"a": []})]
)
def test_nothing_to_compare_is_refused(reference: dict[str, list[Turn]], hypothesis: dict[str, list[Turn]]) -> None:
    with pytest.raises(InvalidInput, match="nothing to compare"):
        evaluate(reference, hypothesis)
