"""What the recipe's knobs do, on real speech: `python -m benchmarks.agreement FOLDER` writes `benchmarks/results/recipe.json`
and, from it, the tables and the picture of `docs/explanation/recipe.md`. `FOLDER` is described in `benchmarks/voices.py`.

Two measures. *Agreement*: the cosine of a vector from a budget to the vector of all the speaker's speech. *Separation*: each
speaker's utterances are dealt at random into two recordings, and voices are compared across recordings of one deal, with the
budget on both sides. Deals share their utterances, so their pairs are not independent; they make the curve smooth, no more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import recipe_page
from benchmarks.report import machine, say, write
from benchmarks.voices import RATE, Network, Sound, Take, meetings, readers
from speakerdb.core.agreement import equal_error_rate
from speakerdb.core.pooling import pool
from speakerdb.core.selection import select
from speakerdb.extraction import Loader
from speakerdb.generations import V4
from speakerdb.settings import GenerationSettings
from speakerdb.types import Recipe, Span, Unembeddable

CHECKPOINT = Path(__file__).resolve().parent.parent / "tests" / "assets" / "models" / "standin-wespeaker-resnet34"
RESULTS = Path(__file__).resolve().parent / "results" / "recipe.json"

SEED = 20_260
ALL = 10_000.0
"""A budget that nobody's speech fills."""
KNOB_BUDGET = 12.0
"""Small enough that what the other knobs do can be seen."""
LONGEST_TURNS = 5

