"""Events say why; recordings may say when they were made."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("why", sa.Text(), nullable=True))
    op.add_column("recordings", sa.Column("recorded_at", sa.BigInteger(), nullable=True))
