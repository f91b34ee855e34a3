"""Errors of what was given: settings, ids, files of turns, answers that were not given."""

from __future__ import annotations

from typing import ClassVar

from speakerdb.errors.base import Scope, SpeakerDBError


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
    default_hint = (
        "Give its turns with `--turns FILE` (RTTM, or a JSON list of start, end, speaker), or `--diarize` it."
    )


class InvalidTurns(InvalidInput):
    """Turns cannot be read, or do not fit the recording: wrong columns, a start after the end, beyond the end of the file."""

    code = "invalid-turns"
    default_hint = "Mend the line or item that the message names, and give the turns again."


class InvalidTranscript(InvalidInput):
    """A transcript cannot be read, or does not fit the recording: times that run backwards, or far beyond its end."""

    code = "invalid-transcript"
    default_hint = "Mend the item that the message names, and give the transcript again."


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


class NotConfirmed(SpeakerDBError):
    """A verb that asks was not confirmed, or there was no terminal to ask on."""

    code = "not-confirmed"
    exit_code = 12
    http_status = 409
    default_hint = "Answer the question with y, or pass `--yes`."
