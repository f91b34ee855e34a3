"""A recording with more turns than anybody needs goes the ordinary way, from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import fake_settings
from speakerdb.testing.invariants import check
from speakerdb.types import Turn, Waveform

COUNT = 100_000
SECONDS = 3000.0


def test_a_hundred_thousand_turns(tmp_path: Path) -> None:
    step = SECONDS / COUNT
    turns = [Turn(n * step, min(SECONDS, n * step + 0.02), f"S{n % 5}") for n in range(COUNT - 2000)]
    turns += [Turn(turns[-1].end, turns[-1].end + 30.0, "S0"), Turn(turns[-1].end + 30.0, SECONDS, "S1")]
    chance = np.random.default_rng(1)
    sound = Waveform((chance.standard_normal(int(SECONDS) * 8000) * 0.1).astype(np.float32), 8000)
    with SpeakerDB.open(fake_settings(tmp_path, serving="v4", dimensions={"v4": 40})) as db:
        report = db.add(None, turns, recording_id="long", waveform=sound)
        assert report.turns == len(turns) == COUNT - 1998
        assert db.work().recordings_failed == 0
        states = {view.label: view.generations["v4"] for view in db.speakers()}
        assert states == {"S0": "embedded", "S1": "embedded"} | dict.fromkeys(("S2", "S3", "S4"), "too-short")
        assert len(db.match(speaker=report.speakers["S0"], same_recording=True).matches) == 1
        check(db)
        db.remove("long")
        db.work()
        check(db)
        assert not db.speakers()
