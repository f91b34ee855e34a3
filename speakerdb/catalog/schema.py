"""The tables of the catalog. SQL states what should be; every index is a projection of it.

Invariants stand here first: CHECKs, foreign keys and partial unique indexes. Instants are microseconds since the epoch.
`migrations/` holds the schema revisions; a test fails when they and this file differ.
"""

from __future__ import annotations

import sqlalchemy as sa

from speakerdb.catalog.schema_base import Instant, Serial, Text, metadata
from speakerdb.catalog.schema_talk import (
    analyses,
    assignment_sets,
    diarizations,
    overlap_speakers,
    overlaps,
    transcripts,
    voice_measures,
)

__all__ = [
    "ENDED_STATES",
    "Instant",
    "Serial",
    "Text",
    "analyses",
    "assignment_sets",
    "cursors",
    "diarizations",
    "embeddings",
    "events",
    "fences",
    "generations",
    "leases",
    "libraries",
    "live_settings",
    "metadata",
    "migrations",
    "overlap_speakers",
    "overlaps",
    "profiles",
    "projections",
    "quarantine",
    "recordings",
    "repair_cursors",
    "repair_runs",
    "speakers",
    "tokens",
    "transcripts",
    "turns",
    "voice_measures",
    "work_items",
]

ENDED_STATES = ("retired", "cancelled", "rolled_back")
_active = sa.text("state NOT IN ('retired', 'cancelled', 'rolled_back')")

libraries = sa.Table(
    "libraries",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("name", Text, nullable=False, unique=True),
    sa.Column("created_at", Instant, nullable=False),
)

