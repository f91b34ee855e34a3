"""Pictures of a library: how similar voices are, how the work went, how much speech a speaker has; and those of `talk`.

The same library gives the same picture: samples have a fixed seed. No name of a person, recording or library is in a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from speakerdb.catalog import activity, library, people, samples, vectors
from speakerdb.catalog.catalog import Catalog
from speakerdb.catalog.database import Transaction
from speakerdb.core.agreement import AGREEMENT
from speakerdb.core.sampling import SEED, Reservoir
from speakerdb.errors import Conflict, InvalidInput
from speakerdb.plots import talk
from speakerdb.plots.drawing import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    ORANGE,
    SKY,
    Drawing,
    batched,
    form_of,
    legend,
    repeated,
    save,
    thousands,
    time_axis,
    time_of,
)
from speakerdb.reports.recipes import RecipeTrial
from speakerdb.reports.seeing import Picture
from speakerdb.types import Embedding, FloatArray, Generation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PictureKind = Literal["similarities", "progress", "speech", "talk", "voice", "change", "overlaps"]
KINDS: tuple[PictureKind, ...] = ("similarities", "progress", "speech", "talk", "voice", "change", "overlaps")
OF_A_PROFILE: tuple[PictureKind, ...] = ("talk", "voice", "change")
"""Those that can be of one person alone."""

PROFILES = 500
"""So many profiles with two or more voices are compared at the most, chosen at random; as many again that have one."""
MEMBERS = 10
"""So many voices of each."""
PAIRS = 20_000
"""So many pairs of voices of different profiles, chosen at random."""
STEPS = 400
SPEECH_FROM, SPEECH_TO = 0.1, 36_000.0
PART = 1000


class Plots:
    """Draws pictures of a library into files."""

    def __init__(self, catalog: Catalog, generations: Mapping[str, Generation]) -> None:
        self._catalog = catalog
        self._generations = generations

    def draw(
        self, kind: PictureKind, file: Path, *, library_name: str | None = None, profile: str | None = None
    ) -> Picture:
        """Draw one picture; the ending of the file's name says its format (svg, png or pdf).

        `Conflict` where the library holds too little for it, `InvalidInput` for another ending or a folder that is not
        there, or a profile where the picture is never of one; `NotFound`. The file takes its place only when all of it is
        written.
        """
        form = form_of(file)
        if profile is not None and (kind not in OF_A_PROFILE or library_name is not None):
            raise InvalidInput(
                "A profile goes with the pictures talk, voice and change, and without a library.",
                hint="Its library is known.",
            )
        drawn: dict[PictureKind, Callable[[Transaction, str | None], Drawing]] = {
            "similarities": self._similarities, "progress": self._progress, "speech": self._speech,
            "overlaps": talk.overlaps,
        }  # fmt: skip
        of_people: dict[PictureKind, Callable[[Transaction, str | None, str | None], Drawing]] = {
            "talk": talk.talk, "voice": talk.voice, "change": self._change,
        }  # fmt: skip
        with self._catalog.read() as tx:
            home = None if library_name is None else library.library_id(tx, library_name)
            if kind in of_people:
                person = None if profile is None else people.find_profile(tx, profile).id
                drawing = of_people[kind](tx, home, person)
            else:
                drawing = drawn[kind](tx, home)
        save(drawing, file, form)
        return Picture(kind, str(file), drawing.counts)

    # The pictures

    def _similarities(self, tx: Transaction, home: str | None) -> Drawing:
        """Cosines of voices of one profile and of two, in every generation that has enough of both."""
        found: dict[str, tuple[FloatArray, FloatArray, int]] = {}
        missing = []
        for name, _ in activity.registered(tx):
            if name not in self._generations:
                continue
            same, different, voices = _cosines(tx, name, home)
            if len(same) and len(different):
                found[name] = (same, different, voices)
            elif voices:
                missing.append(f"{name} has {len(same)} pairs of one profile and {len(different)} of two")
        if not found:
            told = "; ".join(missing) or "no voice that is in a profile has a vector"
            raise Conflict(
                f"There is too little to compare: {told}. It takes two profiles, one of them with two embedded speakers.",
                hint="Say who is who with `speakerdb speakers assign SPEAKER PROFILE`, then run `speakerdb work`.",
            )

        def draw(figure: Figure) -> None:
            axes = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
            bins = np.linspace(-1.0, 1.0, 81)
            for axis, (name, (same, different, _)) in zip(axes, found.items(), strict=True):
                _histogram(axis, different, bins, ORANGE, f"different profiles ({len(different):,} pairs)", filled=True)
                _histogram(axis, same, bins, BLUE, f"same profile ({len(same):,} pairs)", filled=False)
                point = self._generations[name].operating_point
                axis.axvline(point.accept, color=BLACK, linewidth=1.2, label=f"accept at {point.accept:g}")
                axis.axvline(
                    point.candidate,
                    color=BLACK,
                    linewidth=1.2,
                    linestyle="--",
                    label=f"candidate at {point.candidate:g}",
                )
                axis.set_title(f"{name}: cosine of two speakers", loc="left")
                axis.set_ylabel("share of pairs")
                legend(axis)
            low = min(float(min(same.min(), different.min())) for same, different, _ in found.values())
            axes[-1].set_xlim(max(-1.0, min(-0.2, low - 0.05)), 1.0)
            axes[-1].set_xlabel("cosine similarity")

        counts = {
            name: {"speakers": voices, "same": len(same), "different": len(different)}
            for name, (same, different, voices) in found.items()
        }
        return Drawing(draw, (9.0, 1.0 + 3.0 * len(found)), counts)

    def _progress(self, tx: Transaction, home: str | None) -> Drawing:
        """Recordings done and failed over time, by generation, by when each was last worked on."""
        first, last, outcomes = samples.outcomes_over_time(tx, home, STEPS)
        if not outcomes:
            raise Conflict("Nothing was extracted yet, so there is no progress to draw.", hint="Run `speakerdb work`.")
        length = (last - first) // STEPS + 1
        counts: dict[str, Any] = {}
        for (name, state), steps in sorted(outcomes.items()):
            counts.setdefault(name, {"done": 0, "failed": 0})[state] = sum(count for _, count in steps)

        def draw(figure: Figure) -> None:
            axis = figure.subplots()
            colours = dict(zip(counts, repeated(COLOURS), strict=False))
            for (name, state), steps in sorted(outcomes.items()):
                ends = [min(last, first + (number + 1) * length) for number, _ in steps]
                at: Any = [time_of(instant) for instant in (first, *ends, last)]
                sums = np.concatenate([[0], np.cumsum([count for _, count in steps])])
                total = int(sums[-1])
                axis.plot(
                    at, [*sums.tolist(), total], drawstyle="steps-post", color=colours[name],
                    linestyle="-" if state == "done" else ":", linewidth=2.0, label=f"{name} {state} ({total:,})",
                )  # fmt: skip
            axis.set_ylim(bottom=0)
            room: Any = (time_of(first - 1_000_000), time_of(last + max(1_000_000, (last - first) // 50)))
            axis.set_xlim(*room)
            axis.yaxis.set_major_formatter(thousands)
            axis.set_ylabel("recordings")
            axis.set_title("recordings by when they were last extracted", loc="left")
            legend(axis)
            time_axis(axis)

        return Drawing(draw, (9.0, 4.5), counts)

    def _speech(self, tx: Transaction, home: str | None) -> Drawing:
        """How many seconds of speech speakers have, against what the recipes ask for."""
        edges = np.geomspace(SPEECH_FROM, SPEECH_TO, 61)
        counts = np.zeros(len(edges) - 1, dtype=np.int64)
        for part in batched(samples.speech_seconds(tx, home), samples.STREAMED):
            counts += np.histogram(np.clip(part, SPEECH_FROM, SPEECH_TO), edges)[0]
        total = int(counts.sum())
        if not total:
            raise Conflict("There is no speaker yet, so there is no speech to draw.", hint="Add a recording first.")
        recipes = {
            self._generations[name].recipe
            for name, live in activity.registered(tx)
            if live and name in self._generations
        }

        def draw(figure: Figure) -> None:
            axis = figure.subplots()
            axis.stairs(counts, edges, fill=True, color=SKY, label=f"{total:,} speakers")
            axis.stairs(counts, edges, color=BLUE, linewidth=1.0)
            for recipe in sorted(recipes, key=lambda one: one.digest):
                for name, seconds, dashes in (
                    ("least that is embedded", recipe.minimum_seconds, ":"),
                    ("enough to accept", recipe.confident_seconds, "--"),
                    ("most that is used", recipe.budget_seconds, "-"),
                ):
                    axis.axvline(seconds, color=BLACK, linewidth=1.2, linestyle=dashes, label=f"{name}: {seconds:g} s")
            axis.set_xscale("log")
            some = np.flatnonzero(counts)
            axis.set_xlim(min(edges[some[0]], 0.5), max(edges[some[-1] + 1], 60.0))
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_xlabel("seconds of speech")
            axis.yaxis.set_major_formatter(thousands)
            axis.set_ylabel("speakers")
            axis.set_title("speech a speaker", loc="left")
            legend(axis)

        return Drawing(draw, (9.0, 4.5), {"speakers": total})

    def _change(self, tx: Transaction, home: str | None, profile: str | None) -> Drawing:
        """How similar voices are to their persons' first appearance, in every live generation."""
        live = [name for name, is_live in activity.registered(tx) if is_live and name in self._generations]
        return talk.change(tx, live, home, profile)


