"""The database and the index, on this disk or on their servers. Neither is made where it is absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from speakerdb.catalog import asking, health, journal, upgrade
from speakerdb.catalog.database import Database
from speakerdb.errors import ConfigurationError, IndexUnavailable, SpeakerDBError
from speakerdb.index.opening import missing_file, open_index
from speakerdb.reports.mending import DoctorCheck
from speakerdb.settings import Settings
from speakerdb.types import SERVING_ALIAS


@dataclass
class Facts:
    """What the database told, for the checks after it. `live` is None where it could not be read."""

    live: tuple[str, ...] | None = None
    newest: int = 0
    now: int | None = None
    to_diarize: int = 0


def facts_of(settings: Settings, facts: Facts) -> frozenset[str]:
    """The generations whose model is needed: those that new recordings are extracted for, else the one to begin with."""
    return frozenset(facts.live or (settings.serving,))


def look_at_database(settings: Settings, facts: Facts) -> Iterator[DoctorCheck]:
    """Whether it opens, is of this schema, is sound and can be written."""
    path = health.file_of(settings.catalog_url)
    if path is not None and not path.exists():
        yield DoctorCheck("database", "skipped", f"there is none yet; the first `speakerdb add` makes {path}")
        return
    if path is not None and not path.is_file():
        yield DoctorCheck("database", "fail", f"{path} is not a file", "Set `database_url` or `data_dir` to another.")
        return
    try:
        database = Database(settings.catalog_url)
    except SpeakerDBError as error:
        yield DoctorCheck("database", "fail", f"{error.code}: {error.message}", error.hint)
        return
    try:
        yield from _database(database, facts)
    except SpeakerDBError as error:
        # A server that cannot be reached has not lost anything.
        restore = database.path is not None and not isinstance(error, ConfigurationError)
        mend = f"{error.hint} {database.restoring}" if restore else error.hint
        yield DoctorCheck("database", "fail", f"{error.code}: {error.message}", mend.strip())
    finally:
        database.close()


def _database(database: Database, facts: Facts) -> Iterator[DoctorCheck]:
    revision = upgrade.current(database)
    if revision is None:
        yield DoctorCheck("database", "warn", "it is empty", "The next `speakerdb` verb that needs it fills it.")
        return
    if damage := database.damage():
        yield DoctorCheck("database", "fail", f"the file is damaged: {damage[0]}", database.restoring)
        return
    yield from database.checks()
    if revision != upgrade.HEAD:
        known = revision < upgrade.HEAD
        yield DoctorCheck(
            "database", "warn" if known else "fail", f"schema revision {revision}, this speakerdb has {upgrade.HEAD}",
            "`speakerdb db upgrade`" if known else "Install the speakerdb that upgraded it, or a newer one.",
        )  # fmt: skip
    else:
        sound = "" if database.path is None else "sound, "  # a server looks after its own files
        yield DoctorCheck("database", "pass", f"{sound}schema revision {revision}")
        with database.read() as tx:
            facts.live = journal.live_generations(tx)
            facts.newest, facts.now = health.newest(tx), database.now()
            facts.to_diarize = asking.to_diarize(tx)
    try:
        health.write_nothing(database)
    except SpeakerDBError as error:
        yield DoctorCheck("database writable", "fail", f"{error.code}: {error.message}", error.hint)
    else:
        yield DoctorCheck("database writable", "pass", "yes")


def check_index(settings: Settings, facts: Facts) -> Iterator[DoctorCheck]:
    """Whether it opens, what serves, and whether every live generation has its index."""
    path = missing_file(settings)
    if path is not None:
        if facts.live:
            rebuild = ", ".join(f"`speakerdb index rebuild {name}`" for name in facts.live)
            yield DoctorCheck("index", "fail", f"{path} is missing", f"It is built again from SQL: {rebuild}.")
        else:
            yield DoctorCheck("index", "skipped", "there is none yet")
        return
    index = open_index(settings)
    counted: dict[str, str] = {}
    try:
        aliases, troubles = index.aliases(), index.troubles()
        indices = index.indices(())
        for name in indices:  # one that cannot be counted says nothing of the others
            with suppress(IndexUnavailable):
                counted[name] = f"{index.indices((name,))[name].documents:,} documents"
    finally:
        index.close()
    yield from (DoctorCheck("index engine", "warn", sentence) for sentence in troubles)
    serving = aliases.get(SERVING_ALIAS, ())
    known = settings.known_generations()
    lacking = [
        name
        for name in facts.live or ()
        if name in known
        and not any(n == known[name].index_name or n in aliases.get(known[name].write_alias, ()) for n in indices)
    ]
    documents = ", ".join(
        f"{name} ({counted.get(name, 'its documents cannot be counted')})" for name in sorted(indices)
    )
    if lacking:
        yield DoctorCheck(
            "index", "fail", f"no index of {', '.join(lacking)}", f"`speakerdb index rebuild {lacking[0]}`"
        )
    elif len(serving) != 1:
        what = "names nothing" if not serving else f"names {', '.join(serving)}"
        yield DoctorCheck(
            "index", "fail", f"the alias {SERVING_ALIAS} {what}; there are: {documents or 'no indices'}",
            "See `speakerdb status` for what can be done about it.",
        )  # fmt: skip
    else:
        yield DoctorCheck("index", "pass", f"{SERVING_ALIAS} serves {serving[0]}; {documents}")
