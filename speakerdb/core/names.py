"""Names as people look for them."""

from __future__ import annotations

import unicodedata


def folded(name: str) -> str:
    """A name without what people do not mind when they look for it: case, width, and how its accents are written.

    Look-alikes of other scripts stay different: a Cyrillic letter is not a Latin one.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
