"""The demo on real servers: which ones, and that nobody's library is in them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from speakerdb.errors import ConfigurationError, SafetyStop

if TYPE_CHECKING:
    from speakerdb.settings import Settings

PREFIX = "speakerdb-demo-"
"""Put before the demo's names in a cluster, unless a prefix is set."""


def server_settings(given: Settings) -> dict[str, Any]:
    """Of a user's settings those that name the servers. `ConfigurationError` where they name none."""
    if given.database_url is None or not given.opensearch.hosts:
        raise ConfigurationError(
            "The settings do not name both servers.",
            hint="Set SPEAKERDB_DATABASE_URL and SPEAKERDB_OPENSEARCH__HOSTS, or start both for the demo with"
            " `make demo BACKEND=servers`.",
        )
    search = given.opensearch
    return {
        "database_url": given.database_url,
        "opensearch": search if search.prefix else search.model_copy(update={"prefix": PREFIX}),
    }


def refuse_used(settings: Settings) -> None:
    """`SafetyStop` where the database or the cluster holds a library; nothing is written before this."""
    from speakerdb.catalog import upgrade
    from speakerdb.catalog.database import Database
    from speakerdb.index.opening import open_index

    with closing(Database(settings.catalog_url)) as database:
        if upgrade.current(database) is not None:
            raise SafetyStop(
                f"The database {database.url} was used by speakerdb before; the demo left it alone.",
                hint="Let SPEAKERDB_DATABASE_URL name an empty database.",
            )
    prefix = settings.opensearch.prefix
    with closing(open_index(settings)) as index:
        if index.indices() or index.aliases():
            raise SafetyStop(
                f"The cluster has indices whose names begin with {prefix!r}; the demo left them alone.",
                hint="Set SPEAKERDB_OPENSEARCH__PREFIX to a beginning that nobody uses.",
            )


def engines(settings: Settings) -> dict[str, str]:
    """What the library is kept in, for people: addresses, without secrets."""
    from speakerdb.catalog.database import Database

    with closing(Database(settings.catalog_url)) as database:
        shown = database.url
    search = settings.opensearch
    index = f"OpenSearch, {', '.join(search.hosts)}, names begin with {search.prefix}" if search.hosts else None
    return {"database": shown, "index": index or f"embedded, {settings.index_path}"}
