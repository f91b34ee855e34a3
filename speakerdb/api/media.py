"""The recordings' files: are they there, where did they move to, which changed ones are right? These may take long."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Request
from pydantic import Field, model_validator

from speakerdb.api.parts import (
    ACCEPTED,
    DryRun,
    Given,
    Library,
    LibraryName,
    OperationId,
    Said,
    Text,
    Wait,
    at_length,
    because,
)
from speakerdb.api.route import Routes
from speakerdb.core.texts import MAX_ID_LENGTH
from speakerdb.errors import InvalidInput, MediaForbidden
from speakerdb.reports.access import Role
from speakerdb.reports.files import AcceptReport, FileChange, FileCheck, FileFinding, Moved, RelocateReport

routes = Routes("media")

SHOWN = 1000
"""Findings that an answer names; the report counts all of them."""
RecordingId = Annotated[Text, Field(min_length=1, max_length=MAX_ID_LENGTH)]
Folder = Annotated[Text, Field(min_length=1, max_length=4096)]


class FilesLook(Given):
    """Whose files are looked at: all, a library's, or one recording's. `deep` opens them too."""

    library: LibraryName | None = None
    recording: RecordingId | None = None
    deep: bool = False


class Relocate(Said):
    """The folder or file as it was, and where it is now."""

    old: Folder
    new: Folder
    library: LibraryName | None = None


class Accept(Said):
    """Recordings whose changed file is right; or all of them."""

    recordings: Annotated[list[RecordingId], Field(max_length=10_000)] = Field(default_factory=list)
    all_changed: bool = False
    library: LibraryName | None = None

    @model_validator(mode="after")
    def _which(self) -> Accept:
        if bool(self.recordings) == self.all_changed:
            raise ValueError("give either recordings or all_changed")
        return self


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, and the first files that are not right."""

    report: FileCheck
    wrong: tuple[FileFinding, ...]


@dataclass(frozen=True, slots=True)
class Relocated:
    """What was moved, and the first recordings that were refused."""

    report: RelocateReport
    refused: tuple[FileChange, ...]


@dataclass(frozen=True, slots=True)
class AcceptedFiles:
    """What was accepted, and the first recordings that were refused."""

    report: AcceptReport
    refused: tuple[FileChange, ...]


@routes.post("/media/check", Role.OPERATOR, "media check", response_model=Checked, responses=ACCEPTED)
async def check_media(
    given: FilesLook, request: Request, db: Library, wait: Wait = 30, operation: OperationId = None
) -> Any:
    """Look at the recordings' files: missing, changed, unreadable, or outside the media roots. Changes nothing."""

    def run() -> Checked:
        wrong: list[FileFinding] = []

        def note(found: FileFinding) -> None:
            if found.wrong and len(wrong) < SHOWN:
                wrong.append(found)

        report = db.files.check(library_name=given.library, recording=given.recording, deep=given.deep, on_finding=note)
        return Checked(report, tuple(wrong))

    return await at_length(request, "media check", given.model_dump(), run, wait=wait, operation_id=operation)


@routes.post("/media/relocate", Role.OPERATOR, "media relocate", response_model=Relocated, responses=ACCEPTED)
async def relocate_media(
    given: Relocate,
    request: Request,
    db: Library,
    dry_run: DryRun = False,
    wait: Wait = 30,
    operation: OperationId = None,
) -> Any:
    """The files were moved, to a place below a media root: each is compared with its fingerprint first."""
    wanted = Path(os.path.realpath(given.new))  # unlike `resolve`, it raises nothing for links in a circle
    if not any(wanted.is_relative_to(root.resolve()) for root in db.settings.media_roots):
        raise MediaForbidden("Over HTTP, files are looked for only below a media root.", hint="Set `media_roots`.")

    def run() -> Relocated:
        refused: deque[FileChange] = deque()
        with because(given.why):
            report = db.files.relocate(
                given.old, given.new, library_name=given.library, dry_run=dry_run,
                on_change=lambda change: _keep(refused, change),
            )  # fmt: skip
        return Relocated(report, tuple(refused))

    asked = (given.model_dump(), dry_run)
    return await at_length(request, "media relocate", asked, run, wait=wait, operation_id=operation)


@routes.post("/media/accept", Role.OPERATOR, "media accept", response_model=AcceptedFiles, responses=ACCEPTED)
async def accept_media(
    given: Accept,
    request: Request,
    db: Library,
    dry_run: DryRun = False,
    wait: Wait = 30,
    operation: OperationId = None,
) -> Any:
    """Files were changed and their turns still fit: take them as they are, and extract their recordings again."""
    if given.library is not None and not given.all_changed:
        raise InvalidInput("A library goes with `all_changed`.")

    def run() -> AcceptedFiles:
        refused: deque[FileChange] = deque()
        with because(given.why):
            report = db.files.accept(
                given.recordings, all_changed=given.all_changed, library_name=given.library, dry_run=dry_run,
                on_change=lambda change: _keep(refused, change),
            )  # fmt: skip
        return AcceptedFiles(report, tuple(refused))

    asked = (given.model_dump(), dry_run)
    return await at_length(request, "media accept", asked, run, wait=wait, operation_id=operation)


def _keep(refused: deque[FileChange], change: FileChange) -> None:
    if change.outcome is Moved.REFUSED and len(refused) < SHOWN:
        refused.append(change)
