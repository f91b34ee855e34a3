"""Errors of the state that the library is in."""

from __future__ import annotations

from speakerdb.errors.base import SpeakerDBError


class Conflict(SpeakerDBError):
    """The state of the library forbids this now."""

    code = "conflict"
    exit_code = 5
    http_status = 409
    default_hint = "See `speakerdb status` for what serves and what runs."


class MigrationActive(Conflict):
    """Another migration is not at its end. A finalized one counts until it is retired or rolled back."""

    code = "migration-active"
    default_hint = "See `speakerdb migrate status`; finish it with finalize, cancel, rollback or retire."


class IllegalTransition(Conflict):
    """A migration cannot go from the state it is in to the one asked for."""

    code = "illegal-transition"
    default_hint = "See `speakerdb migrate status`."


class NoMigration(Conflict):
    """There is no migration this could apply to."""

    code = "no-migration"
    default_hint = "Start one with `speakerdb migrate start --to GENERATION`."


class LeaseHeld(Conflict):
    """Another live process works, or moves the alias."""

    code = "lease-held"
    transient = True
    default_hint = "Let the process it names finish, or stop it. One that died elsewhere: wait `lease_seconds`."


class LeaseLost(Conflict):
    """Another process took over while this one was stopped; nothing of its current step was committed."""

    code = "lease-lost"
    default_hint = "See `speakerdb status`, then run it again."


class WritesFenced(Conflict):
    """A finalize keeps writers waiting for longer than they wait, or catching up took longer than the fence stands."""

    code = "writes-fenced"
    transient = True
    default_hint = "Try again; the fence ends by itself. For a finalize: at a quieter time, or raise `fence_seconds`."


class AliasMoved(Conflict):
    """The alias, or the token of a swap, is not where it must be; nothing was changed."""

    code = "alias-moved"
    default_hint = "See `speakerdb status` for what serves; somebody else moved it."


class AliasMissing(Conflict):
    """No alias says which index serves, and guessing is not safe."""

    code = "alias-missing"
    default_hint = "Run `speakerdb index rebuild` for the generation that served."


class IndexExists(Conflict):
    """An index of this name exists with another dimension, or for another definition of its generation."""

    code = "index-exists"
    default_hint = (
        "It belongs to another library or to an older definition: move it away, then run `speakerdb index rebuild "
        "GENERATION`."
    )


class CannotUndo(Conflict):
    """There is nothing to undo, or what was changed has changed again since."""

    code = "cannot-undo"
    default_hint = "See `speakerdb events` for what was done."


class LibraryInUse(Conflict):
    """Another process works with this library; what was asked for needs it alone."""

    code = "library-in-use"
    default_hint = "Stop the other processes (workers, services) and run this again."


class AlreadyExists(Conflict):
    """Something of this id is there already, and it is not what was given."""

    code = "already-exists"
    default_hint = "Give another id; or read what is there, and change it."


class VersionConflict(Conflict):
    """What was to be changed has changed since it was read; nothing was written."""

    code = "version-conflict"
    http_status = 412
    default_hint = "Read it again, and decide by what it is now."
