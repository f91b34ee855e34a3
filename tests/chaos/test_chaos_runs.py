"""Services and clients as processes of their own, killed, stopped and cheated at random points: fifty in all.

A seed gives every process the same fates again; what they meet depends on who is faster, as in life. `make soak` runs
thousands. The folder of a failed run holds its history.
"""

from __future__ import annotations

import os

import pytest

from speakerdb.testing.backends import Backend
from speakerdb.testing.chaos.processes import Zygote
from speakerdb.testing.chaos.run import Chaos, library

TIMES = 10 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 1
POINTS = {"files": 15, "servers": 10}


@pytest.mark.parametrize("services", [2, 3])
def test_what_survives_is_all_that_was_acknowledged(
    backend: Backend, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory, services: int
) -> None:
    name = "servers" if backend.delayed else "files"
    folder = tmp_path_factory.mktemp("chaos")
    with library(folder, backend) as settings:
        outcome = Chaos(zygote, folder, settings, f"test-{services}", services=services).run(TIMES * POINTS[name])
    assert outcome.violations == [], "\n".join(map(str, outcome.violations[:20]))
    assert outcome.crash_points >= TIMES * POINTS[name]
    assert outcome.operations["acknowledged"] > 10, "nobody got anything done, so nothing was tested"