def draw_trial(trial: RecipeTrial, file: Path) -> Picture:
    """Agreement, and separation where it was measured, over the seconds of speech that the network is given."""
    form = form_of(file)
    *budgets, everything = trial.budgets
    at = [result.speech_seconds for result in budgets]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1 if everything.separation is None else 2, 1, sharex=True, squeeze=False)[:, 0]
        known = [result for result in budgets if result.agreement is not None]
        for name, colour, dashes, values in (
            ("median", BLUE, "-", [result.agreement for result in known]),
            ("5th percentile", SKY, "--", [result.agreement_low for result in known]),
        ):
            spent = [result.speech_seconds for result in known]
            axes[0].plot(spent, values, color=colour, linestyle=dashes, marker="o", linewidth=2.0, label=name)
        axes[0].axhline(
            AGREEMENT, color=BLACK, linewidth=1.2, linestyle=":", label=f"wanted at the median: {AGREEMENT:g}"
        )
        axes[0].set_ylabel("cosine to all clean speech")
        axes[0].set_title(f"{trial.generation}: {trial.speakers:,} speakers", loc="left")
        if everything.separation is not None:
            errors = [100 * result.separation.eer for result in budgets if result.separation is not None]
            axes[1].plot(at, errors, color=ORANGE, marker="s", linewidth=2.0, label="equal error rate")
            reference = 100 * everything.separation.eer
            axes[1].axhline(reference, color=BLACK, linewidth=1.2, label=f"all clean speech: {reference:.1f} %")
            axes[1].set_ylim(bottom=0)
            axes[1].set_ylabel("percent")
            axes[1].set_title(f"named profiles: {everything.separation.same:,} pairs of one", loc="left")
        for axis in axes:
            for result in budgets:
                if result.budget_seconds == trial.recommendation.budget_seconds:
                    axis.axvline(result.speech_seconds, color=GREEN, linewidth=1.2, linestyle="-.", label="recommended")
            legend(axis)
        axes[-1].set_xlim(left=0)
        axes[-1].set_xlabel("seconds of speech through the network for a speaker")

    height = 3.5 if everything.separation is None else 6.0
    save(Drawing(draw, (9.0, height), {}), file, form)
    return Picture("recipe", str(file), {"speakers": trial.speakers, "budgets": len(budgets)})