recordings = sa.Table(
    "recordings",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("library_id", sa.ForeignKey("libraries.id"), nullable=False, index=True),
    # None: the sound was given in memory and cannot be read again.
    sa.Column("path", Text, index=True),
    sa.Column("media_size", sa.BigInteger),
    sa.Column("media_digest", Text),
    sa.Column("seconds", sa.Double),
    sa.Column("turns_digest", Text, nullable=False),
    sa.Column("content_version", sa.BigInteger, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    # When it was made, where somebody said so.
    sa.Column("recorded_at", Instant),
    sa.CheckConstraint("content_version >= 1", name="content_version"),
    sa.CheckConstraint("(media_size IS NULL) = (media_digest IS NULL)", name="fingerprint"),
)

profiles = sa.Table(
    "profiles",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("library_id", sa.ForeignKey("libraries.id"), nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("merged_into", sa.ForeignKey("profiles.id"), index=True),
    # Raised by every change of its members or of their embeddings; an embedding pooled from an older one is dirty.
    sa.Column("members_version", sa.BigInteger, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.CheckConstraint("name <> ''", name="name"),
    sa.CheckConstraint("merged_into IS NULL OR merged_into <> id", name="merged_into"),
)
sa.Index(
    "uq_profiles_library_id_name_living",
    profiles.c.library_id,
    profiles.c.name,
    unique=True,
    sqlite_where=sa.text("merged_into IS NULL"),
    postgresql_where=sa.text("merged_into IS NULL"),
)

speakers = sa.Table(
    "speakers",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("recording_id", sa.ForeignKey("recordings.id", ondelete="CASCADE"), nullable=False),
    sa.Column("label", Text, nullable=False),
    sa.Column("name", Text),
    sa.Column("profile_id", sa.ForeignKey("profiles.id"), index=True),
    sa.Column("speech_seconds", sa.Double, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("recording_id", "label"),
)

turns = sa.Table(
    "turns",
    metadata,
    sa.Column("recording_id", sa.ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("start", sa.Double, nullable=False),
    sa.Column("end", sa.Double, nullable=False),
    sa.Column("speaker_id", sa.ForeignKey("speakers.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.CheckConstraint('"start" >= 0 AND "end" > "start"', name="times"),
)

generations = sa.Table(
    "generations",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("fingerprint", Text, nullable=False),
    # SHA-256 of the checkpoint, learned at the first load; from then on another one is refused.
    sa.Column("checksum", Text),
    sa.Column("dimension", sa.Integer, nullable=False),
    sa.Column("definition", Text, nullable=False),
    # New and changed recordings are extracted for every live generation.
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    # The lease's epoch of a rebuild that is about to let its new index take the old one's place; nothing is acknowledged
    # meanwhile.
    sa.Column("replacing", sa.BigInteger),
    sa.CheckConstraint("dimension > 0", name="dimension"),
)

embeddings = sa.Table(
    "embeddings",
    metadata,
    sa.Column("generation", sa.ForeignKey("generations.name"), primary_key=True),
    sa.Column("entity_id", Text, primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("vector", sa.LargeBinary),
    # Why there is no vector: the speaker is unembeddable.
    sa.Column("reason", Text),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("segments", sa.Integer, nullable=False),
    sa.Column("resultant", sa.Double),
    sa.Column("agreement", sa.Double),
    sa.Column("recipe", Text, nullable=False),
    # The recording's content_version, or the profile's members_version, that this was computed from.
    sa.Column("content_version", sa.BigInteger, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.CheckConstraint("(vector IS NULL) <> (reason IS NULL)", name="vector_or_reason"),
    sa.CheckConstraint("(vector IS NULL) = (resultant IS NULL)", name="resultant"),
    sa.CheckConstraint("kind IN ('speaker', 'profile')", name="kind"),
)
sa.Index("ix_embeddings_entity_id", embeddings.c.entity_id)

# The row is the outbox: version > indexed_version means "project me". No foreign key to the entity: it outlives it.
projections = sa.Table(
    "projections",
    metadata,
    sa.Column("generation", sa.ForeignKey("generations.name"), primary_key=True),
    sa.Column("entity_id", Text, primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("library_id", Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("indexed_version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    # The version that the index rejected, and why; it is not sent again until the version is raised.
    sa.Column("rejected_version", sa.BigInteger),
    sa.Column("rejection", Text),
    # `core.digests`: the document's bucket, and the digest of what SQL believes that the index holds (at indexed_version).
    # None: acknowledged before these were kept; a repair that finds the two equal fills them in.
    sa.Column("bucket", sa.SmallInteger),
    sa.Column("indexed_digest", sa.BigInteger),
    sa.CheckConstraint("version >= 1 AND indexed_version >= 0 AND indexed_version <= version", name="versions"),
    sa.CheckConstraint("kind IN ('speaker', 'profile')", name="kind"),
    # The projector walks and acknowledges in the order of the key: kept in that order, it touches each page once.
    sqlite_with_rowid=False,
)
sa.Index("ix_projections_entity_id", projections.c.entity_id)
sa.Index(
    "ix_projections_waiting",
    projections.c.generation,
    projections.c.entity_id,
    sqlite_where=sa.text("version > indexed_version"),
    postgresql_where=sa.text("version > indexed_version"),
)

work_items = sa.Table(
    "work_items",
    metadata,
    sa.Column("id", Serial, primary_key=True, autoincrement=True),
    sa.Column("recording_id", sa.ForeignKey("recordings.id", ondelete="CASCADE"), nullable=False),
    # "extract": its speakers' vectors in a generation. "diarize": its turns, in none.
    sa.Column("task", Text, nullable=False),
    sa.Column("generation", sa.ForeignKey("generations.name")),
    sa.Column("reason", Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("taken_epoch", sa.BigInteger),
    # The recording's content_version that is done.
    sa.Column("done_version", sa.BigInteger),
    sa.Column("error_code", Text),
    sa.Column("error_message", Text),
    sa.Column("waived_why", Text),
    sa.Column("updated_at", Instant, nullable=False),
    # JSON: what a person asked for, such as the number of speakers.
    sa.Column("options", Text),
    sa.UniqueConstraint("recording_id", "generation"),
    sa.CheckConstraint("task IN ('extract', 'diarize')", name="task"),
    sa.CheckConstraint("(task = 'extract') = (generation IS NOT NULL)", name="generation"),
    sa.CheckConstraint("state IN ('queued', 'taken', 'done', 'failed', 'waived')", name="state"),
    sa.CheckConstraint("reason IN ('new', 'changed', 'repair', 'migration')", name="reason"),
    sa.CheckConstraint("(state = 'taken') = (taken_epoch IS NOT NULL)", name="taken"),
    sa.CheckConstraint("state <> 'failed' OR error_code IS NOT NULL", name="failed"),
    sa.CheckConstraint("state <> 'waived' OR waived_why IS NOT NULL", name="waived"),
    sa.CheckConstraint("state <> 'done' OR done_version IS NOT NULL", name="done"),
    sa.CheckConstraint("attempts >= 0", name="attempts"),
)
sa.Index(
    "ix_work_items_open",
    work_items.c.priority,
    work_items.c.id,
    sqlite_where=sa.text("state IN ('queued', 'taken')"),
    postgresql_where=sa.text("state IN ('queued', 'taken')"),
)
sa.Index("ix_work_items_generation_state", work_items.c.generation, work_items.c.state)
_no_generation = sa.text("generation IS NULL")
sa.Index(
    "uq_work_items_recording_id_task",
    work_items.c.recording_id,
    work_items.c.task,
    unique=True,
    sqlite_where=_no_generation,
    postgresql_where=_no_generation,
)

migrations = sa.Table(
    "migrations",
    metadata,
    sa.Column("id", Serial, primary_key=True, autoincrement=True),
    sa.Column("alias", Text, nullable=False),
    sa.Column("source", sa.ForeignKey("generations.name"), nullable=False),
    sa.Column("target", sa.ForeignKey("generations.name"), nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("pause_reason", Text),
    # The one-time alias that an announced swap removes; None when no swap is announced.
    sa.Column("swap_token", Text),
    # A concrete index that is to be dropped; None once it is.
    sa.Column("drop_index", Text),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finalized_at", Instant),
    sa.Column("rollback_until", Instant),
    sa.Column("ended_at", Instant),
    sa.CheckConstraint("source <> target", name="source_target"),
    sa.CheckConstraint(
        "state IN ('running', 'finalizing', 'finalized', 'rolling_back', 'rolled_back', 'retired', 'cancelled')",
        name="state",
    ),
    sa.CheckConstraint("(state IN ('finalizing', 'rolling_back')) = (swap_token IS NOT NULL)", name="swap_token"),
    sa.CheckConstraint("(state IN ('retired', 'cancelled', 'rolled_back')) = (ended_at IS NOT NULL)", name="ended_at"),
)
sa.Index("uq_migrations_alias_active", migrations.c.alias, unique=True, sqlite_where=_active, postgresql_where=_active)

# Append-only: a trigger in the schema revision refuses updates.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", Serial, primary_key=True, autoincrement=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("who", Text, nullable=False),
    sa.Column("migration_id", sa.ForeignKey("migrations.id"), index=True),
    sa.Column("entity_id", Text, index=True),
    sa.Column("data", Text, nullable=False),
    # What the person who did it said.
    sa.Column("why", Text),
    # From where it was done: "cli", "schedule", or "api" with the address of who asked.
    sa.Column("source", Text),
)

sa.Index("ix_events_kind", events.c.kind, events.c.id)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("holder", Text),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("acquired_at", Instant),
    sa.Column("expires_at", Instant),
    # Microseconds from a renewal to the expiry, as its holder's settings have it.
    sa.Column("length", sa.BigInteger),
    sa.CheckConstraint("epoch >= 0", name="epoch"),
    sa.CheckConstraint("(holder IS NULL) = (expires_at IS NULL)", name="holder"),
)

# One row, `library`: while it has a holder and has not expired, writers of the library wait.
fences = sa.Table(
    "fences",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("holder", Text),
    sa.Column("expires_at", Instant),
    sa.CheckConstraint("(holder IS NULL) = (expires_at IS NULL)", name="holder"),
)

# What a repair did, one row a run; dry runs leave none.
repair_runs = sa.Table(
    "repair_runs",
    metadata,
    sa.Column("id", Serial, primary_key=True, autoincrement=True),
    sa.Column("generation", sa.ForeignKey("generations.name"), nullable=False),
    # "check" compares buckets and walks those that differ; "walk" reads vectors too.
    sa.Column("kind", Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("who", Text, nullable=False),
    sa.Column("why", Text),
    sa.Column("state", Text, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("compared", sa.BigInteger, nullable=False),
    # JSON: how many by class of difference, and by kind of action.
    sa.Column("found", Text, nullable=False),
    sa.Column("done", Text, nullable=False),
    # Documents that became tombstones because SQL has no row for them: what the brake counts.
    sa.Column("deletions", sa.BigInteger, nullable=False),
    sa.Column("code", Text),
    sa.Column("message", Text),
    sa.CheckConstraint("kind IN ('check', 'walk')", name="kind"),
    sa.CheckConstraint("state IN ('running', 'done', 'refused', 'failed', 'stopped')", name="state"),
    sa.CheckConstraint("(state = 'running') = (ended_at IS NULL)", name="ended_at"),
)
sa.Index("ix_repair_runs_generation", repair_runs.c.generation, repair_runs.c.id)

# What a repair could not mend. Not tried again before next_at.
quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("generation", sa.ForeignKey("generations.name"), primary_key=True),
    sa.Column("entity_id", Text, primary_key=True),
    sa.Column("difference", Text, nullable=False),
    sa.Column("code", Text, nullable=False),
    sa.Column("message", Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("first_at", Instant, nullable=False),
    sa.Column("last_at", Instant, nullable=False),
    sa.Column("next_at", Instant, nullable=False),
    sa.Column("waived_why", Text),
    sa.CheckConstraint("attempts >= 1", name="attempts"),
)

# How far the walk with vectors is, a generation.
repair_cursors = sa.Table(
    "repair_cursors",
    metadata,
    sa.Column("generation", sa.ForeignKey("generations.name"), primary_key=True),
    # The concrete index that is walked; another one begins anew.
    sa.Column("index", Text, nullable=False),
    # The last id that was walked; "" at the beginning of a lap.
    sa.Column("after", Text, nullable=False),
    sa.Column("lap_begun_at", Instant, nullable=False),
    # When the last whole lap was over; None before the first.
    sa.Column("lap_ended_at", Instant),
)

# How far something that goes through the events has come, whichever process does it.
cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
)

# Settings that every process follows within seconds. `library` is a library's id, or "" for all.
live_settings = sa.Table(
    "live_settings",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("library", Text, primary_key=True),
    sa.Column("value", Text, nullable=False),
    sa.Column("who", Text, nullable=False),
    sa.Column("why", Text),
    sa.Column("updated_at", Instant, nullable=False),
)

# Keys to the HTTP API. The secret itself is nowhere, only its SHA-256.
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("name", Text, nullable=False),
    sa.Column("role", Text, nullable=False),
    sa.Column("digest", Text, nullable=False, unique=True),
    sa.Column("who", Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("revoked_at", Instant),
    # Of the last day on which it was used, and no finer.
    sa.Column("last_used_at", Instant),
    sa.CheckConstraint("role IN ('reader', 'operator', 'admin')", name="role"),
)
