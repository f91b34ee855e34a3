"""The error tree. A class states its code, whether trying again can help, how far it reaches, and both doors' status.

SpeakerDBError
├── ConfigurationError ── GenerationChanged, SchemaNewer, SchemaOutdated, BackupUnusable
├── NotFound (also LookupError) ── NotEmbedded
├── InvalidInput (also ValueError) ── NeedsTurns, InvalidTurns, InvalidManifest, DuplicateEntry, InvalidBundle
├── Conflict ── MigrationActive, IllegalTransition, NoMigration, LeaseHeld, LeaseLost, WritesFenced, AliasMoved, AliasMissing,
│               IndexExists, CannotUndo, LibraryInUse
├── MediaError ── MediaMissing, MediaUnreadable, MediaChanged, MediaForbidden, NoAudioTrack, MediaTooShort
├── ExtractionError ── ModelUnavailable, ModelAccessDenied, ModelOffline, CheckpointUntrusted, DimensionMismatch,
│                      NotFinite, WorkerDied, WorkerTimeout
├── BackendError ── DatabaseUnavailable, DatabaseReadOnly, StorageFull, IndexUnavailable, IndexMissing, ItemsRejected
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
    """Anything speakerdb reports. `hint` says what to do next; `details` is data for machines."""

    code: ClassVar[str] = "error"
    transient: ClassVar[bool] = False
    scope: ClassVar[Scope] = "run"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    default_hint: ClassVar[str] = ""

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
    """A setting or definition cannot be used."""

    code = "configuration"
    exit_code = 2
    http_status = 500
    default_hint = "Mend the setting it names: in speakerdb.toml, in .env, or in its SPEAKERDB_ variable."


class GenerationChanged(ConfigurationError):
    """A generation's definition differs from the one this library was built with."""

    code = "generation-changed"
    scope: ClassVar[Scope] = "run"
    default_hint = "A changed model or recipe is a new generation: give it a new name and migrate to it."


class SchemaNewer(ConfigurationError):
    """The database was written by a newer speakerdb."""

    code = "schema-newer"
    default_hint = "Install the speakerdb version that upgraded this database, or a newer one."


class SchemaOutdated(ConfigurationError):
    """The database needs an upgrade first."""

    code = "schema-outdated"
    default_hint = "Run `speakerdb db upgrade`."


class BackupUnusable(ConfigurationError):
    """A file is not a backup of a library, is damaged, or was made by a newer speakerdb."""

    code = "backup-unusable"
    default_hint = "Give a file that `speakerdb backup` made."


class NotFound(SpeakerDBError, LookupError):
    """What was named does not exist."""

    code = "not-found"
    scope: ClassVar[Scope] = "item"
    exit_code = 3
    http_status = 404


class NotEmbedded(NotFound):
    """The speaker exists but has no embedding that could be searched yet."""

    code = "not-embedded"
    http_status = 409
    default_hint = "Run `speakerdb work` to extract what is queued."


class InvalidInput(SpeakerDBError, ValueError):
    """What was given cannot be used as it is."""

    code = "invalid-input"
    scope: ClassVar[Scope] = "recording"
    exit_code = 4
    http_status = 422


class NeedsTurns(InvalidInput):
    """A recording came without turns."""

    code = "needs-turns"
    default_hint = "Give its turns with `--turns FILE` (RTTM, or a JSON list of start, end, speaker)."


class InvalidTurns(InvalidInput):
    """Turns are malformed, or do not fit the recording."""

    code = "invalid-turns"
    default_hint = "Mend the turns file and give it again."


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


class MigrationActive(Conflict):
    """Another migration of this alias is not at its end."""

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
    """Another live process holds the lease."""

    code = "lease-held"
    transient = True


class LeaseLost(Conflict):
    """This process no longer holds its lease; nothing of the current step was committed."""

    code = "lease-lost"


class WritesFenced(Conflict):
    """A finalize holds the write fence for longer than a writer waits."""

    code = "writes-fenced"
    transient = True


class AliasMoved(Conflict):
    """The alias does not point where it was expected to; nothing was changed."""

    code = "alias-moved"
    default_hint = "See `speakerdb status` for what serves."


class AliasMissing(Conflict):
    """No alias says which index serves, and guessing is not safe."""

    code = "alias-missing"


class IndexExists(Conflict):
    """An index of this name exists with another dimension or for another generation."""

    code = "index-exists"
    default_hint = "Look at what it holds; if nobody needs it, remove it and run this again."


class CannotUndo(Conflict):
    """There is nothing to undo, or what was changed has changed again since."""

    code = "cannot-undo"
    default_hint = "See `speakerdb events` for what was done."


class LibraryInUse(Conflict):
    """Another process works with this library; what was asked for needs it alone."""

    code = "library-in-use"
    default_hint = "Stop the other processes (workers, services) and run this again."


class MediaError(SpeakerDBError):
    """A media file cannot be used."""

    code = "media"
    scope: ClassVar[Scope] = "recording"
    exit_code = 6
    http_status = 422


