"""The pages as data: their blocks, their tables, their links.

How a block is marked: ```bash and ```python are run, in order, in one folder a page. ```toml must be settings, ```json must
be JSON. ```text is shown only; ```text output is compared with what the block before it printed. A paragraph that begins
"*Not run by the tests:" says why the next block is not run, where the reader sees it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {"bash", "python", "toml", "json", "text", "text output"}
NOT_RUN = "*Not run by the tests:"
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is, its text, the line it begins at, and why it is not run (None: it is)."""

    info: str
    code: str
    line: int
    not_run: str | None


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The page without its blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self) -> Iterator[Block]:
        for found in _FENCE.finditer(self.text):
            before = self.text[: found.start()].rstrip().rpartition("\n\n")[2].strip()
            reason = before.removeprefix(NOT_RUN).strip(" *") if before.startswith(NOT_RUN) else None
            yield Block(found["info"].strip(), found["code"], self.text[: found.start()].count("\n") + 1, reason)

    def runnable(self) -> list[Block]:
        return [b for b in self.blocks() if b.info in ("bash", "python") and b.not_run is None]

    def sections(self, level: int = 2) -> dict[str, str]:
        """Text under each heading of a level."""
        pieces = re.split(rf"^{'#' * level} (.+)$", self.text, flags=re.MULTILINE)
        return {title.strip(): body for title, body in zip(pieces[1::2], pieces[2::2], strict=True)}

    def anchors(self) -> set[str]:
        """The names that a code host gives to the headings."""
        titles = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def pages() -> list[Page]:
    """The pages that belong to a reader of this project."""
    docs = ROOT / "docs"
    found = [path for path in sorted(docs.rglob("*.md")) if not path.is_relative_to(docs / "templates")]
    return [Page(path) for path in (ROOT / "README.md", *found)]


def page(name: str) -> Page:
    return Page(ROOT / name)
