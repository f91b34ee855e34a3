"""What MkDocs does with a page before it reads it."""

from __future__ import annotations

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """`text output` says to the tests that a block was printed; the renderer knows languages of one word only."""
    return re.sub(r"^```text output$", "```text", markdown, flags=re.MULTILINE)
