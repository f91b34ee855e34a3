"""How a picture is drawn and written: style, colours, axes, and a file that takes its place only when all of it is there.

Matplotlib is imported only when a picture is drawn. It draws without pyplot, so nothing is left behind in the process. The
same data give the same picture: files carry no date.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from speakerdb.errors import InvalidInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")
FORMATS = ("svg", "png", "pdf")

# Colours that people with any colour vision tell apart (Okabe and Ito, 2008); lines differ in their dashes too.
BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY)
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "speakerdb",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
_NO_DATE: dict[str, dict[str, Any]] = {
    "svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None},
}  # fmt: skip


def form_of(file: Path) -> str:
    """The format that the ending of a picture's name says. `InvalidInput` for another ending, or a folder that is not there."""
    form = file.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise InvalidInput(f"A picture cannot be written as {file.name!r}.", hint="End its name in .svg, .png or .pdf.")
    if not file.absolute().parent.is_dir():
        raise InvalidInput(f"There is no folder {file.absolute().parent}.", hint="Make it first.")
    return form


class Drawing:
    """What is to be drawn, how large (inches), and how much stands behind it."""

    def __init__(self, draw: Callable[[Figure], None], size: tuple[float, float], counts: Mapping[str, Any]) -> None:
        self.draw, self.size, self.counts = draw, size, counts


def save(drawing: Drawing, file: Path, form: str) -> None:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with matplotlib.rc_context(_STYLE):
            figure = Figure(figsize=drawing.size, layout="constrained")
            FigureCanvasAgg(figure)
            drawing.draw(figure)
            figure.savefig(part, format=form, dpi=150, metadata=_NO_DATE[form])
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def batched(stream: Iterator[T], size: int) -> Iterator[list[T]]:
    while part := list(islice(stream, size)):
        yield part


def legend(axis: Axes) -> None:
    """Beside the axes, where it hides nothing."""
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)


def thousands(value: float, _position: float) -> str:
    return f"{value:,.0f}" if value == round(value) else ""


def time_of(instant: int) -> datetime:
    return datetime.fromtimestamp(instant / 1e6, UTC)


def time_axis(axis: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    axis.set_xlabel("time (UTC)")


def repeated(colours: Sequence[str]) -> Iterable[str]:
    while True:
        yield from colours
