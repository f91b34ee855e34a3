"""The error tree. A class states its code, whether trying again can help, how far it reaches, and both doors' status.

SpeakerDBError
├── ConfigurationError ── GenerationChanged, SchemaNewer, SchemaOutdated, BackupUnusable
├── NotFound (also LookupError) ── NotEmbedded
├── InvalidInput (also ValueError) ── NeedsTurns, InvalidTurns, InvalidManifest, DuplicateEntry, InvalidBundle
├── Conflict ── MigrationActive, IllegalTransition, NoMigration, LeaseHeld, LeaseLost, WritesFenced, AliasMoved, AliasMissing,
│               IndexExists, CannotUndo, LibraryInUse, AlreadyExists, VersionConflict
├── MediaError ── MediaMissing, MediaUnreadable, MediaChanged, MediaForbidden, NoAudioTrack, MediaTooShort
├── ExtractionError ── ModelUnavailable, ModelAccessDenied, ModelOffline, CheckpointUntrusted, DimensionMismatch,
│                      NotFinite, WorkerDied, WorkerTimeout
├── BackendError ── DatabaseUnavailable, DatabaseReadOnly, StorageFull, IndexUnavailable, IndexMissing, ItemsRejected
├── HookFailed
├── SafetyStop
├── GateFailed
├── PreflightFailed
└── NotConfirmed

`code` is the same word in SQL, CLI and API. A caller decides by class or by `transient` and `scope`, never by text.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Scope = Literal["item", "recording", "run"]


class SpeakerDBError(Exception):
    """Something went wrong for which there is no class of its own.

    `hint` says what to do next; `details` is data for machines.
    """

    code: ClassVar[str] = "error"
    transient: ClassVar[bool] = False
    scope: ClassVar[Scope] = "run"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    default_hint: ClassVar[str] = "Read the message; it should have a code of its own, so please report it."

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.details = details

    def __reduce__(self) -> Any:
        # Errors cross process borders; keyword-only arguments need saying.
        return _rebuild, (type(self), self.message, self.hint, self.details)


def _rebuild(cls: type[SpeakerDBError], message: str, hint: str, details: dict[str, Any]) -> SpeakerDBError:
    return cls(message, hint=hint, **details)


class ConfigurationError(SpeakerDBError):
    """A setting or definition cannot be used, or a generation of that name is not known."""

    code = "configuration"
    exit_code = 2
    http_status = 500
    default_hint = "Mend the setting it names: in speakerdb.toml, in .env, or in its SPEAKERDB_ variable."


class GenerationChanged(ConfigurationError):
    """A generation's model, revision, dimension or recipe, or its checkpoint, is not the one this library was built with."""

    code = "generation-changed"
    scope: ClassVar[Scope] = "run"
    default_hint = "Undo the change, or give the changed model or recipe a new name and migrate to it."


class SchemaNewer(ConfigurationError):
    """The database was written by a newer speakerdb."""

    code = "schema-newer"
    default_hint = "Install the speakerdb version that upgraded this database, or a newer one."


class SchemaOutdated(ConfigurationError):
    """The database needs an upgrade first, and `auto_upgrade` is off."""

    code = "schema-outdated"
    default_hint = "Run `speakerdb db upgrade`."


class BackupUnusable(ConfigurationError):
    """A file is not a backup of a library, is damaged, or was made by a newer speakerdb."""

    code = "backup-unusable"
    default_hint = "Give a file that `speakerdb backup` made."


class NotFound(SpeakerDBError, LookupError):
    """There is no such recording, speaker, profile or library."""

    code = "not-found"
    scope: ClassVar[Scope] = "item"
    exit_code = 3
    http_status = 404
    default_hint = "List what there is with `speakerdb recordings list`, `speakers list` or `profiles list`."


class NotEmbedded(NotFound):
    """The speaker or profile exists, and has no embedding that can be searched."""

    code = "not-embedded"
    http_status = 409
    default_hint = "Run `speakerdb work`. If the message gives a reason, the voice is unembeddable as it is."


class InvalidInput(SpeakerDBError, ValueError):
    """What was given cannot be used as it is."""

    code = "invalid-input"
    scope: ClassVar[Scope] = "recording"
    exit_code = 4
    http_status = 422
    default_hint = "Correct what the message names, and give it again."


class NeedsTurns(InvalidInput):
    """A recording came without turns."""

    code = "needs-turns"
    default_hint = "Give its turns with `--turns FILE` (RTTM, or a JSON list of start, end, speaker)."


class InvalidTurns(InvalidInput):
    """Turns cannot be read, or do not fit the recording: wrong columns, a start after the end, beyond the end of the file."""

    code = "invalid-turns"
    default_hint = "Mend the line or item that the message names, and give the turns again."


class InvalidManifest(InvalidInput):
    """A line of a manifest, or its header, is malformed."""

    code = "invalid-manifest"
    default_hint = "Mend the line and give the manifest again; docs/reference/manifest.md says what a line may hold."