class MediaMissing(MediaError):
    """The media file is not where it was."""

    code = "media-missing"
    default_hint = (
        "Check the path. If a recording of the library has lost its file, put it back and run `speakerdb work --retry`."
    )


class MediaUnreadable(MediaError):
    """The file is empty, truncated, not audio, or cannot be decoded where it must be."""

    code = "media-unreadable"


class NoAudioTrack(MediaError):
    """The file is a media file without sound."""

    code = "no-audio-track"


class MediaChanged(MediaError):
    """The file is not the one its turns were made from."""

    code = "media-changed"
    default_hint = "Make its turns again and add it with `speakerdb add FILE --turns FILE`."


class MediaForbidden(MediaError):
    """The path lies outside the allowed media roots."""

    code = "media-forbidden"
    http_status = 403
    default_hint = "Allow its folder in the setting `media_roots`."


class MediaTooShort(MediaError):
    """The decoded sound ends before the speech that was asked for."""

    code = "media-too-short"


class ExtractionError(SpeakerDBError):
    """An embedding could not be computed."""

    code = "extraction"
    scope: ClassVar[Scope] = "recording"
    exit_code = 7
    http_status = 500


class ModelUnavailable(ExtractionError):
    """None of the model's sources could be loaded."""

    code = "model-unavailable"
    scope: ClassVar[Scope] = "run"


class ModelAccessDenied(ModelUnavailable):
    """The hub refused the model: a token is missing, or the model's terms were not accepted."""

    code = "model-access-denied"


class ModelOffline(ModelUnavailable):
    """The model is not on this machine, and looking it up is not allowed or not possible."""

    code = "model-offline"
    default_hint = (
        "Fetch it where there is network (`speakerdb models fetch`), or bring it with `models pack` and `install`."
    )


class CheckpointUntrusted(ModelUnavailable):
    """A checkpoint is a program; this one is not pinned, or is not the one that was pinned."""

    code = "checkpoint-untrusted"


class DimensionMismatch(ExtractionError):
    """A model gives vectors of another dimension than its generation states."""

    code = "dimension-mismatch"
    scope: ClassVar[Scope] = "run"


class NotFinite(ExtractionError):
    """A model gave NaN, infinity or a zero vector for a segment."""

    code = "not-finite"


class WorkerDied(ExtractionError):
    """The worker process died while this recording was being worked on."""

    code = "worker-died"
    transient = True
    default_hint = "Try it again with `speakerdb work --retry`; if it dies again, look at the recording's file."


class WorkerTimeout(ExtractionError):
    """The worker took longer than a recording may take, and was ended. Not tried again by itself: it would hang again."""

    code = "worker-timeout"
    default_hint = "Check the file, or raise the setting recording_timeout; then `speakerdb work --retry`."


class BackendError(SpeakerDBError):
    """The database or the index did not do its part."""

    code = "backend"
    exit_code = 8
    http_status = 503


class DatabaseUnavailable(BackendError):
    """The database cannot be reached, or is locked for too long."""

    code = "database-unavailable"
    transient = True
    default_hint = "Run it again; if it stays so, see that no process holds the file, and that the disk is sound."


class DatabaseReadOnly(BackendError):
    """The database cannot be written."""

    code = "database-read-only"
    default_hint = "Make the data folder and its files writable for this user, or set SPEAKERDB_DATA_DIR to another."


class StorageFull(BackendError):
    """There is no room left on the disk."""

    code = "storage-full"
    default_hint = "Free some room on the disk and run it again; nothing was half-written."


class IndexUnavailable(BackendError):
    """The index cannot be reached or is damaged."""

    code = "index-unavailable"
    transient = True
    default_hint = "Run it again; if it stays so, build the index again with `speakerdb index rebuild GENERATION`."


class IndexMissing(BackendError):
    """A concrete index or write alias that must exist does not."""

    code = "index-missing"
    default_hint = "Build it again from SQL with `speakerdb index rebuild GENERATION`."


class ItemsRejected(BackendError):
    """The index refused documents that it should have taken."""

    code = "items-rejected"
    scope: ClassVar[Scope] = "item"


class SafetyStop(SpeakerDBError):
    """Going on could destroy something; a person must decide."""

    code = "safety-stop"
    exit_code = 9
    http_status = 409


class GateFailed(SpeakerDBError):
    """The target index is not proven; `details["report"]` names each gate with value, threshold and verdict."""

    code = "gate-failed"
    exit_code = 10
    http_status = 409


class PreflightFailed(SpeakerDBError):
    """A migration would not come to its end; `details["report"]` names each check."""

    code = "preflight-failed"
    exit_code = 11
    http_status = 409


class NotConfirmed(SpeakerDBError):
    """A destructive verb was not confirmed."""

    code = "not-confirmed"
    exit_code = 12
    http_status = 409
    default_hint = "Answer the question with y, or pass `--yes`."
