"""Work that finds turns; how they were found, overlaps, measures of voices, transcripts, sets of assignments."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TASK = "task IN ('extract', 'diarize')"
GENERATION = "(task = 'extract') = (generation IS NOT NULL)"
KEPT = (
    "id, recording_id, generation, reason, priority, state, attempts, taken_epoch, done_version, error_code,"
    " error_message, waived_why, updated_at"
)


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        _work_items_anew()
    else:
        op.add_column("work_items", sa.Column("task", TEXT, nullable=False, server_default="extract"))
        op.alter_column("work_items", "task", server_default=None)
        op.add_column("work_items", sa.Column("options", TEXT, nullable=True))
        op.alter_column("work_items", "generation", nullable=True)
        op.create_check_constraint(op.f("ck_work_items_task"), "work_items", TASK)
        op.create_check_constraint(op.f("ck_work_items_generation"), "work_items", GENERATION)
    op.create_index(
        "uq_work_items_recording_id_task",
        "work_items",
        ["recording_id", "task"],
        unique=True,
        sqlite_where=sa.text("generation IS NULL"),
        postgresql_where=sa.text("generation IS NULL"),
    )
    _talk()


def _work_items_anew() -> None:
    """SQLite cannot let a column be NULL that was not, nor add a CHECK."""
    op.execute(f"CREATE TEMPORARY TABLE kept_work_items AS SELECT {KEPT} FROM work_items")  # noqa: S608  constants
    op.drop_table("work_items")
    op.create_table(
        "work_items",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("recording_id", TEXT, nullable=False),
        sa.Column("task", TEXT, nullable=False),
        sa.Column("generation", TEXT, nullable=True),
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
        sa.Column("options", TEXT, nullable=True),
        sa.CheckConstraint("(state = 'taken') = (taken_epoch IS NOT NULL)", name=op.f("ck_work_items_taken")),
        sa.CheckConstraint("reason IN ('new', 'changed', 'repair', 'migration')", name=op.f("ck_work_items_reason")),
        sa.CheckConstraint("state <> 'done' OR done_version IS NOT NULL", name=op.f("ck_work_items_done")),
        sa.CheckConstraint("state <> 'failed' OR error_code IS NOT NULL", name=op.f("ck_work_items_failed")),
        sa.CheckConstraint("state <> 'waived' OR waived_why IS NOT NULL", name=op.f("ck_work_items_waived")),
        sa.CheckConstraint(
            "state IN ('queued', 'taken', 'done', 'failed', 'waived')", name=op.f("ck_work_items_state")
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_work_items_attempts")),
        sa.CheckConstraint(TASK, name=op.f("ck_work_items_task")),
        sa.CheckConstraint(GENERATION, name=op.f("ck_work_items_generation")),
        sa.ForeignKeyConstraint(["generation"], ["generations.name"], name=op.f("fk_work_items_generation")),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_work_items_recording_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_items")),
        sa.UniqueConstraint("recording_id", "generation", name=op.f("uq_work_items_recording_id_generation")),
    )
    op.execute(f"INSERT INTO work_items ({KEPT}, task) SELECT {KEPT}, 'extract' FROM kept_work_items ORDER BY id")  # noqa: S608
    op.execute("DROP TABLE kept_work_items")
    op.create_index("ix_work_items_generation_state", "work_items", ["generation", "state"])
    op.create_index(
        "ix_work_items_open",
        "work_items",
        ["priority", "id"],
        sqlite_where=sa.text("state IN ('queued', 'taken')"),
    )


def _talk() -> None:
    op.create_table(
        "diarizations",
        *_recording("diarizations"),
        sa.Column("content_version", sa.BigInteger(), nullable=False),
        sa.Column("diarizer", TEXT, nullable=False),
        sa.Column("options", TEXT, nullable=False),
        sa.Column("notices", TEXT, nullable=False),
        sa.Column("exclusive", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("recording_id", name=op.f("pk_diarizations")),
    )
    op.create_table(
        "analyses",
        *_recording("analyses"),
        sa.Column("content_version", sa.BigInteger(), nullable=False),
        sa.Column("heard", sa.Boolean(), nullable=False),
        sa.Column("spoken_seconds", sa.Double(), nullable=False),
        sa.Column("overlap_seconds", sa.Double(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("recording_id", name=op.f("pk_analyses")),
    )
    op.create_table(
        "overlaps",
        *_recording("overlaps"),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.Column("end", sa.Double(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("confidence_from", TEXT, nullable=False),
        sa.Column("ranked_by", TEXT, nullable=False),
        sa.CheckConstraint('"start" >= 0 AND "end" > "start"', name=op.f("ck_overlaps_times")),
        sa.CheckConstraint("confidence >= 0 AND confidence <= 1", name=op.f("ck_overlaps_confidence")),
        sa.PrimaryKeyConstraint("recording_id", "ordinal", name=op.f("pk_overlaps")),
    )
    op.create_table(
        "overlap_speakers",
        *_recording("overlap_speakers"),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("speaker_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["speaker_id"], ["speakers.id"], name=op.f("fk_overlap_speakers_speaker_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("recording_id", "ordinal", "rank", name=op.f("pk_overlap_speakers")),
    )
    op.create_index("ix_overlap_speakers_speaker_id", "overlap_speakers", ["speaker_id"])
    op.create_table(
        "voice_measures",
        sa.Column("speaker_id", TEXT, nullable=False),
        *_recording("voice_measures"),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("overlap_seconds", sa.Double(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("longest_turn_seconds", sa.Double(), nullable=False),
        sa.Column("interruptions_given", sa.Integer(), nullable=False),
        sa.Column("interruptions_received", sa.Integer(), nullable=False),
        sa.Column("level", sa.Double(), nullable=True),
        sa.Column("pitch", sa.Double(), nullable=True),
        sa.Column("pitch_low", sa.Double(), nullable=True),
        sa.Column("pitch_high", sa.Double(), nullable=True),
        sa.Column("words", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["speaker_id"], ["speakers.id"], name=op.f("fk_voice_measures_speaker_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("speaker_id", name=op.f("pk_voice_measures")),
    )
    op.create_index("ix_voice_measures_recording_id", "voice_measures", ["recording_id"])
    op.create_table(
        "transcripts",
        *_recording("transcripts"),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("language", TEXT, nullable=True),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("words", sa.Integer(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("recording_id", name=op.f("pk_transcripts")),
    )
    op.create_table(
        "assignment_sets",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        *_recording("assignment_sets"),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("why", TEXT, nullable=True),
        sa.Column("replaced_by", TEXT, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("replaced_by IN ('rediarized', 'reverted')", name=op.f("ck_assignment_sets_replaced_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignment_sets")),
    )
    op.create_index("ix_assignment_sets_recording_id", "assignment_sets", ["recording_id"])


def _recording(table: str) -> tuple[sa.Column[str], sa.ForeignKeyConstraint]:
    return (
        sa.Column("recording_id", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f(f"fk_{table}_recording_id"), ondelete="CASCADE"
        ),
    )
