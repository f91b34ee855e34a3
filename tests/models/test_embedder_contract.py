"""The contract of the port, run against every embedder there is."""

from __future__ import annotations

import pytest

from speakerdb.models.port import Embedder
from speakerdb.models.registry import LoadedModel
from speakerdb.models.spectral import SpectralEmbedder
from speakerdb.testing.embedder_contract import EmbedderContract


class TestSpectralA(EmbedderContract):
    level_cosine = 0.9999

    @pytest.fixture
    def embedder(self) -> Embedder:
        return SpectralEmbedder("spectral-a", 512)


class TestSpectralB(EmbedderContract):
    level_cosine = 0.9999

    @pytest.fixture
    def embedder(self) -> Embedder:
        return SpectralEmbedder("spectral-b", 256)


@pytest.mark.models
class TestWeSpeaker(EmbedderContract):
    # Its features are logarithms minus their mean over the segment.
    level_cosine = 0.999

    @pytest.fixture
    def embedder(self, loaded_v4: LoadedModel) -> Embedder:
        return loaded_v4.embedder


@pytest.mark.models
class TestXVector(EmbedderContract):
    # Its first layer normalises the waveform.
    level_cosine = 0.99

    @pytest.fixture
    def embedder(self, loaded_v3: LoadedModel) -> Embedder:
        return loaded_v3.embedder
