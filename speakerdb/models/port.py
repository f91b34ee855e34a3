"""The port every embedding model implements. Its contract suite is `speakerdb.testing.embedder_contract`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from speakerdb.types import FloatArray


class Embedder(Protocol):
    """Turns segments of mono speech into vectors."""

    @property
    def model_id(self) -> str:
        """What was loaded, as a person should read it (id, and that it is a stand-in where it is one)."""

    @property
    def dimension(self) -> int:
        """Length of one vector."""

    @property
    def sample_rate(self) -> int:
        """Samples a second that `embed` expects, in Hz."""

    @property
    def min_samples(self) -> int:
        """The shortest segment that `embed` takes."""

    @property
    def forwards(self) -> int:
        """Segments that have passed the network so far, each as often as it did. It only grows; whoever embeds takes the
        difference."""

    def embed(self, segments: Sequence[FloatArray]) -> FloatArray:
        """One row a segment, shape (n, dimension), float32, not normalised. Segments may differ in length and are
        never padded: a row depends on its own segment only.

        `NotFinite` (with `details["rows"]`) when a row could not be computed; `InvalidInput` for a segment shorter than
        `min_samples`, not 1-D float32, or not finite. Never a zero vector.
        """