def _cosines(tx: Transaction, generation: str, home: str | None) -> tuple[FloatArray, FloatArray, int]:
    """Cosines of pairs of voices of one profile, of two profiles, and how many voices they are of: of a sample."""
    chosen = _chosen(samples.members_with_vectors(tx, generation, home))
    owner = {voice: profile for profile, voices in chosen.items() for voice in voices}
    order = sorted(owner)
    place = {voice: number for number, voice in enumerate(order)}
    if not order:
        return _EMPTY, _EMPTY, 0
    matrix = np.stack([vector for part in batched(iter(order), PART) for vector in _vectors(tx, generation, part)])
    same = [(place[a], place[b]) for voices in chosen.values() for a, b in combinations(voices, 2)]
    belongs = np.unique(np.array([owner[voice] for voice in order]), return_inverse=True)[1]
    pairs = _some_pairs(len(order))
    different = pairs[belongs[pairs[:, 0]] != belongs[pairs[:, 1]]]
    return _of_pairs(matrix, np.array(same, dtype=np.int64).reshape(-1, 2)), _of_pairs(matrix, different), len(order)


def _some_pairs(count: int) -> npt.NDArray[np.int64]:
    """Pairs of different numbers below `count`, each once: all of them, or `PAIRS` (a few less) at random."""
    if count * (count - 1) // 2 <= PAIRS:
        return np.array(list(combinations(range(count), 2)), dtype=np.int64).reshape(-1, 2)
    pairs = np.sort(np.random.default_rng(SEED).integers(0, count, size=(PAIRS, 2)), axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


_EMPTY = np.zeros(0, np.float32)


def _chosen(members: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    """Voices of a sample of profiles: up to `PROFILES` with several voices, and as many with one. Holds no more."""
    several, single = Reservoir[tuple[str, list[str]]](PROFILES), Reservoir[tuple[str, list[str]]](PROFILES)
    for profile, rows in groupby(members, key=lambda row: row[0]):
        voices = Reservoir[str](MEMBERS)
        for _, voice in rows:
            voices.offer(voice)
        (several if len(voices.kept) > 1 else single).offer((profile, sorted(voices.kept)))
    return dict([*several.kept, *single.kept])


def _vectors(tx: Transaction, generation: str, ids: Sequence[str]) -> list[FloatArray]:
    known = vectors.embeddings_of(tx, generation, ids)
    return [found.vector for each in ids if isinstance(found := known[each].result, Embedding)]


def _of_pairs(matrix: FloatArray, pairs: npt.NDArray[np.int64]) -> FloatArray:
    """The cosine of each pair of rows; the rows are of unit norm."""
    found = [np.einsum("ij,ij->i", matrix[part[:, 0]], matrix[part[:, 1]]) for part in _parts(pairs)]
    return np.clip(np.concatenate(found), -1.0, 1.0) if found else _EMPTY


def _parts(pairs: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(pairs), PART):
        yield pairs[start : start + PART]


def _histogram(
    axis: Axes, values: FloatArray, bins: npt.NDArray[np.float64], colour: str, label: str, *, filled: bool
) -> None:
    shares = np.histogram(values, bins)[0] / len(values)
    axis.stairs(shares, bins, fill=filled, color=colour, alpha=0.45 if filled else 1.0, linewidth=1.8, label=label)
