"""A migration is not ended while somebody's hand has put the alias on the index that would be dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from speakerdb.errors import AliasMoved
from speakerdb.service import SpeakerDB
from speakerdb.testing.factories import FakeExecutor, fake_settings, silence, two_voices
from speakerdb.types import SERVING_ALIAS, AliasAction


@pytest.mark.parametrize("verb", ["retire", "cancel"])
def test_nothing_is_ended_dropped_or_purged_until_the_alias_is_back(tmp_path: Path, verb: str) -> None:
    """It had written the end state, and deleted the vectors that answered, before it looked at the alias."""
    with SpeakerDB.open(fake_settings(tmp_path), executor=FakeExecutor()) as db:
        db.add(None, two_voices(), recording_id="one", waveform=silence(20))
        db.work()
        db.start_migration("v4", force=True)
        db.work()
        if verb == "retire":
            db.finalize()
        right, wrong = ("speakers_v4", "speakers_v3") if verb == "retire" else ("speakers_v3", "speakers_v4")
        db.index.update_aliases([AliasAction.remove(SERVING_ALIAS, right), AliasAction.add(SERVING_ALIAS, wrong)])
        db.serving.forget()
        before = db.migration()

        def end() -> None:
            db.retire(purge=True) if verb == "retire" else db.cancel()

        with pytest.raises(AliasMoved) as caught:
            end()
        assert caught.value.hint == f"Let it serve again with `speakerdb index rebuild {right[-2:]} --serve`."
        view = db.migration()
        assert view is not None
        assert before is not None
        assert view.state == before.state
        assert db.serving.live() == ("v3", "v4")
        speaker = db.people.speakers()[0]
        assert {name: str(state) for name, state in speaker.generations.items()} == {"v3": "embedded", "v4": "embedded"}

        db.rebuild_index(right[-2:], serve=True)
        end()
        assert db.serving.live() == (right[-2:],)
