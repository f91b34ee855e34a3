"""Rows of live settings: what every process follows within seconds. And whether a generation has what the others have."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from speakerdb.catalog.database import Transaction, held, upsert
from speakerdb.catalog.schema import embeddings, libraries, live_settings, recordings, speakers, work_items


@dataclass(frozen=True, slots=True)
class LiveRow:
    """One setting. `library` is an id, "" for all; `library_name` its name, None for all or where it is gone."""

    name: str
    library: str
    value: str
    who: str
    why: str | None
    updated_at: int
    library_name: str | None


_all = (
    sa.select(live_settings, libraries.c.name.label("library_name"))
    .outerjoin(libraries, libraries.c.id == live_settings.c.library)
    .order_by(live_settings.c.name, live_settings.c.library)
)


def rows(tx: Transaction) -> list[LiveRow]:
    """Everything that is set."""
    return [LiveRow(*row) for row in tx.execute(_all)]


def value_of(tx: Transaction, name: str, library: str) -> str | None:
    """One setting's value; None where it is not set."""
    found = sa.select(live_settings.c.value).where(live_settings.c.name == name, live_settings.c.library == library)
    value: str | None = tx.scalar(found)
    return value


def write(tx: Transaction, name: str, library: str, value: str, who: str, why: str | None, now: int) -> None:
    """Set it, whatever it was."""
    values = {"value": held(value), "who": held(who), "why": held(why), "updated_at": now}
    statement = upsert(tx.dialect.name, live_settings).values(name=name, library=library, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["name", "library"], set_=values))


def clear(tx: Transaction, name: str, library: str) -> None:
    """It is not set any more."""
    tx.execute(sa.delete(live_settings).where(live_settings.c.name == name, live_settings.c.library == library))


def is_complete(tx: Transaction, generation: str) -> bool:
    """Whether a generation has every speaker that has a vector in some generation.

    What is new or changed and still in its queue does not count, as it does not for the one that serves; nor does what a
    person has waived.
    """
    item = (work_items.c.recording_id == recordings.c.id, work_items.c.generation == generation)
    settled = sa.select(work_items.c.id).where(
        *item,
        sa.or_(
            (work_items.c.state == "done") & (work_items.c.done_version == recordings.c.content_version),
            work_items.c.state.in_(("queued", "taken")) & work_items.c.reason.in_(("new", "changed")),
            work_items.c.state == "waived",
        ),
    )
    behind = sa.select(recordings.c.id).where(~settled.exists())
    here = sa.select(embeddings.c.entity_id).where(
        embeddings.c.generation == generation, embeddings.c.entity_id == speakers.c.id
    )
    known = sa.select(embeddings.c.entity_id).where(
        embeddings.c.entity_id == speakers.c.id, embeddings.c.kind == "speaker", embeddings.c.vector.is_not(None)
    )
    query = sa.select(speakers.c.id).where(speakers.c.recording_id.in_(behind), ~here.exists(), known.exists())
    return tx.scalar(query.limit(1)) is None
