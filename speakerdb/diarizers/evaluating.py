"""How good turns are: the diarization error rate with its parts, by `pyannote.metrics`.

It is the time that is missed, falsely found, or given to another speaker, over the time that is spoken in the reference; it can
be above 1. Speakers are mapped one to one in the way that is best for the hypothesis. The collar is a *total* width around each
edge of the reference: with 0.25 an eighth of a second on either side is not looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from speakerdb.errors import InvalidInput
from speakerdb.reports.diarizing import Evaluation, EvaluationReport
from speakerdb.types import Turn


def evaluate(
    reference: Mapping[str, Sequence[Turn]],
    hypothesis: Mapping[str, Sequence[Turn]],
    *,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> EvaluationReport:
    """Turns by recording against those of a reference. `InvalidInput` where there is nothing to compare.

    Where there is one recording on each side, they are compared whatever their names, and another name is told. A recording
    that the hypothesis lacks counts as missed altogether; one that the reference lacks cannot be evaluated and is named.
    """
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    if collar < 0:
        raise InvalidInput(f"A collar of {collar:g} s cannot be.")
    pairs = [(name, turns, hypothesis.get(name, ())) for name, turns in reference.items()]
    extra = sorted(set(hypothesis) - set(reference))
    other = None
    if len(reference) == 1 and len(hypothesis) == 1:
        (theirs_called,), (ours_called,) = reference, hypothesis
        other = ours_called if theirs_called and ours_called and ours_called != theirs_called else None
        pairs, extra = [(*next(iter(reference.items())), next(iter(hypothesis.values())))], []
    if not pairs or not any(turns for _, turns, _ in pairs) or len(extra) == len(hypothesis):
        raise InvalidInput(
            "There is nothing to compare: no recording of the reference is in the hypothesis.",
            hint="Recordings have the same names in both files, or there is one in each.",
        )
    metric = DiarizationErrorRate(collar=collar, skip_overlap=skip_overlap)
    rows = []
    for name, theirs, ours in pairs:
        ends = max((turn.end for turn in (*theirs, *ours)), default=0.0)
        starts = min((turn.start for turn in (*theirs, *ours)), default=0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = metric(_annotation(theirs), _annotation(ours), detailed=True, uem=Timeline([Segment(starts, ends)]))
        rows.append(_row(name, found, theirs, ours))
    total = {part: sum(getattr(row, part) for row in rows) for part in ("total", "missed", "false_alarm", "confusion")}
    return EvaluationReport(
        recordings=tuple(rows),
        error_rate=_rate(total["missed"] + total["false_alarm"] + total["confusion"], total["total"]),
        total=total["total"],
        missed=total["missed"],
        false_alarm=total["false_alarm"],
        confusion=total["confusion"],
        collar=collar,
        skip_overlap=skip_overlap,
        without_reference=tuple(extra),
        without_hypothesis=tuple(sorted(set(reference) - set(hypothesis))) if len(pairs) > 1 else (),
        compared_with=other,
    )


def _annotation(turns: Sequence[Turn]) -> Any:
    from pyannote.core import Annotation, Segment

    found = Annotation()
    for number, turn in enumerate(turns):
        found[Segment(turn.start, turn.end), number] = turn.speaker
    return found


def _row(name: str, found: Mapping[str, float], theirs: Sequence[Turn], ours: Sequence[Turn]) -> Evaluation:
    parts = {
        "total": float(found["total"]),
        "missed": float(found["missed detection"]),
        "false_alarm": float(found["false alarm"]),
        "confusion": float(found["confusion"]),
    }
    return Evaluation(
        recording=name,
        error_rate=_rate(parts["missed"] + parts["false_alarm"] + parts["confusion"], parts["total"]),
        speakers=len({turn.speaker for turn in theirs}),
        speakers_found=len({turn.speaker for turn in ours}),
        **parts,
    )


def _rate(wrong: float, total: float) -> float | None:
    return wrong / total if total else None