Choose = Callable[[Take], Sequence[Span]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: budgets in seconds, how often utterances are dealt or put in another order, lengths of segments."""

    budgets: tuple[float, ...] = (2.0, 4.0, 6.0, 10.0, 15.0, 20.0, 30.0)
    deals: int = 40
    orders: int = 20
    lengths: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
    padded: int = 20


def measure(folder: Path, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """Everything that is kept in the results file."""
    model = GenerationSettings(model="speakerdb/standin-wespeaker-resnet34", sources=(str(CHECKPOINT),))
    loaded = Loader("cpu", allow_unknown=True)(model.applied_to(V4, "v4"))
    network = Network(loaded.embedder)
    people = readers(folder)
    say(f"{len(people)} readers, {sum(sound.seconds for each in people.values() for sound in each):.0f} s")
    kept: dict[str, Any] = {
        "machine": {
            key: value for key, value in machine().items() if key in ("cpu", "cores", "python", "numpy", "day")
        },
        "model": "stand-in of the WeSpeaker class, made for this project's tests",
        "readers": len(people),
        "seconds": [round(sum(sound.seconds for sound in each), 1) for each in people.values()],
        "deals": sizes.deals,
        "agreement": agreements(people, network, sizes),
        "separation": separations(people, network, sizes),
        "knobs": knobs(people, network, sizes),
        "lengths": lengths(people, network, sizes),
        "padding": padding(people, network, sizes),
        "meetings": in_meetings(folder, network),
    }
    kept["forwards"], kept["speech_seconds"] = network.forwards, round(network.seconds)
    return kept


def agreements(people: Mapping[str, list[Sound]], network: Network, sizes: Sizes) -> list[dict[str, Any]]:
    """Of a budget's vector with the vector of all speech, and with that of the speech that was left out."""
    random = np.random.default_rng(SEED)
    takes = [
        Take([sounds[n] for n in random.permutation(len(sounds))])
        for sounds in people.values()
        for _ in range(sizes.orders)
    ]
    found = []
    for budget in sizes.budgets:
        recipe = Recipe(budget_seconds=budget)
        with_all, with_rest, seconds, segments = [], [], [], []
        for take in takes:
            spans = take.spans(recipe)
            mine = take.embedding(network, spans)
            every = take.spans(Recipe(budget_seconds=ALL))
            with_all.append(float(mine.vector @ take.embedding(network, every).vector))
            rest = [
                span for span in every if all(span.end <= s.start + 1e-6 or s.end <= span.start + 1e-6 for s in spans)
            ]
            with_rest.append(float(mine.vector @ take.embedding(network, rest).vector))
            seconds.append(mine.seconds)
            segments.append(mine.segments)
        found.append(
            {
                "budget": budget,
                "speech": _rounded(float(np.mean(seconds)), 1),
                "segments": _rounded(float(np.mean(segments)), 1),
                "median": _rounded(float(np.median(with_all))),
                "low": _rounded(float(np.percentile(with_all, 5))),
                "rest_median": _rounded(float(np.median(with_rest))),
                "rest_low": _rounded(float(np.percentile(with_rest, 5))),
                "takes": len(takes),
            }
        )
        say(f"agreement: {found[-1]}")
    return found


def separations(people: Mapping[str, list[Sound]], network: Network, sizes: Sizes) -> list[dict[str, Any]]:
    """With each budget on both sides, and with all speech."""
    rows = []
    for budget in (*sizes.budgets, None):
        recipe = Recipe(budget_seconds=budget or ALL)
        rows.append({"budget": budget, **_separation(people, network, sizes.deals, lambda take: take.spans(recipe))})  # noqa: B023
        say(f"separation: {rows[-1]}")
    return rows


def knobs(people: Mapping[str, list[Sound]], network: Network, sizes: Sizes) -> list[dict[str, Any]]:
    """The other knobs, one at a time, at `KNOB_BUDGET`."""
    base = Recipe(budget_seconds=KNOB_BUDGET)
    ways: dict[str, Choose] = {"the recipe": lambda take: take.spans(base)}
    for target, most in ((2.0, 4.0), (4.0, 6.0), (6.0, 10.0)):
        other = replace(base, segment_target_seconds=target, segment_max_seconds=most)
        ways[f"segments of {target:g} to {most:g} s"] = lambda take, other=other: take.spans(other)  # type: ignore[misc]
    ways["pieces of the first turns, not spread"] = lambda take: _first(take, KNOB_BUDGET)
    ways["pieces of the longest turns, not spread"] = lambda take: _pieces_of_longest(take, KNOB_BUDGET)
    ways["the longest turns, whole"] = lambda take: _longest(take, KNOB_BUDGET)
    ways[f"the {LONGEST_TURNS} longest turns, whole, without a budget"] = lambda take: _longest(take, None)
    rows = []
    for name, choose in ways.items():
        rows.append({"knob": name, **_separation(people, network, sizes.deals, choose)})
        say(f"knob: {rows[-1]}")
    return rows


def _first(take: Take, budget: float) -> list[Span]:
    """The pieces that the recipe would cut, from the beginning, until the budget is spent."""
    return _until_spent(take.spans(Recipe(budget_seconds=ALL)), budget)


def _pieces_of_longest(take: Take, budget: float) -> list[Span]:
    """The same, from the longest turns on."""

    def by_turn(span: Span) -> tuple[float, float]:
        turn = max(turn for turn in ((t.start, t.start - t.end) for t in take.turns) if turn[0] <= span.start + 1e-6)
        return turn[1], span.start

    return _until_spent(sorted(take.spans(Recipe(budget_seconds=ALL)), key=by_turn), budget)


def _until_spent(spans: Sequence[Span], budget: float) -> list[Span]:
    chosen: list[Span] = []
    left = budget
    for span in spans:
        if left < 1.0:
            break
        chosen.append(Span(span.start, span.start + min(span.seconds, left)))
        left -= chosen[-1].seconds
    return sorted(chosen)


def _longest(take: Take, budget: float | None) -> list[Span]:
    """The longest turns whole, cut only where the budget ends; the five longest where there is none."""
    turns = sorted(take.turns, key=lambda turn: turn.start - turn.end)[:LONGEST_TURNS]
    return _until_spent([Span(turn.start, turn.end) for turn in turns], budget or ALL)


def _separation(people: Mapping[str, list[Sound]], network: Network, deals: int, choose: Choose) -> dict[str, Any]:
    random = np.random.default_rng(SEED)
    same: list[float] = []
    different: list[float] = []
    seconds, passes = [], []
    for _ in range(deals):
        vectors, owners = [], []
        for owner, sounds in enumerate(people.values()):
            order = random.permutation(len(sounds))
            for half in (order[: len(order) // 2], order[len(order) // 2 :]):
                take = Take([sounds[n] for n in half])
                found = take.embedding(network, choose(take))
                vectors.append(found.vector)
                owners.append(owner)
                seconds.append(found.seconds)
                passes.append(found.segments)
        cosines = np.stack(vectors) @ np.stack(vectors).T
        first, second = np.triu_indices(len(owners), 1)
        alike = np.array(owners)[first] == np.array(owners)[second]
        same += cosines[first[alike], second[alike]].tolist()
        different += cosines[first[~alike], second[~alike]].tolist()
    return {
        "speech": _rounded(float(np.mean(seconds)), 1),
        "passes": _rounded(float(np.mean(passes)), 1),
        "eer": _rounded(equal_error_rate(np.array(same), np.array(different))),
        "same": _rounded(float(np.mean(same))),
        "same_low": _rounded(float(np.percentile(same, 5))),
        "different": _rounded(float(np.mean(different))),
        "different_high": _rounded(float(np.percentile(different, 95))),
        "pairs": [len(same), len(different)],
    }


def lengths(people: Mapping[str, list[Sound]], network: Network, sizes: Sizes) -> list[dict[str, Any]]:
    """One segment of a length against all *other* utterances of its speaker."""
    rows = []
    for length in sizes.lengths:
        found = []
        for sounds in people.values():
            for number, sound in enumerate(sounds):
                if sound.seconds < length:
                    continue
                others = Take([each for n, each in enumerate(sounds) if n != number])
                rest = others.embedding(network, others.spans(Recipe(budget_seconds=ALL))).vector
                begin = (sound.seconds - length) / 2
                found.append(float(network(sound, Span(begin, begin + length)) @ rest))
        median, low = float(np.median(found)), float(np.percentile(found, 5))
        rows.append({"seconds": length, "median": _rounded(median), "low": _rounded(low), "segments": len(found)})
        say(f"length: {rows[-1]}")
    return rows


def padding(people: Mapping[str, list[Sound]], network: Network, sizes: Sizes) -> dict[str, Any]:
    """What filling a segment of 3 s up to 6 s with silence does to its vector."""
    cosines = []
    for sound in [sound for sounds in people.values() for sound in sounds if sound.seconds >= 3.0][: sizes.padded]:
        part = sound.samples[: 3 * RATE]
        padded = np.concatenate([part, np.zeros(3 * RATE, np.float32)])
        cosines.append(float(network.alone(part) @ network.alone(padded)))
    return {"median": _rounded(float(np.median(cosines))), "lowest": _rounded(min(cosines)), "segments": len(cosines)}


def in_meetings(folder: Path, network: Network, budgets: Sequence[float] = (5.0, 10.0)) -> list[dict[str, Any]]:
    """Agreement in excerpts of meetings, with people who talk into each other: what of it is clean is little."""
    rows = []
    for budget in budgets:
        cosines = []
        for sound, turns in meetings(folder):
            some, every = (select(turns, Recipe(budget_seconds=b), duration=sound.seconds) for b in (budget, ALL))
            for speaker, found in every.items():
                mine = some[speaker]
                if isinstance(found, Unembeddable) or isinstance(mine, Unembeddable):
                    continue
                if sum(span.seconds for span in found) > 1.5 * budget:
                    cosines.append(_cosine(network, sound, mine, found))
        if cosines:
            median, low = float(np.median(cosines)), min(cosines)
            rows.append({"budget": budget, "voices": len(cosines), "median": _rounded(median), "lowest": _rounded(low)})
    return rows


def _cosine(network: Network, sound: Sound, some: Sequence[Span], every: Sequence[Span]) -> float:
    one, all_ = (
        pool(np.stack([network(sound, span) for span in spans]), [span.seconds for span in spans]).vector
        for spans in (some, every)
    )
    return float(one @ all_)


def _rounded(value: float, digits: int = 4) -> float:
    return round(value, digits)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("folder", type=Path, help="speech, as benchmarks/voices.py describes it")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    write(given.out, measure(given.folder))
    if given.out == RESULTS:
        recipe_page.update()
    return 0


if __name__ == "__main__":
    sys.exit(main())
