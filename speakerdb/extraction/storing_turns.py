"""A diarization into SQL: a recording's turns and speakers with the state of its work item, or nothing.

Whoever was there before stays who they are: a new speaker takes the place of the old one whose time and voice it has most of
(`core.remapping`), with its id, label, name and profile. What stood there before is kept as a set of assignments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from speakerdb.catalog import assignments, diarizations, intake, journal, library, people, talk, vectors, work
from speakerdb.catalog.adopting import NO_TURNS
from speakerdb.catalog.database import Transaction
from speakerdb.catalog.diarizations import DiarizationRow
from speakerdb.catalog.intake import Voice
from speakerdb.catalog.leases import Lease
from speakerdb.catalog.library import RecordingRow
from speakerdb.catalog.work import Item
from speakerdb.core.commands import command
from speakerdb.core.remapping import Remapping, remap
from speakerdb.core.renaming import labels_for
from speakerdb.core.turns import AWAITED, NOBODY, in_time, turns_digest
from speakerdb.diarizers.asked import Asked
from speakerdb.errors import NamesUnmapped
from speakerdb.extraction.task import Diarized, DiarizeTask
from speakerdb.types import Embedding, Turn


@dataclass(frozen=True, slots=True)
class Before:
    """A recording as it is, with the turns and the speakers that it has."""

    row: RecordingRow
    turns: tuple[Turn, ...]
    voices: Mapping[str, Voice]
    """By label."""


def store_turns(
    tx: Transaction, lease: Lease, item: Item, task: DiarizeTask, result: Diarized, who: str, now: int
) -> bool:
    """Write what was found. False where the recording is not the one that was read: the item is queued again.

    `NamesUnmapped` where somebody who has a name, or a profile, would be gone and nobody accepted that.
    """
    before = read(tx, result.recording_id)
    if before is None or before.row.content_version != result.content_version:
        work.give_back(tx, lease, [item], now)
        return False
    planned = plan(tx, before, task, result)
    if planned.unmapped is not None and not task.asked.accept_lost:
        raise planned.unmapped
    row, asked, turns = before.row, task.asked, planned.turns
    version = row.content_version + planned.changed
    if not work.finish(tx, lease, {item.id: version}, now):
        return False
    ids = {label: voice.id for label, voice in before.voices.items()}
    if planned.changed:
        assignments.remember(tx, row.id, "rediarized", asked.who or who, now, why=asked.why)
        people.mark_dirty(tx, people.of_recordings(tx, [row.id]), now)
        ids, gone = library.write_turns(tx, row.id, turns, now, known=ids)
        told = library.names_of(tx, gone) if gone else []
        vectors.mark_deleted(tx, gone, now)
        library.delete_speakers(tx, gone)
        seconds = result.found.seconds if row.seconds is None else row.seconds
        changed = replace(row, turns_digest=planned.digest, content_version=version, seconds=seconds)
        library.update_recording(tx, changed, now)
        if turns:
            reason: work.Reason = "new" if row.turns_digest == AWAITED else "changed"
            work.enqueue(tx, row.id, journal.live_generations(tx), reason, now)
        else:
            work.drop_open_of(tx, row.id)
        journal.record(
            tx, "recording-diarized", asked.who or who, now, entity_id=row.id, why=asked.why, turns=len(turns),
            speakers=len(ids), mapped=len(planned.remapping.pairs), lost=told, gone=gone,
            diarizer=result.found.diarizer,
        )  # fmt: skip
    floor = tuple(Turn(turn.start, turn.end, ids[turn.speaker]) for turn in planned.exclusive)
    found = DiarizationRow(row.id, version, result.found.diarizer, asked.as_dict(), result.found.notices, floor, now)
    diarizations.write(tx, found)
    if task.measure and turns:
        own = [replace(turn, speaker=ids[turn.speaker]) for turn in turns]
        talk.write(tx, row.id, version, own, scores=result.found.overlap_scores, now=now)
    return True


@dataclass(frozen=True, slots=True)
class Planned:
    """What becomes of a recording with the turns that were found."""

    remapping: Remapping
    """Old speakers by id, new ones by the diarizer's label."""
    lost: tuple[Voice, ...]
    unmapped: NamesUnmapped | None
    """Why it is refused, where nobody accepts that named speakers go."""
    labels: Mapping[str, str]
    """The label that each of the diarizer's will be."""
    turns: tuple[Turn, ...]
    exclusive: tuple[Turn, ...]
    digest: str
    changed: bool
    """Whether anything is other than it was."""


def plan(tx: Transaction, before: Before, task: DiarizeTask, result: Diarized) -> Planned:
    """What storing the turns that were found will do. Reads only."""
    remapping = mapping_of(tx, before, result, task.compare.generation.name if task.compare else None)
    lost = tuple(voice for voice in before.voices.values() if voice.id in remapping.lost)
    labels = labels_of(result, before, remapping)
    turns, exclusive = (
        tuple(sorted((replace(one, speaker=labels[one.speaker]) for one in part if one.speaker in labels), key=in_time))
        for part in (result.found.turns, result.found.exclusive)
    )
    digest = turns_digest(turns) if turns else NOBODY
    return Planned(
        remapping,
        lost,
        unmapped(before, lost, task.asked),
        labels,
        turns,
        exclusive,
        digest,
        digest != before.row.turns_digest,
    )


def read(tx: Transaction, recording_id: str) -> Before | None:
    """A recording as it is now; None where there is none."""
    found = library.snapshot(tx, [recording_id])
    if not found:
        return None
    row, turns = found[recording_id]
    return Before(row, turns, intake.voices(tx, [recording_id])[recording_id])


def mapping_of(tx: Transaction, before: Before, result: Diarized, generation: str | None) -> Remapping:
    """Which old speakers (by id) the new ones (by label) take the place of."""
    known = {}
    if generation is not None:
        rows = vectors.embeddings_of(tx, generation, [voice.id for voice in before.voices.values()])
        known = {
            id: row.result.vector
            for id, row in rows.items()
            if isinstance(row.result, Embedding) and row.content_version == before.row.content_version
        }
    return remap(before.turns, result.found.turns, old_voices=known, new_voices=result.voices)


def unmapped(before: Before, lost: Sequence[Voice], asked: Asked) -> NamesUnmapped | None:
    """The error, where one of these has a name or a profile, or nothing but the vectors that an index had of it."""
    labels = {voice.id: label for label, voice in before.voices.items()}
    imported = before.row.turns_digest == NO_TURNS
    named = [voice for voice in lost if imported or voice.name is not None or voice.profile_id is not None]
    if not named:
        return None
    told = f" (asked with{asked.options})" if asked.options else ""
    look = command("rediarize", before.row.id, options=f"{asked.options} --dry-run")
    kept = "" if imported else f"; where not, `{command('assignments keep', before.row.id)}`"
    return NamesUnmapped(
        f"Of the recording {before.row.id!r}, no new speaker takes the place of"
        f" {', '.join(sorted(labels[voice.id] for voice in named))}{told}; it stays as it is.",
        hint=f"Look with `{look}`; where they may go, run it with `--accept-lost` (`assignments revert` brings them back)"
        f"{kept}.",
        speakers=[voice.id for voice in named],
    )


def labels_of(result: Diarized, before: Before, remapping: Remapping) -> dict[str, str]:
    """The label that each of the diarizer's will be: whoever was there keeps the old one."""
    label_of = {voice.id: label for label, voice in before.voices.items()}
    old = {new: label_of[id] for new, id in remapping.by_new.items()}
    return labels_for(dict.fromkeys(turn.speaker for turn in result.found.turns), old, before.voices)
