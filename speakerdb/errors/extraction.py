"""Errors of media files, of models, and of the workers that use them."""

from __future__ import annotations

from typing import ClassVar

from speakerdb.errors.base import Scope, SpeakerDBError


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


class NotCalibrated(ExtractionError):
    """A generation's recipe says int8, and its network was not quantised on this machine yet. The work stays queued."""

    code = "not-calibrated"
    scope: ClassVar[Scope] = "run"
    default_hint = "Run `speakerdb models calibrate GENERATION` first."


class DimensionMismatch(ExtractionError):
    """A model gives vectors of another dimension than its generation states."""

    code = "dimension-mismatch"
    scope: ClassVar[Scope] = "run"
    default_hint = "Correct `dimension` in the settings, or take the right checkpoint."


class NotFinite(ExtractionError):
    """The model gave no usable vector for any segment of the recording."""

    code = "not-finite"
    http_status = 422
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
