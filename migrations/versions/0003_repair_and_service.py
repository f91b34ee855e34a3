"""Repair compares buckets and keeps what it did; settings that are followed live; tokens; events say from where."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("events", sa.Column("source", TEXT, nullable=True))
    op.add_column("leases", sa.Column("length", sa.BigInteger(), nullable=True))
    op.add_column("projections", sa.Column("bucket", sa.SmallInteger(), nullable=True))
    op.add_column("projections", sa.Column("indexed_digest", sa.BigInteger(), nullable=True))
    op.create_table(
        "repair_runs",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("generation", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("why", TEXT, nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.Column("found", TEXT, nullable=False),
        sa.Column("done", TEXT, nullable=False),
        sa.Column("deletions", sa.BigInteger(), nullable=False),
        sa.Column("code", TEXT, nullable=True),
        sa.Column("message", TEXT, nullable=True),
        sa.CheckConstraint("kind IN ('check', 'walk')", name=op.f("ck_repair_runs_kind")),
        sa.CheckConstraint(
            "state IN ('running', 'done', 'refused', 'failed', 'stopped')", name=op.f("ck_repair_runs_state")
        ),
        sa.CheckConstraint("(state = 'running') = (ended_at IS NULL)", name=op.f("ck_repair_runs_ended_at")),
        sa.ForeignKeyConstraint(["generation"], ["generations.name"], name=op.f("fk_repair_runs_generation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repair_runs")),
    )
    op.create_index("ix_repair_runs_generation", "repair_runs", ["generation", "id"])
    op.create_table(
        "quarantine",
        sa.Column("generation", TEXT, nullable=False),
        sa.Column("entity_id", TEXT, nullable=False),
        sa.Column("difference", TEXT, nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("waived_why", TEXT, nullable=True),
        sa.CheckConstraint("attempts >= 1", name=op.f("ck_quarantine_attempts")),
        sa.ForeignKeyConstraint(["generation"], ["generations.name"], name=op.f("fk_quarantine_generation")),
        sa.PrimaryKeyConstraint("generation", "entity_id", name=op.f("pk_quarantine")),
    )
    op.create_table(
        "repair_cursors",
        sa.Column("generation", TEXT, nullable=False),
        sa.Column("index", TEXT, nullable=False),
        sa.Column("after", TEXT, nullable=False),
        sa.Column("lap_begun_at", sa.BigInteger(), nullable=False),
        sa.Column("lap_ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["generation"], ["generations.name"], name=op.f("fk_repair_cursors_generation")),
        sa.PrimaryKeyConstraint("generation", name=op.f("pk_repair_cursors")),
    )
    op.create_table(
        "cursors",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
    )
    op.create_table(
        "live_settings",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("library", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("why", TEXT, nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "library", name=op.f("pk_live_settings")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("role IN ('reader', 'operator', 'admin')", name=op.f("ck_tokens_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )
