"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite orders text by code point; a PostgreSQL server orders by its language unless told.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "fences",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("holder", TEXT, nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(holder IS NULL) = (expires_at IS NULL)", name=op.f("ck_fences_holder")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_fences")),
    )
    op.create_table(
        "generations",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("checksum", TEXT, nullable=True),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("definition", TEXT, nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("dimension > 0", name=op.f("ck_generations_dimension")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_generations")),
    )
    op.create_table(
        "leases",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("holder", TEXT, nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("acquired_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(holder IS NULL) = (expires_at IS NULL)", name=op.f("ck_leases_holder")),
        sa.CheckConstraint("epoch >= 0", name=op.f("ck_leases_epoch")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "libraries",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_libraries")),
        sa.UniqueConstraint("name", name=op.f("uq_libraries_name")),
    )
    op.create_table(
        "embeddings",
        sa.Column("generation", TEXT, nullable=False),
        sa.Column("entity_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("reason", TEXT, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("resultant", sa.Double(), nullable=True),
        sa.Column("agreement", sa.Double(), nullable=True),
        sa.Column("recipe", TEXT, nullable=False),
        sa.Column("content_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('speaker', 'profile')", name=op.f("ck_embeddings_kind")),
        sa.CheckConstraint("(vector IS NULL) <> (reason IS NULL)", name=op.f("ck_embeddings_vector_or_reason")),
        sa.CheckConstraint("(vector IS NULL) = (resultant IS NULL)", name=op.f("ck_embeddings_resultant")),
        sa.ForeignKeyConstraint(["generation"], ["generations.name"], name=op.f("fk_embeddings_generation")),
        sa.PrimaryKeyConstraint("generation", "entity_id", name=op.f("pk_embeddings")),
    )
    with op.batch_alter_table("embeddings", schema=None) as batch_op:
        batch_op.create_index("ix_embeddings_entity_id", ["entity_id"], unique=False)

    op.create_table(
        "migrations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("alias", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("target", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("pause_reason", TEXT, nullable=True),
        sa.Column("swap_token", TEXT, nullable=True),
        sa.Column("drop_index", TEXT, nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finalized_at", sa.BigInteger(), nullable=True),
        sa.Column("rollback_until", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(state IN ('finalizing', 'rolling_back')) = (swap_token IS NOT NULL)",
            name=op.f("ck_migrations_swap_token"),
        ),
        sa.CheckConstraint(
            "(state IN ('retired', 'cancelled', 'rolled_back')) = (ended_at IS NOT NULL)",
            name=op.f("ck_migrations_ended_at"),
        ),
        sa.CheckConstraint(
            "state IN ('running', 'finalizing', 'finalized', 'rolling_back', 'rolled_back', 'retired', 'cancelled')",
            name=op.f("ck_migrations_state"),
        ),
        sa.CheckConstraint("source <> target", name=op.f("ck_migrations_source_target")),
        sa.ForeignKeyConstraint(["source"], ["generations.name"], name=op.f("fk_migrations_source")),
        sa.ForeignKeyConstraint(["target"], ["generations.name"], name=op.f("fk_migrations_target")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_migrations")),
    )
    with op.batch_alter_table("migrations", schema=None) as batch_op:
        batch_op.create_index(
            "uq_migrations_alias_active",
            ["alias"],
            unique=True,
            sqlite_where=sa.text("state NOT IN ('retired', 'cancelled', 'rolled_back')"),
            postgresql_where=sa.text("state NOT IN ('retired', 'cancelled', 'rolled_back')"),
        )

    op.create_table(
        "profiles",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("library_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("merged_into", TEXT, nullable=True),
        sa.Column("members_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("name <> ''", name=op.f("ck_profiles_name")),
        sa.CheckConstraint("merged_into IS NULL OR merged_into <> id", name=op.f("ck_profiles_merged_into")),
        sa.ForeignKeyConstraint(["library_id"], ["libraries.id"], name=op.f("fk_profiles_library_id")),
        sa.ForeignKeyConstraint(["merged_into"], ["profiles.id"], name=op.f("fk_profiles_merged_into")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_profiles")),
    )
    with op.batch_alter_table("profiles", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_profiles_merged_into"), ["merged_into"], unique=False)
        batch_op.create_index(
            "uq_profiles_library_id_name_living",
            ["library_id", "name"],
            unique=True,
            sqlite_where=sa.text("merged_into IS NULL"),
            postgresql_where=sa.text("merged_into IS NULL"),
        )

    op.create_table(
        "projections",
        sa.Column("generation", TEXT, nullable=False),
        sa.Column("entity_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("library_id", TEXT, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("indexed_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("deleted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("rejected_version", sa.BigInteger(), nullable=True),
        sa.Column("rejection", TEXT, nullable=True),
        sa.CheckConstraint("kind IN ('speaker', 'profile')", name=op.f("ck_projections_kind")),
        sa.CheckConstraint(
            "version >= 1 AND indexed_version >= 0 AND indexed_version <= version", name=op.f("ck_projections_versions")
        ),
        sa.ForeignKeyConstraint(["generation"], ["generations.name"], name=op.f("fk_projections_generation")),
        sa.PrimaryKeyConstraint("generation", "entity_id", name=op.f("pk_projections")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("projections", schema=None) as batch_op:
        batch_op.create_index("ix_projections_entity_id", ["entity_id"], unique=False)
        batch_op.create_index(
            "ix_projections_waiting",
            ["generation", "entity_id"],
            unique=False,
            sqlite_where=sa.text("version > indexed_version"),
            postgresql_where=sa.text("version > indexed_version"),
        )

    op.create_table(
        "recordings",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("library_id", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=True),
        sa.Column("media_size", sa.BigInteger(), nullable=True),
        sa.Column("media_digest", TEXT, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("turns_digest", TEXT, nullable=False),
        sa.Column("content_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(media_size IS NULL) = (media_digest IS NULL)", name=op.f("ck_recordings_fingerprint")),
        sa.CheckConstraint("content_version >= 1", name=op.f("ck_recordings_content_version")),
        sa.ForeignKeyConstraint(["library_id"], ["libraries.id"], name=op.f("fk_recordings_library_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recordings")),
    )
    with op.batch_alter_table("recordings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_recordings_library_id"), ["library_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_recordings_path"), ["path"], unique=False)

    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("migration_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("entity_id", TEXT, nullable=True),
        sa.Column("data", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["migration_id"], ["migrations.id"], name=op.f("fk_events_migration_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_entity_id"), ["entity_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_events_migration_id"), ["migration_id"], unique=False)

    op.create_table(
        "speakers",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("recording_id", TEXT, nullable=False),
        sa.Column("label", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("profile_id", TEXT, nullable=True),
        sa.Column("speech_seconds", sa.Double(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name=op.f("fk_speakers_profile_id")),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_speakers_recording_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_speakers")),
        sa.UniqueConstraint("recording_id", "label", name=op.f("uq_speakers_recording_id_label")),
    )
    with op.batch_alter_table("speakers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_speakers_profile_id"), ["profile_id"], unique=False)

    op.create_table(
        "work_items",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("recording_id", TEXT, nullable=False),
        sa.Column("generation", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("taken_epoch", sa.BigInteger(), nullable=True),
        sa.Column("done_version", sa.BigInteger(), nullable=True),
        sa.Column("error_code", TEXT, nullable=True),
        sa.Column("error_message", TEXT, nullable=True),
        sa.Column("waived_why", TEXT, nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(state = 'taken') = (taken_epoch IS NOT NULL)", name=op.f("ck_work_items_taken")),
        sa.CheckConstraint("reason IN ('new', 'changed', 'repair', 'migration')", name=op.f("ck_work_items_reason")),
        sa.CheckConstraint("state <> 'done' OR done_version IS NOT NULL", name=op.f("ck_work_items_done")),
        sa.CheckConstraint("state <> 'failed' OR error_code IS NOT NULL", name=op.f("ck_work_items_failed")),
        sa.CheckConstraint("state <> 'waived' OR waived_why IS NOT NULL", name=op.f("ck_work_items_waived")),
        sa.CheckConstraint(
            "state IN ('queued', 'taken', 'done', 'failed', 'waived')", name=op.f("ck_work_items_state")
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_work_items_attempts")),
        sa.ForeignKeyConstraint(["generation"], ["generations.name"], name=op.f("fk_work_items_generation")),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_work_items_recording_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_items")),
        sa.UniqueConstraint("recording_id", "generation", name=op.f("uq_work_items_recording_id_generation")),
    )
    with op.batch_alter_table("work_items", schema=None) as batch_op:
        batch_op.create_index("ix_work_items_generation_state", ["generation", "state"], unique=False)
        batch_op.create_index(
            "ix_work_items_open",
            ["priority", "id"],
            unique=False,
            sqlite_where=sa.text("state IN ('queued', 'taken')"),
            postgresql_where=sa.text("state IN ('queued', 'taken')"),
        )

    op.create_table(
        "turns",
        sa.Column("recording_id", TEXT, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.Column("end", sa.Double(), nullable=False),
        sa.Column("speaker_id", TEXT, nullable=False),
        sa.CheckConstraint('"start" >= 0 AND "end" > "start"', name=op.f("ck_turns_times")),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_turns_recording_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["speaker_id"], ["speakers.id"], name=op.f("fk_turns_speaker_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("recording_id", "ordinal", name=op.f("pk_turns")),
    )
    with op.batch_alter_table("turns", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_turns_speaker_id"), ["speaker_id"], unique=False)

    # Events are only ever added.
    if op.get_context().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER events_append_only BEFORE UPDATE ON events "
            "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
        )
    else:
        op.execute(
            "CREATE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE integrity_constraint_violation USING MESSAGE = 'events are append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER events_append_only BEFORE UPDATE ON events "
            "FOR EACH ROW EXECUTE FUNCTION events_append_only()"
        )
