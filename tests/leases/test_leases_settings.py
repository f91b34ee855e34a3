"""Times that mean nothing are refused where they are set, and not where they are first reckoned with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from speakerdb.settings import Settings


@pytest.mark.parametrize(
    "given",
    [
        {"lease_seconds": 0.5},
        {"lease_seconds": float("inf")},
        {"fence_seconds": float("inf")},
        {"recording_timeout": float("inf")},
        {"repair": {"grace_seconds": float("inf")}},
        {"repair": {"tombstone_days": float("nan")}},
        {"opensearch": {"timeout_seconds": float("inf")}},
    ],
)
def test_a_time_that_means_nothing(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(data_dir=tmp_path, **given)
