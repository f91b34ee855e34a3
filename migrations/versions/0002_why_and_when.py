"""Events say why; recordings may say when they were made; an index may be replaced by a new one."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("events", sa.Column("why", TEXT, nullable=True))
    op.add_column("generations", sa.Column("replacing", sa.BigInteger(), nullable=True))
    op.create_index("ix_events_kind", "events", ["kind", "id"])
    op.add_column("recordings", sa.Column("recorded_at", sa.BigInteger(), nullable=True))
