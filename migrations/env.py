"""Alembic's entry: schema revisions run on the connection that speakerdb passes in, in its transaction.

From the command line (`alembic -c migrations/alembic.ini revision --autogenerate`) the settings name the database.
"""

from alembic import context

from speakerdb.catalog.database import Database
from speakerdb.catalog.schema import metadata
from speakerdb.settings import load_settings


def run(connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,
        transaction_per_migration=False,
        compare_server_default=False,
        render_as_batch=True,
    )
    # speakerdb's own transaction is open already; Alembic must neither begin nor commit one of its own.
    context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:
    database = Database(load_settings().catalog_url)
    with database.write() as tx:
        run(tx)
