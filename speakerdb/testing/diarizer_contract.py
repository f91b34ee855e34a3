"""The contract of the Diarizer port, as tests. For your own diarizer:

class TestMine(DiarizerContract):
    @pytest.fixture
    def diarizer(self) -> Diarizer:
        return MyDiarizer()

    @pytest.fixture
    def talk(self, tmp_path) -> Sound:
        return Sound.of_file(...)
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from speakerdb.core.talk import joined
from speakerdb.diarizers.port import Diarization, DiarizationProgress, Diarizer, Hints
from speakerdb.diarizers.sound import Sound
from speakerdb.errors import MediaError, TooFewVoices
from speakerdb.types import Turn


class DiarizerContract:
    """What speakerdb relies on. Subclass it and give the fixtures."""

    @pytest.fixture
    def diarizer(self) -> Diarizer:
        raise NotImplementedError("give your diarizer in this fixture")

    @pytest.fixture
    def talk(self) -> Sound:
        """A recording in which at least two talk, as short as the diarizer can do with."""
        raise NotImplementedError("give a recording in this fixture")

    @pytest.fixture
    def silence(self) -> Sound:
        """A recording in which nobody talks."""
        raise NotImplementedError("give a recording in this fixture")

    @pytest.fixture
    def found(self, diarizer: Diarizer, talk: Sound) -> Diarization:
        return diarizer.diarize(talk)

    def test_says_what_it_is(self, diarizer: Diarizer, found: Diarization) -> None:
        assert diarizer.name
        assert found.diarizer == diarizer.name

    def test_turns_lie_in_the_recording_in_order_of_time(self, found: Diarization, talk: Sound) -> None:
        assert found.turns
        assert found.seconds == pytest.approx(talk.seconds(), abs=0.1)
        for turns in (found.turns, found.exclusive):
            assert list(turns) == sorted(turns, key=lambda turn: (turn.start, turn.end, turn.speaker))
            assert all(0 <= turn.start < turn.end <= found.seconds for turn in turns)

    def test_speakers_are_named_the_same_everywhere(self, found: Diarization) -> None:
        assert len(found.speakers) >= 2
        assert {turn.speaker for turn in found.exclusive} <= set(found.speakers)
        assert set(found.embeddings) == set(found.speakers)
        assert all(speaker and not speaker.isspace() for speaker in found.speakers)

    def test_in_exclusive_turns_one_talks_at_a_time(self, found: Diarization) -> None:
        assert all(before.end <= after.start + 1e-6 for before, after in pairwise(found.exclusive))

    def test_exclusive_turns_cover_the_time_in_which_anybody_talks(self, found: Diarization) -> None:
        """But for what a diarizer rounds to its frames."""
        anybody = joined([Turn(turn.start, turn.end, "anybody") for turn in found.turns])["anybody"]
        spoken = sum(turn.end - turn.start for turn in anybody)
        alone = sum(turn.end - turn.start for turn in found.exclusive)
        assert alone == pytest.approx(spoken, rel=0.02, abs=0.05)

    def test_embeddings_are_unit_vectors_of_a_recipe_of_their_own_or_none(self, found: Diarization) -> None:
        voices = [voice for voice in found.embeddings.values() if voice is not None]
        for voice in voices:
            assert voice.ndim == 1
            assert voice.dtype == np.float32
            assert np.linalg.norm(voice) == pytest.approx(1.0, abs=1e-4)
        assert len({voice.shape for voice in voices}) <= 1
        assert not voices or found.embedding_recipe

    def test_scores_are_probabilities(self, found: Diarization) -> None:
        scores = found.overlap_scores
        if scores is None:
            pytest.skip("this diarizer has no scores")
        assert min(scores.values) >= -1e-6
        assert max(scores.values) <= 1 + 1e-6
        assert scores.start + len(scores.values) * scores.step >= found.seconds - 1

    def test_the_same_twice(self, diarizer: Diarizer, found: Diarization, talk: Sound) -> None:
        again = diarizer.diarize(talk)
        assert (again.turns, again.exclusive) == (found.turns, found.exclusive)

    def test_silence_has_no_turns_and_is_no_error(self, diarizer: Diarizer, silence: Sound) -> None:
        found = diarizer.diarize(silence)
        assert (found.turns, found.exclusive, dict(found.embeddings)) == ((), (), {})
        assert found.notices

    def test_progress_goes_forward(self, diarizer: Diarizer, talk: Sound) -> None:
        told: list[DiarizationProgress] = []
        diarizer.diarize(talk, on_progress=told.append)
        assert told
        assert all(0 <= each.completed <= each.total for each in told)
        by_step: dict[tuple[int, str], list[int]] = {}
        for each in told:
            by_step.setdefault((each.window, each.step), []).append(each.completed)
        assert all(done == sorted(done) for done in by_step.values())

    def test_time_is_told_by_step(self, found: Diarization) -> None:
        assert found.timing
        assert all(seconds >= 0 for seconds in found.timing.values())

    def test_more_speakers_than_can_be_told_apart_are_refused(self, diarizer: Diarizer, talk: Sound) -> None:
        with pytest.raises(TooFewVoices):
            diarizer.diarize(talk, Hints(num_speakers=99))

    def test_a_file_that_is_none_is_a_media_error(
        self, diarizer: Diarizer, talk: Sound, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        broken = tmp_path_factory.mktemp("broken") / f"{talk.name}.wav"
        broken.write_bytes(b"RIFF, but not much of it")
        with pytest.raises(MediaError):
            diarizer.diarize(Sound.of_file(broken))
