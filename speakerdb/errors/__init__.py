"""The error tree. A class states its code, whether trying again can help, how far it reaches, and both doors' status.

SpeakerDBError
├── ConfigurationError ── GenerationChanged, SchemaNewer, SchemaOutdated, BackupUnusable, DiarizerRefused
├── NotFound (also LookupError) ── NotEmbedded
├── InvalidInput (also ValueError) ── NeedsTurns, InvalidTurns, InvalidTranscript, InvalidManifest, DuplicateEntry,
│                                 InvalidBundle, TooFewVoices, NamesUnmapped
├── Conflict ── MigrationActive, IllegalTransition, NoMigration, LeaseHeld, LeaseLost, WritesFenced, AliasMoved, AliasMissing,
│               IndexExists, CannotUndo, LibraryInUse, AlreadyExists, VersionConflict
├── MediaError ── MediaMissing, MediaUnreadable, MediaChanged, MediaForbidden, NoAudioTrack, MediaTooShort
├── ExtractionError ── ModelUnavailable, ModelAccessDenied, ModelOffline, CheckpointUntrusted, DimensionMismatch,
│                      NotCalibrated, NotFinite, WorkerDied, WorkerTimeout, DiarizationFailed
├── BackendError ── DatabaseUnavailable, DatabaseReadOnly, StorageFull, IndexUnavailable, IndexMissing, ItemsRejected
├── HookFailed
├── SafetyStop
├── GateFailed
├── PreflightFailed
└── NotConfirmed

`code` is the same word in SQL, CLI and API. A caller decides by class or by `transient` and `scope`, never by text.
"""

from __future__ import annotations

from speakerdb.errors.backends import (
    BackendError,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DeletionBrake,
    EmptySource,
    GateFailed,
    HookFailed,
    IndexMissing,
    IndexUnavailable,
    ItemsRejected,
    PreflightFailed,
    RestoredSource,
    SafetyStop,
    StorageFull,
)
from speakerdb.errors.base import (
    Scope,
    SpeakerDBError,
)
from speakerdb.errors.conflicts import (
    AliasMissing,
    AliasMoved,
    AlreadyExists,
    CannotUndo,
    Conflict,
    IllegalTransition,
    IndexExists,
    LeaseHeld,
    LeaseLost,
    LibraryInUse,
    MigrationActive,
    NoMigration,
    VersionConflict,
    WritesFenced,
)
from speakerdb.errors.diarizing import DiarizationFailed, DiarizerRefused, NamesUnmapped, TooFewVoices
from speakerdb.errors.extraction import (
    CheckpointUntrusted,
    DimensionMismatch,
    ExtractionError,
    MediaChanged,
    MediaError,
    MediaForbidden,
    MediaMissing,
    MediaTooShort,
    MediaUnreadable,
    ModelAccessDenied,
    ModelOffline,
    ModelUnavailable,
    NoAudioTrack,
    NotCalibrated,
    NotFinite,
    WorkerDied,
    WorkerTimeout,
)
from speakerdb.errors.given import (
    BackupUnusable,
    ConfigurationError,
    DuplicateEntry,
    GenerationChanged,
    InvalidBundle,
    InvalidInput,
    InvalidManifest,
    InvalidTranscript,
    InvalidTurns,
    NeedsTurns,
    NotConfirmed,
    NotEmbedded,
    NotFound,
    SchemaNewer,
    SchemaOutdated,
)

__all__ = [
    "AliasMissing",
    "AliasMoved",
    "AlreadyExists",
    "BackendError",
    "BackupUnusable",
    "CannotUndo",
    "CheckpointUntrusted",
    "ConfigurationError",
    "Conflict",
    "DatabaseReadOnly",
    "DatabaseUnavailable",
    "DeletionBrake",
    "DiarizationFailed",
    "DiarizerRefused",
    "DimensionMismatch",
    "DuplicateEntry",
    "EmptySource",
    "ExtractionError",
    "GateFailed",
    "GenerationChanged",
    "HookFailed",
    "IllegalTransition",
    "IndexExists",
    "IndexMissing",
    "IndexUnavailable",
    "InvalidBundle",
    "InvalidInput",
    "InvalidManifest",
    "InvalidTranscript",
    "InvalidTurns",
    "ItemsRejected",
    "LeaseHeld",
    "LeaseLost",
    "LibraryInUse",
    "MediaChanged",
    "MediaError",
    "MediaForbidden",
    "MediaMissing",
    "MediaTooShort",
    "MediaUnreadable",
    "MigrationActive",
    "ModelAccessDenied",
    "ModelOffline",
    "ModelUnavailable",
    "NamesUnmapped",
    "NeedsTurns",
    "NoAudioTrack",
    "NoMigration",
    "NotCalibrated",
    "NotConfirmed",
    "NotEmbedded",
    "NotFinite",
    "NotFound",
    "PreflightFailed",
    "RestoredSource",
    "SafetyStop",
    "SchemaNewer",
    "SchemaOutdated",
    "Scope",
    "SpeakerDBError",
    "StorageFull",
    "TooFewVoices",
    "VersionConflict",
    "WorkerDied",
    "WorkerTimeout",
    "WritesFenced",
]
