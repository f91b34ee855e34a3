"""The schema and its revisions (Alembic, in `migrations/`)."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from speakerdb.catalog.database import Database
from speakerdb.errors import SchemaNewer, SchemaOutdated

HEAD = "0004"
"""The newest schema revision. A constant, so that opening a library need not load Alembic; a test compares it."""


def scripts() -> Path:
    """The folder of the schema revisions: in the wheel beside this package, in a checkout at the top."""
    package = Path(__file__).resolve().parent.parent
    packed = package / "_migrations"
    return packed if packed.is_dir() else package.parent / "migrations"


def current(database: Database) -> str | None:
    """The revision of the database; None for an empty one."""
    with database.read() as tx:
        if not sa.inspect(tx).has_table("alembic_version"):
            return None
        revision: str | None = tx.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return revision


def ensure(database: Database, *, auto_upgrade: bool) -> None:
    """Bring the schema to `HEAD`, or say why not."""
    revision = current(database)
    if revision == HEAD:
        return
    if revision is not None and not auto_upgrade:
        known(revision)
        raise SchemaOutdated(f"The database is at revision {revision}, this speakerdb needs {HEAD}.")
    upgrade(database)


def upgrade(database: Database) -> str:
    """Upgrade to `HEAD` in one transaction. Two processes may do it at once: the second finds nothing to do."""
    from alembic import command
    from alembic.config import Config

    with database.write() as tx:
        if sa.inspect(tx).has_table("alembic_version"):
            revision = tx.scalar(sa.text("SELECT version_num FROM alembic_version"))
            if revision is not None:
                known(revision)
        config = Config()
        config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
        config.attributes["connection"] = tx
        command.upgrade(config, "head")
    return HEAD


def known(revision: str) -> None:
    """`SchemaNewer` unless this version knows the revision."""
    names = {path.name.partition("_")[0] for path in (scripts() / "versions").glob("*.py")}
    if revision not in names:
        raise SchemaNewer(f"The database is at revision {revision}, which this speakerdb (at {HEAD}) does not know.")
