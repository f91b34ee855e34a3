"""One job: what becomes of an error, by its class, with a clock of the test's own."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from speakerdb.catalog import journal
from speakerdb.errors import (
    DatabaseUnavailable,
    IndexUnavailable,
    LeaseHeld,
    LeaseLost,
    SafetyStop,
    StorageFull,
)
from speakerdb.scheduler.jobs import DELAY_SECONDS, TRANSIENT_DELAY_SECONDS, Answer, Job


class Stand:
    """A job whose step a test writes, on a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self.calls = 0
        self.raises: Exception | None = None
        self.answer: Answer | None = None
        self.stopping = False
        self.job = Job(
            "test", self.step, 1.0, counter=self, stopping=lambda: self.stopping, clock=lambda: self.now
        )  # fmt: skip

    def step(self) -> Answer | None:
        self.calls += 1
        assert journal.actor().source == "schedule", "the audit trail says from where"
        assert self.job.running
        if self.raises is not None:
            raise self.raises
        return self.answer

    def job_ran(self, job: str, seconds: float) -> None:
        self.counts["ran"] += 1

    def job_failed(self, job: str, code: str) -> None:
        self.counts[code] += 1

    def calls_in(self, seconds: int) -> int:
        """How often the step ran while it was looked at each second."""
        before = self.calls
        for _ in range(seconds):
            self.now += 1.0
            self.job.run()
        return self.calls - before


@pytest.fixture
def stand() -> Stand:
    return Stand()


def test_a_run_that_is_well_is_counted(stand: Stand) -> None:
    assert stand.calls_in(3) == 3
    assert stand.counts == {"ran": 3}
    view = stand.job.view()
    assert (view.state, view.runs, view.failures, view.code) == ("waiting", 3, 0, None)
    assert view.last_succeeded is not None


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), IndexUnavailable("away")])
def test_a_transient_error_is_logged_once_and_tried_again_ever_more_slowly(
    stand: Stand, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    stand.raises = error
    with caplog.at_level(logging.INFO, "speakerdb.scheduler"):
        first, later = stand.calls_in(10), stand.calls_in(300)
    assert first > later / 30, "the delay grows"
    assert later >= 300 / TRANSIENT_DELAY_SECONDS, "and has an end"
    assert [record.msg.split()[0] for record in caplog.records] == ["job-failed"]
    assert stand.counts[error.code] == stand.calls, "each is counted"  # type: ignore[attr-defined]
    assert stand.job.standing is None, "it goes away by itself"
    view = stand.job.view()
    assert (view.state, view.code, view.message) == ("failing", error.code, "away")  # type: ignore[attr-defined]
    assert view.retry_seconds is not None
    stand.raises = None
    with caplog.at_level(logging.INFO, "speakerdb.scheduler"):
        assert stand.calls_in(int(TRANSIENT_DELAY_SECONDS)) > 0
    assert [record.msg.split()[0] for record in caplog.records] == ["job-failed", "job-recovered"]
    assert stand.job.view().code is None
    assert stand.calls_in(3) == 3, "at its own pace again"


def test_another_error_stands_in_the_readiness_until_a_run_is_well(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    stand.raises = StorageFull("no room")
    with caplog.at_level(logging.INFO, "speakerdb.scheduler"):
        stand.calls_in(600)
    assert 600 / DELAY_SECONDS <= stand.calls < 30, "it is tried again, at a pace that harms nobody"
    assert stand.job.standing == "The job test fails (storage-full): no room"
    assert [(record.levelname, record.msg.split()[0]) for record in caplog.records] == [("ERROR", "job-failed")]
    stand.raises = SafetyStop("a person must decide")
    stand.calls_in(int(DELAY_SECONDS))
    assert stand.job.standing == "The job test fails (safety-stop): a person must decide"
    stand.raises = None
    stand.calls_in(int(DELAY_SECONDS))
    assert stand.job.standing is None


def test_what_nobody_foresaw_is_told_with_its_place_and_without_its_words(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Answer | None:
        from speakerdb.core.digests import digest_of

        digest_of(None, 1, 1)  # type: ignore[arg-type]
        return None

    stand.job = Job("test", broken, 1.0, counter=stand, clock=lambda: stand.now)
    stand.job.run()
    assert stand.counts == {"internal": 1}
    assert stand.job.standing is not None
    (record,) = caplog.records
    assert "speakerdb/core/digests.py:" in record.getMessage()
    assert "None" not in record.getMessage(), "an error's words may hold a person's"


def test_a_lease_of_another_is_no_error(stand: Stand) -> None:
    stand.raises = LeaseHeld("another works")
    assert stand.calls_in(5) == 5
    assert (stand.job.view().state, stand.job.view().failures) == ("standby", 0)
    stand.raises, stand.answer = None, "held-back"
    stand.calls_in(1)
    assert stand.job.view().state == "held-back"


def test_a_lease_that_was_lost_is_counted_and_looked_at_again_at_once(stand: Stand) -> None:
    stand.raises = LeaseLost("another took over")
    assert stand.calls_in(3) == 3
    assert stand.counts == {"lease-lost": 3}
    assert stand.job.standing is None


def test_a_step_that_was_not_due_takes_nothing_back(stand: Stand) -> None:
    stand.raises = SafetyStop("a person must decide")
    stand.calls_in(1)
    stand.raises, stand.answer = None, "idle"
    stand.calls_in(int(DELAY_SECONDS))
    assert stand.job.standing is not None
    assert (stand.job.view().state, stand.job.view().runs) == ("failing", 0)


def test_nothing_is_begun_once_it_is_to_end(stand: Stand) -> None:
    stand.stopping = True
    assert stand.calls_in(3) == 0
    assert not stand.job.running


def test_an_error_that_ends_no_run_stands_until_it_is_over(stand: Stand) -> None:
    def step() -> Answer | None:
        stand.job.met(StorageFull("no room"))
        assert stand.job.standing is not None
        stand.job.recovered()
        assert stand.job.standing is None
        return None

    stand.job = Job("test", step, 1.0, counter=stand, clock=lambda: stand.now)
    stand.job.run()
    assert stand.counts == {"storage-full": 1, "ran": 1}
