"""What the command line prints: one JSON document or text on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, Any

import orjson
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from speakerdb.errors import SpeakerDBError
from speakerdb.reports import as_json

INTERNAL_EXIT = 70
"""An unexpected exception: a bug in speakerdb (EX_SOFTWARE of sysexits.h)."""

PIPE_WIDTH = 200
"""Columns of a table where there is no terminal to fit into."""
LONG_LIST = 1000
"""Rows of a table; a longer list is printed as lines."""


def console_for(stream: IO[str]) -> Console:
    """A console that prints text as it is: what users named things is never read as markup."""
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, markup=False, emoji=False, highlight=False, width=width)


def document(value: Any) -> str:
    """`value` (reports, dicts, lists) as one indented JSON document. Numbers that JSON lacks become null."""
    return orjson.dumps(as_json(value), default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode()


def error_document(code: str, message: str, hint: str, details: dict[str, Any], exit_code: int) -> dict[str, Any]:
    """The one shape of an error in JSON."""
    return {"error": {"code": code, "message": message, "hint": hint, "details": details, "exit_code": exit_code}}


def error_value(error: SpeakerDBError) -> dict[str, Any]:
    """An error's inner document, for reports that hold several."""
    inner: dict[str, Any] = error_document(error.code, error.message, error.hint, error.details, error.exit_code)[
        "error"
    ]
    return inner


def exit_code_of(code: str) -> int:
    """The exit code that belongs to an error code in SQL; 1 for one this version does not know."""
    waiting: list[type[SpeakerDBError]] = [SpeakerDBError]
    while waiting:
        cls = waiting.pop()
        if cls.code == code:
            return cls.exit_code
        waiting.extend(cls.__subclasses__())
    return 1


def clean(value: object) -> str:
    """Text for a terminal. Control characters (a name may hold any) are replaced, so that none reaches the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def cell(value: object) -> str:
    """One table cell; nothing is shown as a dash."""
    return "-" if value is None or value == "" else clean(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> Table:
    """A plain table. Columns named in `right` are aligned to the right; long cells are folded, never cut."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        grid.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(cell(v) for v in row))
    return grid


def print_list(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """A list as a table; a long one as lines that are not folded, because a table of 100,000 rows takes minutes."""
    if len(rows) <= LONG_LIST:
        console.print(table(columns, rows, right=right))
        return
    lines = [list(columns), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = []
        for name, text, width in zip(columns, line, widths, strict=True):
            gap = " " * (width - cell_len(text))
            padded.append(gap + text if name in right else text + gap)
        console.file.write("   ".join(padded).rstrip() + "\n")


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values in two columns."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(clean(name), cell(value))
    return grid


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(max(0.0, seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def span(low_high: tuple[float, float] | None) -> str:
    """A range of seconds, as a person reads it."""
    if low_high is None:
        return "not known yet"
    low, high = (clock(s) for s in low_high)
    return low if low == high else f"{low} to {high}"


def size(octets: float) -> str:
    """Bytes in the unit that keeps the number short (powers of 1024)."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(octets) < 1024:
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} TiB"


def when(microseconds: int | None) -> str:
    """An instant in UTC."""
    if microseconds is None:
        return "-"
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def plural(count: int, word: str) -> str:
    """``1 speaker``, ``2 speakers``."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def print_error(code: str, message: str, hint: str) -> None:
    """``error[code]: message`` and ``next: hint`` on standard error."""
    print(f"error[{code}]: {_lines(message)}", file=sys.stderr)
    if hint:
        print(f"next: {_lines(hint)}", file=sys.stderr)


def _lines(text: str) -> str:
    return "\n".join(clean(line) for line in text.splitlines())
