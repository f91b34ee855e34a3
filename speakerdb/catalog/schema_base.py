"""What all tables of the catalog are made with: their metadata, the names of their constraints, and their types."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Instant = sa.BigInteger
# In the order of code points and told apart by them, as SQLite does, whatever the server's language is.
Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# SQLite gives only INTEGER primary keys the next number by itself.
Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")
