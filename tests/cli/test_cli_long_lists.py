"""A long list is printed as lines: all of it, aligned, nothing folded, nothing of a name reaching the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from speakerdb.cli.output import LONG_LIST, console_for, print_list


class _Counted(Console):
    """A console that must not be asked to lay out a table."""

    def print(self, *_: object, **__: object) -> None:
        raise AssertionError("a table of so many rows takes minutes")


def test_a_long_list_is_not_laid_out_as_a_table() -> None:
    rows = [
        (f"rec_{n}", "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * (n % 3), "x" * 400 + "\x1b[2J", n) for n in range(LONG_LIST + 1)
    ]
    out = io.StringIO()
    print_list(_Counted(file=out), ("id", "name", "path", "turns"), rows, right=("turns",))
    lines = out.getvalue().split("\n")
    assert (len(lines), lines[-1]) == (len(rows) + 2, "")
    assert lines[0].split() == ["id", "name", "path", "turns"]
    assert [line.split()[0] for line in lines[1:-1]] == [row[0] for row in rows]
    assert lines[2].index("xx") == lines[1].index("xx") - 1  # a wide character takes two columns
    assert all(line.split()[-1] == str(row[3]) for line, row in zip(lines[1:-1], rows, strict=True))
    assert "\x1b" not in out.getvalue()


def test_a_short_list_is_a_table() -> None:
    out = io.StringIO()
    print_list(console_for(out), ("id", "turns"), [("a", None)] * LONG_LIST)
    assert "\N{BOX DRAWINGS LIGHT HORIZONTAL}" in out.getvalue()
