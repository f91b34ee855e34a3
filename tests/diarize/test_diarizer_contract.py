"""The contract of the port, run against every diarizer there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diarize_kit import RATE, conversation, file_of, heard

from speakerdb.core.turns import parse_json_turns
from speakerdb.diarizers.channels import ChannelsAsSpeakers
from speakerdb.diarizers.given import TurnsFile
from speakerdb.diarizers.port import Diarization, Diarizer
from speakerdb.diarizers.pyannote import PyannoteDiarizer
from speakerdb.diarizers.sound import Sound
from speakerdb.testing.diarizer_contract import DiarizerContract
from speakerdb.types import Waveform

SILENCE = Sound.of_waveform(Waveform(np.zeros(RATE, np.float32), RATE), "silence")


@pytest.mark.models
class TestPyannote(DiarizerContract):
    @pytest.fixture
    def diarizer(self, shared: PyannoteDiarizer) -> Diarizer:
        return shared

    @pytest.fixture
    def talk(self) -> Sound:
        return heard([(1, 5), (2, 5), (1, 5)])

    @pytest.fixture
    def found(self, talked: Diarization) -> Diarization:
        return talked

    @pytest.fixture
    def silence(self) -> Sound:
        return SILENCE


class TestTurnsFile(DiarizerContract):
    TURNS = """[{"start": 0.5, "end": 4.0, "speaker": "B"}, {"start": 3.5, "end": 6, "speaker": "A"},
                {"start": 5, "end": 5.5, "speaker": "B"}, {"start": 7, "end": 8, "speaker": "C"}]"""

    @pytest.fixture
    def diarizer(self) -> Diarizer:
        return TurnsFile(lambda sound: () if sound.name == "silence" else parse_json_turns(self.TURNS))

    @pytest.fixture
    def talk(self) -> Sound:
        return heard([(1, 9)])

    @pytest.fixture
    def silence(self) -> Sound:
        return SILENCE


class TestChannelsAsSpeakers(DiarizerContract):
    @pytest.fixture
    def diarizer(self) -> Diarizer:
        return ChannelsAsSpeakers()

    @pytest.fixture
    def talk(self, tmp_path: Path) -> Sound:
        left, right = conversation([(1, 3), (0, 3), (1, 2)]), conversation([(0, 2.5), (2, 3), (0, 2.5)])
        return Sound.of_file(file_of(tmp_path / "call.wav", np.stack([left, right]), "stereo"))

    @pytest.fixture
    def silence(self, tmp_path: Path) -> Sound:
        return Sound.of_file(file_of(tmp_path / "quiet.wav", np.zeros((2, RATE), np.float32), "stereo"))