class DuplicateEntry(InvalidInput):
    """Two entries of one run name the same recording."""

    code = "duplicate-entry"
    default_hint = "Remove one of the two, or give them different ids."


class InvalidBundle(InvalidInput):
    """A bundle of models is incomplete, damaged, or not a bundle."""

    code = "invalid-bundle"
    scope: ClassVar[Scope] = "run"
    default_hint = "Make it again with `speakerdb models pack` on a machine that has the models."


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


class MediaError(SpeakerDBError):
    """A media file cannot be used."""

    code = "media"
    scope: ClassVar[Scope] = "recording"
    exit_code = 6
    http_status = 422
    default_hint = "Look at the file that the message names."


class MediaMissing(MediaError):
    """The media file is not where it was, or sound that was given in memory is gone."""

    code = "media-missing"
    default_hint = (
        "Check the path. If a recording of the library has lost its file: `speakerdb media relocate OLD NEW` where it moved;"
        " else put it back and run `speakerdb work --retry`."
    )


class MediaUnreadable(MediaError):
    """The file is empty, truncated, not audio, or cannot be decoded where it must be."""

    code = "media-unreadable"
    default_hint = "Play the file in an ordinary player; put a sound copy in its place and add it again."


class NoAudioTrack(MediaError):
    """The file is a media file without sound."""

    code = "no-audio-track"
    default_hint = "Give the file that has the sound."


class MediaChanged(MediaError):
    """The file is not the one its turns were made from."""

    code = "media-changed"
    default_hint = (
        "If its turns still fit: `speakerdb media accept ID`. Else make them again: `speakerdb add FILE --turns FILE`."
    )


class MediaForbidden(MediaError):
    """The path lies outside `media_roots`."""

    code = "media-forbidden"
    http_status = 403
    default_hint = "Allow its folder in the setting `media_roots`."


class MediaTooShort(MediaError):
    """The sound ends before the speech that was asked for, though the file says that it is longer."""

    code = "media-too-short"
    default_hint = "The file is cut off: replace it and add it again."


class ExtractionError(SpeakerDBError):
    """An embedding could not be computed, for a reason that has no class of its own."""

    code = "extraction"
    scope: ClassVar[Scope] = "recording"
    exit_code = 7
    http_status = 500
    default_hint = "Run `speakerdb work --retry`; if it stays so, report the message."


class ModelUnavailable(ExtractionError):
    """None of the model's sources could be loaded. The work stays queued."""

    code = "model-unavailable"
    scope: ClassVar[Scope] = "run"
    default_hint = (
        "The message lists every source with its reason; `speakerdb models list` shows what is on this machine."
    )


class ModelAccessDenied(ModelUnavailable):
    """The hub refused the model: a token is missing, or the model's terms were not accepted."""

    code = "model-access-denied"
    default_hint = "Accept the model's terms on its hub page, make a token there, and set HF_TOKEN."


class ModelOffline(ModelUnavailable):
    """The model is not on this machine, and looking it up is not allowed or not possible."""

    code = "model-offline"
    default_hint = "Run `speakerdb models fetch` where there is network, or bring it by `models pack` and `install`."


class CheckpointUntrusted(ModelUnavailable):
    """A checkpoint is a program; this one is not pinned, or is not the one that was pinned."""

    code = "checkpoint-untrusted"
    default_hint = "Compare its SHA-256 with where you got it, then pin it with `sha256` in [generations.NAME]."


class DimensionMismatch(ExtractionError):
    """A model gives vectors of another dimension than its generation states."""

    code = "dimension-mismatch"
    scope: ClassVar[Scope] = "run"
    default_hint = "Correct `dimension` in the settings, or take the right checkpoint."


class NotFinite(ExtractionError):
    """The model gave no usable vector for any segment of the recording."""

    code = "not-finite"
    default_hint = "Listen to the recording: it may be silent where its turns say that somebody talks."


class WorkerDied(ExtractionError):
    """The worker process of this recording crashed, hung or was killed for memory, three times. Each costs one attempt."""

    code = "worker-died"
    transient = True
    default_hint = (
        "Check the file; give the machine more memory, or raise the setting `recording_timeout`; then "
        "`speakerdb work --retry`."
    )


class WorkerTimeout(ExtractionError):
    """It took longer than `recording_timeout`, and its worker was ended.

    A recording is tried again, alone; the third time it fails as `worker-died`.
    """

    code = "worker-timeout"
    transient = True
    default_hint = "Check the file, or raise the setting `recording_timeout`; then `speakerdb work --retry`."


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


class NotConfirmed(SpeakerDBError):
    """A verb that asks was not confirmed, or there was no terminal to ask on."""

    code = "not-confirmed"
    exit_code = 12
    http_status = 409
    default_hint = "Answer the question with y, or pass `--yes`."
