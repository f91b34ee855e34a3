"""The content of one database, brought into another that is empty: how a library in a file comes onto a server.

Everything is committed at once. What cannot be taken as it is: a table that points at itself is filled in two steps, and a
server counts the numbers of new rows beside the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from speakerdb.catalog import upgrade
from speakerdb.catalog.database import Database, Row, Transaction
from speakerdb.catalog.schema import events, metadata, profiles, recordings
from speakerdb.errors import InvalidInput

ROWS = 1000
"""Rows that are written at once."""
_SAYS_THAT_IT_IS_USED = (recordings, profiles, events)


def fill(source: Database, target: Database, on_progress: Callable[[int, int], None]) -> None:
    """Write all rows of `source`, which is at the newest revision, into `target`. `on_progress` is told rows done and all.

    `InvalidInput` where `target` holds a library. One that was opened and never used is taken for empty.
    """
    upgrade.upgrade(target)
    with source.read() as old, target.write() as new:
        if any(_count(new, table) for table in _SAYS_THAT_IT_IS_USED):
            raise InvalidInput(
                "The database holds a library already, which is not written over.",
                hint="Let database_url name an empty database.",
            )
        for table in reversed(metadata.sorted_tables):
            new.execute(sa.delete(table))
        total, done = sum(_count(old, table) for table in metadata.sorted_tables), 0
        on_progress(done, total)
        for table in metadata.sorted_tables:
            for rows in old.execute(sa.select(table).execution_options(yield_per=ROWS)).partitions():
                _write(new, table, rows)
                done += len(rows)
                on_progress(done, total)
            _count_on(new, table)
        _point(old, new)


def _count(tx: Transaction, table: sa.Table) -> int:
    return tx.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def _write(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    values = [dict(row._mapping) for row in rows]
    if table is profiles:  # the profile that it was merged into may come later
        values = [{**each, "merged_into": None} for each in values]
    tx.execute(sa.insert(table), values)


def _point(old: Transaction, new: Transaction) -> None:
    """Say of merged profiles into which."""
    merged = sa.select(profiles.c.id, profiles.c.merged_into).where(profiles.c.merged_into.is_not(None))
    change = sa.update(profiles).where(profiles.c.id == sa.bindparam("merged")).values(merged_into=sa.bindparam("into"))
    for rows in old.execute(merged.execution_options(yield_per=ROWS)).partitions():
        new.execute(change, [{"merged": row.id, "into": row.merged_into} for row in rows])


def _count_on(tx: Transaction, table: sa.Table) -> None:
    """Let the numbers of new rows go on after the highest; SQLite looks at the table itself."""
    numbered = table.autoincrement_column
    if numbered is None or tx.dialect.name == "sqlite":
        return
    highest = tx.scalar(sa.select(sa.func.max(numbered)))
    if highest is not None:
        tx.execute(sa.select(sa.func.setval(sa.func.pg_get_serial_sequence(table.name, numbered.name), highest)))
