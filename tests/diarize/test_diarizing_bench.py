"""The benchmark's rows say what they are judged by; measuring itself is for a machine that is quiet."""

from __future__ import annotations

import pytest

from benchmarks import diarizing
from benchmarks.__main__ import PARTS

FOUND = {
    "seconds": 30.0,
    "took": {"unchanged": [30.0, 60.0], "torch": [12.0, 24.0], "openvino": [12.0, 24.0]},
    "same": {"torch": True, "openvino": False},
    "cosine": {"torch": 1.0, "openvino": 0.99},
}


def test_shares_are_taken_round_by_round_and_judged_by_their_goals() -> None:
    rows = {row.name: row for row in diarizing.rows(FOUND)}
    assert "diarization" in PARTS
    assert rows["diarization, unchanged"].value == 1.5
    shared = rows["diarization, shared on torch over unchanged"]
    assert shared.value == pytest.approx(0.4)
    assert shared.holds is True
    assert rows["diarization, shared on openvino over unchanged"].holds is False
    assert rows["diarization, shared on openvino: same turns"].holds is False
    assert rows["diarization, shared on openvino: least cosine"].holds is False
    assert rows["diarization, shared on torch: least cosine"].holds is True
