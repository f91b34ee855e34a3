"""Errors of the database and the index, and refusals that keep something from being destroyed."""

from __future__ import annotations

from typing import ClassVar

from speakerdb.errors.base import Scope, SpeakerDBError


class BackendError(SpeakerDBError):
    """The database or the index did not do its part."""

    code = "backend"
    exit_code = 8
    http_status = 503
    default_hint = "See `speakerdb status`, then run it again."


class DatabaseUnavailable(BackendError):
    """The database is locked for too long, cannot be opened, or is damaged."""

    code = "database-unavailable"
    transient = True
    default_hint = "See that no process holds the file and the disk is sound; restore a backup if it is damaged."


class DatabaseReadOnly(BackendError):
    """The database or the index cannot be written."""

    code = "database-read-only"
    default_hint = "Make the data folder and its files writable for this user, or set SPEAKERDB_DATA_DIR to another."


class StorageFull(BackendError):
    """There is no room left on the disk."""

    code = "storage-full"
    default_hint = "Free some room on the disk and run it again; nothing was half-written."


class IndexUnavailable(BackendError):
    """The index is busy for too long, or damaged."""

    code = "index-unavailable"
    transient = True
    default_hint = "Run it again; if it stays so, build the index again with `speakerdb index rebuild GENERATION`."


class IndexMissing(BackendError):
    """An index or its write alias is gone, or the generation is not live."""

    code = "index-missing"
    default_hint = "Build it again from SQL with `speakerdb index rebuild GENERATION`."


class ItemsRejected(BackendError):
    """The index refused documents that it should have taken."""

    code = "items-rejected"
    scope: ClassVar[Scope] = "item"
    default_hint = "See `speakerdb status` for the reason."


class HookFailed(SpeakerDBError):
    """The command of `hooks.on_event` ended with an error, took too long, or cannot be started."""

    code = "hook-failed"
    transient = True
    default_hint = "Run the command by hand with an event on its standard input; see docs/how-to/monitor.md."


class SafetyStop(SpeakerDBError):
    """Going on could destroy something; a person must decide.

    For example: the alias names an index that it should not, or the index belongs to another database.
    """

    code = "safety-stop"
    exit_code = 9
    http_status = 409
    default_hint = "Read the message and decide; nothing was changed."


class DeletionBrake(SafetyStop):
    """A repair would delete more than a repair may within 24 hours. `details["report"]` is what it found."""

    code = "deletion-brake"
    default_hint = (
        "See `speakerdb repair run --dry-run`. If what it would delete is to go: `speakerdb repair run --force deletions"
        " --why TEXT`."
    )


class EmptySource(SafetyStop):
    """The database has no row for a generation whose index holds documents: the database is the one that is wrong."""

    code = "empty-source"
    default_hint = (
        "Bring the right database back: see database_url, and `speakerdb restore`. If the index is what is to go:"
        " `speakerdb index rebuild GENERATION`."
    )


class RestoredSource(SafetyStop):
    """An index knows what the database does not: the database is an older copy. A repair deletes nothing then."""

    code = "restored-source"
    default_hint = (
        "Bring the newer database back if there is one. If this one is right, `speakerdb index rebuild --all` builds every"
        " index again from it."
    )


class GateFailed(SpeakerDBError):
    """The target (or, for a roll-back, the source) is not proven; nothing was swapped.

    `details["report"]` names each gate with value, threshold and verdict.
    """

    code = "gate-failed"
    exit_code = 10
    http_status = 409
    default_hint = "See `speakerdb migrate status`; often `speakerdb work` is enough, else `migrate retry` or `waive`."


class PreflightFailed(SpeakerDBError):
    """A migration would not come to its end.

    `details["report"]` names each check.
    """

    code = "preflight-failed"
    exit_code = 11
    http_status = 409
    default_hint = "Mend what the checks name, or start anyway with `--force`."
