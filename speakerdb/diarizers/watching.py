"""Looking on while a pipeline works: progress, seconds by step, what each step made, and how surely several talk at once.

The pipeline is changed in two places for the length of a run, and computes the same: what its segmentation network gives goes
through a module that also keeps the probability that at least two talk, and the choice of the embeddings that are clustered
refuses hints that they cannot meet.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerdb.core.overlap import OverlapScores
from speakerdb.diarizers.port import Artifact, DiarizationProgress, Hints, OnArtifact, OnDiarization
from speakerdb.errors import TooFewVoices

STEPS = {
    "segmentation": "segmentation",
    "speaker_counting": "speaker counting",
    "embeddings": "embeddings",
    "discrete_diarization": "clustering",
}
"""pyannote's names of steps, and ours. It tells of a step when it is over, so what it tells last includes the clustering."""


class Watch:
    """One run of a pipeline over one window, which begins at `start` seconds of the recording."""

    def __init__(
        self,
        hints: Hints,
        *,
        window: int = 1,
        windows: int | None = None,
        start: float = 0.0,
        on_progress: OnDiarization | None = None,
        on_artifact: OnArtifact | None = None,
    ) -> None:
        self.timing: dict[str, float] = {}
        self.usable = 0
        """Embeddings that could be clustered."""
        self.hints = hints
        self._window, self._windows, self._start = window, windows, start
        self._on_progress, self._on_artifact = on_progress, on_artifact
        self._since = time.perf_counter()
        self._totals: dict[str, int] = {}
        self._together: list[npt.NDArray[np.float32]] = []

    def hook(
        self,
        step_name: str,
        artifact: Any,
        file: Any = None,  # noqa: ARG002 - pyannote passes it by name
        total: int | None = None,
        completed: int | None = None,
    ) -> None:
        """What pyannote calls."""
        now, step = time.perf_counter(), STEPS.get(step_name, step_name)
        self.timing[step] = self.timing.get(step, 0.0) + now - self._since
        self._since = now
        if self._on_progress is not None:
            of = self._totals.setdefault(step, total or 1)
            done = of if completed is None else min(completed, of)
            self._on_progress(DiarizationProgress(step, done, of, self._window, self._windows))
        if artifact is not None and total is None and self._on_artifact is not None:
            self._on_artifact(self._artifact(step_name, artifact))

    def finished(self) -> None:
        """The pipeline has returned."""
        self.timing["finishing"] = time.perf_counter() - self._since

    @contextmanager
    def on(self, pipeline: Any) -> Iterator[None]:
        """Look on at a pipeline."""
        import torch

        segmentation, clustering = pipeline._segmentation, pipeline.clustering
        own, chosen, infer = segmentation.conversion, clustering.filter_embeddings, segmentation.infer
        combinations = _combinations(own)
        self._since = time.perf_counter()

        class Kept(torch.nn.Module):  # type: ignore[misc]
            def forward(this, output: Any) -> Any:
                self._together.append(_at_least_two(output, combinations).cpu().numpy())
                return own(output)

        def filtered(*args: Any, **kwargs: Any) -> Any:
            found = chosen(*args, **kwargs)
            self.usable = len(found[0])
            if self.hints.least > max(1, self.usable):
                raise TooFewVoices(
                    f"{self.hints.least} speakers were asked for, and there is clean speech for {self.usable} embeddings.",
                    asked=self.hints.least,
                    usable=self.usable,
                )
            return found

        def inferred(chunks: Any) -> Any:
            # A recurrent network computes step by step: two threads that wait for each other beside a busy process took
            # 18 s for what one did in 0.05 s.
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                return infer(chunks)
            finally:
                torch.set_num_threads(before)

        segmentation.conversion = Kept()
        if segmentation.device.type == "cpu":
            segmentation.infer = inferred
        object.__setattr__(clustering, "filter_embeddings", filtered)
        try:
            yield
        finally:
            segmentation.conversion = own
            segmentation.__dict__.pop("infer", None)
            clustering.__dict__.pop("filter_embeddings", None)

    def scores(self, pipeline: Any) -> OverlapScores | None:
        """The probability that at least two talk, a frame, in seconds of the window: the mean over the chunks it lies in."""
        if not self._together:
            return None
        from pyannote.audio import Inference
        from pyannote.core import SlidingWindow, SlidingWindowFeature

        segmentation = pipeline._segmentation
        chunks = SlidingWindow(start=0.0, duration=segmentation.duration, step=segmentation.step)
        joined = Inference.aggregate(
            SlidingWindowFeature(np.concatenate(self._together)[:, :, None], chunks),
            segmentation.model.receptive_field,
            missing=0.0,
        )
        frames = joined.sliding_window
        # A frame of pyannote's is longer than its step; its middle says where it is.
        start = frames.start + (frames.duration - frames.step) / 2
        return OverlapScores(
            float(start), float(frames.step), array("f", np.ascontiguousarray(joined.data[:, 0], np.float32).tobytes())
        )

    def _artifact(self, name: str, made: Any) -> Artifact:
        window = getattr(made, "sliding_window", None)
        if window is None:
            return Artifact(name, self._window, np.asarray(made), self._start)
        return Artifact(
            name, self._window, np.asarray(made.data), self._start + window.start, window.step, window.duration
        )


def _combinations(conversion: Any) -> Any:
    """For each class of a powerset, how many talk; None where the network's classes are speakers."""
    return getattr(conversion, "cardinality", None)


def _at_least_two(output: Any, combinations: Any) -> Any:
    """(chunks, frames, classes) to the probability that at least two talk, (chunks, frames)."""
    if combinations is not None:
        return output.exp()[:, :, combinations.to(output.device) >= 2].sum(dim=-1)
    nobody = (1 - output).prod(dim=-1)
    one = sum(
        output[:, :, each] * (1 - output).index_select(-1, _others(output, each)).prod(dim=-1)
        for each in range(output.shape[-1])
    )
    return 1 - nobody - one


def _others(output: Any, each: int) -> Any:
    import torch

    return torch.tensor([other for other in range(output.shape[-1]) if other != each], device=output.device)
