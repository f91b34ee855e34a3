"""What a person names in the environment: servers that stand already, and the Java that starts one.

The variables are taken out of the environment when they are read: their names begin like the product's settings, and
they must not reach it.
"""

from __future__ import annotations

import os

POSTGRES = "SPEAKERDB_TEST_POSTGRES"
OPENSEARCH = "SPEAKERDB_TEST_OPENSEARCH"
JAVA = "SPEAKERDB_TEST_JAVA"
NAMES = (POSTGRES, OPENSEARCH, JAVA)

_given: dict[str, str] = {}


def take() -> None:
    """Reads the variables and removes them from the environment. What was read before stays where nothing is new."""
    give({name: os.environ.pop(name) for name in NAMES if name in os.environ})


def give(values: dict[str, str]) -> None:
    """As if these had stood in the environment: a worker of pytest-xdist gets them from the run's controller."""
    _given.update({name: value for name, value in values.items() if value})


def everything() -> dict[str, str]:
    """All that was given, by variable."""
    return dict(_given)


def get(name: str) -> str | None:
    """The value of one variable; `None` where it was not given or is empty."""
    return _given.get(name)
