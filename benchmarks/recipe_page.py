"""The tables and the picture of `docs/explanation/recipe.md`, from `benchmarks/results/recipe.json`: `python -m
benchmarks.recipe_page`. No voice is in that file, so anybody can draw them again."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speakerdb.plots import draw_trial
from speakerdb.reports.recipes import BudgetResult, RecipeTrial, Recommendation, Separation

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "recipe.json"
PAGE = ROOT / "docs" / "explanation" / "recipe.md"
PICTURE = ROOT / "docs" / "images" / "recipe.svg"
_PLACE = re.compile(r"(<!-- from recipe.json: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables(kept: Mapping[str, Any]) -> dict[str, str]:
    """Every table of the page, by name."""
    separation = {row["budget"]: row for row in kept["separation"]}
    agreement = {row["budget"]: row for row in kept["agreement"]}
    return {
        "about": _about(kept),
        "budgets": _table(
            ("budget", "passes", "median", "5th percentile", "to the rest", "EER", "same", "different"),
            (
                (
                    "all" if budget is None else f"{budget:g} s",
                    f"{row['passes']:.0f}",
                    *(
                        ("", "", "")
                        if (mine := agreement.get(budget)) is None
                        else (_cosine(mine["median"]), _cosine(mine["low"]), _cosine(mine["rest_median"]))
                    ),
                    _percent(row["eer"]),
                    f"{_cosine(row['same'])} ({_cosine(row['same_low'])})",
                    f"{_cosine(row['different'])} ({_cosine(row['different_high'])})",
                )
                for budget, row in separation.items()
            ),
        ),
        "knobs": _table(
            ("what is chosen", "speech", "passes", "EER", "same", "different"),
            (
                (
                    row["knob"], f"{row['speech']:.1f} s", f"{row['passes']:.0f}", _percent(row["eer"]),
                    f"{_cosine(row['same'])} ({_cosine(row['same_low'])})",
                    f"{_cosine(row['different'])} ({_cosine(row['different_high'])})",
                )
                for row in kept["knobs"]
            ),
        ),
        "lengths": _table(
            ("one segment of", *(f"{row['seconds']:g} s" for row in kept["lengths"])),
            (
                ("median", *(_cosine(row["median"]) for row in kept["lengths"])),
                ("5th percentile", *(_cosine(row["low"]) for row in kept["lengths"])),
            ),
        ),
        "meetings": _table(
            ("budget", "voices that have more", "median", "lowest"),
            (
                (f"{row['budget']:g} s", str(row["voices"]), _cosine(row["median"]), _cosine(row["lowest"]))
                for row in kept["meetings"]
            ),
        ),
        "padding": (
            f"Filling {kept['padding']['segments']} segments of 3 s up to 6 s with silence: median cosine to the segment itself "
            f"{_cosine(kept['padding']['median'])}, lowest {_cosine(kept['padding']['lowest'])}."
        ),
    }  # fmt: skip


def as_trial(kept: Mapping[str, Any]) -> RecipeTrial:
    """The same as `speakerdb recipe try` would report it, to be drawn like that."""
    agreement = {row["budget"]: row for row in kept["agreement"]}
    budgets = []
    for row in kept["separation"]:
        mine = agreement.get(row["budget"])
        budgets.append(
            BudgetResult(
                budget_seconds=row["budget"],
                speech_seconds=row["speech"],
                segments=row["passes"],
                network_seconds=0.0,
                cut=0 if mine is None else mine["takes"],
                agreement=None if mine is None else mine["median"],
                agreement_low=None if mine is None else mine["low"],
                separation=Separation(*row["pairs"], kept["readers"], row["eer"], row["same"], row["different"]),
            )
        )
    return RecipeTrial(
        generation="stand-in network, read speech", recipe="", budget_seconds=30.0, model=kept["model"],
        speakers=kept["readers"], recordings=0, limit_seconds=0.0, limited=0, speed=0.0, seconds=0.0,
        budgets=tuple(budgets), not_measurable="", recommendation=Recommendation(None, ""), skipped=(), notices=(),
    )  # fmt: skip


def written(page: str, kept: Mapping[str, Any]) -> str:
    """The page with the tables that are in `kept`."""
    found = tables(kept)
    return _PLACE.sub(lambda place: f"{place[1]}\n{found[place[2]]}\n\n{place[3]}", page)


def update(results: Path = RESULTS) -> None:
    """Write the tables and the picture again."""
    kept = json.loads(results.read_text(encoding="utf-8"))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")
    draw_trial(as_trial(kept), PICTURE)


def _about(kept: Mapping[str, Any]) -> str:
    machine, seconds = kept["machine"], kept["seconds"]
    same, different = kept["separation"][-1]["pairs"]
    return (
        f"Network: {kept['model']}. {kept['readers']} readers with {min(seconds):.0f} to {max(seconds):.0f} s each, dealt "
        f"{kept['deals']} times into two recordings: {same:,} pairs of one voice and {different:,} of two. In all "
        f"{kept['forwards']:,} passes and {kept['speech_seconds']:,} s of speech through the network. {machine['day']}, "
        f"Python {machine['python']}, numpy {machine['numpy']}; nothing here depends on the speed of the machine."
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cosine(value: float) -> str:
    return f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


if __name__ == "__main__":
    update()
    sys.exit(0)
