"""Pictures of talk: who talks how much, how voices sound, how they change, where several talk at once. They name nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speakerdb.catalog import talk_samples, talk_statistics
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.samples import STREAMED
from speakerdb.catalog.talk_samples import Sound
from speakerdb.catalog.talk_statistics import Voice, similarity
from speakerdb.core.sampling import Reservoir
from speakerdb.errors import Conflict
from speakerdb.plots.drawing import BLACK, BLUE, ORANGE, SKY, Drawing, batched, legend, thousands, time_axis, time_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PEOPLE = 30
"""So many people have a bar."""
MONTHS = 120
"""So many months have one: the last ones."""
POINTS = 3000
"""So many voices have a point, chosen at random; sums and means are of all."""
YEAR = 365.25
"""Days."""
SHORTEST, LONGEST = 0.01, 1000.0
"""Seconds of an overlap, at the ends of the picture."""

_WORK = "Run `speakerdb work`; what was extracted before is measured by the next migration."


def talk(tx: Transaction, home: str | None, profile: str | None) -> Drawing:
    """The people of a library who talk most, by rank; or the months in which one person talks."""
    return _people(tx, home) if profile is None else _months(tx, profile)


def _people(tx: Transaction, home: str | None) -> Drawing:
    total, people = talk_statistics.people(tx, home, None, PEOPLE)
    if not people:
        raise Conflict("Nobody who is in a profile was measured, so there is no talk to draw.", hint=_WORK)
    alone = np.array([each.talk.seconds - each.talk.overlap_seconds for each in people]) / 60.0
    together = np.array([each.talk.overlap_seconds for each in people]) / 60.0

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        ranks = np.arange(1, len(people) + 1)
        axis.bar(ranks, alone, color=BLUE, label="alone")
        axis.bar(ranks, together, bottom=alone, color=ORANGE, label="while somebody else talks")
        axis.set_xlabel("people, by how much they talk")
        axis.set_ylabel("minutes of talk")
        axis.set_title(f"talk of {len(people):,} of {total:,} people", loc="left")
        legend(axis)

    return Drawing(draw, (9.0, 4.5), {"people": total, "drawn": len(people)})


def _months(tx: Transaction, profile: str) -> Drawing:
    minutes: dict[int, float] = {}
    for day in talk_statistics.days(tx, profile):
        month = int(np.datetime64(day.day, "D").astype("datetime64[M]").astype(np.int64))
        minutes[month] = minutes.get(month, 0.0) + day.seconds / 60.0
    if not minutes:
        raise Conflict("This person is in no recording, so there is no talk to draw.", hint="Assign a speaker first.")
    drawn = dict(list(minutes.items())[-MONTHS:])

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axis = figure.subplots()
        first = min(drawn)
        axis.bar([month - first for month in drawn], list(drawn.values()), color=BLUE)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.xaxis.set_major_formatter(lambda value, _: str(np.datetime64(first + round(value), "M")))
        axis.tick_params("x", rotation=30)
        axis.set_xlabel("month in which it was recorded, or added where nobody said when")
        axis.set_ylabel("minutes of speech")
        axis.set_title(f"one person, {len(drawn):,} of {len(minutes):,} months", loc="left")

    return Drawing(draw, (9.0, 4.5), {"months": len(minutes), "drawn": len(drawn)})


def voice(tx: Transaction, home: str | None, profile: str | None) -> Drawing:
    """Pitch and level of voices; or the pitch of one person over time."""
    kept = Reservoir[Sound](POINTS)
    total = 0
    for total, each in enumerate(talk_samples.sounds(tx, home, profile), start=1):  # noqa: B007  the last one is the count
        kept.offer(each)
    if not total:
        raise Conflict("No voice has a measured pitch, so there is none to draw.", hint=_WORK)
    some = sorted(kept.kept, key=lambda sound: (sound.at, sound.pitch, sound.level))

    def draw_all(figure: Figure) -> None:
        axis = figure.subplots()
        axis.scatter([s.pitch for s in some], [s.level for s in some], s=12, color=BLUE, alpha=0.5, linewidths=0)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel("median pitch, Hz")
        axis.set_ylabel("level, dB below full scale")
        axis.set_title(f"{len(some):,} of {total:,} voices", loc="left")

    def draw_one(figure: Figure) -> None:
        axis = figure.subplots()
        at: Any = [time_of(s.at) for s in some]
        axis.vlines(at, [s.low for s in some], [s.high for s in some], color=SKY, label="5th to 95th of 100")
        axis.scatter(at, [s.pitch for s in some], s=20, color=BLUE, zorder=3, label="median")
        axis.set_ylim(bottom=0)
        axis.set_ylabel("pitch, Hz")
        axis.set_title(f"one person, {len(some):,} of {total:,} voices", loc="left")
        legend(axis)
        time_axis(axis)

    return Drawing(draw_all if profile is None else draw_one, (9.0, 4.5), {"voices": total, "drawn": len(some)})


def change(tx: Transaction, generations: Sequence[str], home: str | None, profile: str | None) -> Drawing:
    """Cosines of voices to the first appearance of their person, over the years since, in each generation."""
    found = {name: _since_first(tx, name, home, profile) for name in generations}
    found = {name: each for name, each in found.items() if each[1]}
    if not found:
        raise Conflict(
            "No person has two voices with a vector, so there is no change to draw.",
            hint="Say who is who with `speakerdb speakers assign SPEAKER PROFILE`, then run `speakerdb work`.",
        )

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (name, (points, sums)) in zip(axes, found.items(), strict=True):
            axis.scatter(points[:, 0], points[:, 1], s=10, color=SKY, alpha=0.5, linewidths=0, label="a voice")
            years = sorted(sums)
            means = [sums[year][1] / sums[year][0] for year in years]
            axis.plot(
                [year + 0.5 for year in years], means, color=BLUE, marker="o", linewidth=2.0, label="mean of a year"
            )
            axis.set_title(f"{name}: {round(sum(n for n, _ in sums.values())):,} voices", loc="left")
            axis.set_ylabel("cosine to the first appearance")
            axis.set_ylim(top=1.02)
            axis.axhline(1.0, color=BLACK, linewidth=0.8)
            legend(axis)
        axes[-1].set_xlabel("years since the first appearance")

    counts = {name: {"voices": round(sum(n for n, _ in sums.values()))} for name, (_, sums) in found.items()}
    return Drawing(draw, (9.0, 1.0 + 3.0 * len(found)), counts)


def _since_first(
    tx: Transaction, generation: str, home: str | None, profile: str | None
) -> tuple[npt.NDArray[np.float64], dict[int, tuple[float, float]]]:
    """Some points (years, cosine), shape (n, 2); and by whole years how many there are and the sum of their cosines. The first
    appearances themselves are left out."""
    kept = Reservoir[tuple[float, float]](POINTS)
    sums: dict[int, tuple[float, float]] = {}
    voices = talk_statistics.voices(tx, generation, profile=profile, library=home)
    first: Voice | None = None
    for each in voices:
        if first is None or each.profile_id != first.profile_id:
            first = each
            continue
        years = (each.day - first.day) / YEAR
        cosine = similarity(each, first)
        kept.offer((years, cosine))
        count, total = sums.get(int(years), (0.0, 0.0))
        sums[int(years)] = (count + 1.0, total + cosine)
    return np.array(sorted(kept.kept), dtype=np.float64).reshape(-1, 2), sums


def overlaps(tx: Transaction, home: str | None) -> Drawing:
    """How much of recordings' talk is overlap, and how long overlaps are."""
    by_share, of_recordings = _counted(talk_samples.overlap_shares(tx, home), np.linspace(0.0, 1.0, 51))
    edges = np.geomspace(SHORTEST, LONGEST, 51)
    by_length, of_overlaps = _counted(talk_samples.overlap_lengths(tx, home), edges)
    if not of_recordings:
        raise Conflict("No recording was measured, so there are no overlaps to draw.", hint=_WORK)

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1)
        upper.stairs(by_share, np.linspace(0.0, 100.0, 51), fill=True, color=BLUE)
        upper.set_xlim(0, max(10.0, 2.0 * (1 + int(np.flatnonzero(by_share)[-1]))))
        upper.set_xlabel("percent of the talk in which two or more talk")
        upper.set_ylabel("recordings")
        upper.set_title(f"{of_recordings:,} recordings", loc="left")
        lower.stairs(by_length, edges, fill=True, color=ORANGE)
        lower.set_xscale("log")
        lower.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        lower.set_xlabel("seconds of an overlap")
        lower.set_ylabel("overlaps")
        lower.set_title(f"{of_overlaps:,} overlaps", loc="left")
        for axis in (upper, lower):
            axis.yaxis.set_major_formatter(thousands)

    return Drawing(draw, (9.0, 6.0), {"recordings": of_recordings, "overlaps": of_overlaps})


def _counted(values: Iterable[float], edges: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], int]:
    """A histogram of a stream, what lies beyond its ends in the last bins; and how many there are."""
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    for part in batched(iter(values), STREAMED):
        counts += np.histogram(np.clip(part, edges[0], edges[-1]), edges)[0]
    return counts, int(counts.sum())
