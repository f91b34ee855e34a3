"""Looking at what was given, before anything is written: is the file there, may it be read, do its turns fit?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from speakerdb import media
from speakerdb.catalog import intake
from speakerdb.catalog.catalog import Catalog
from speakerdb.core.texts import MAX_ID_LENGTH, flaw
from speakerdb.core.turns import AWAITED, turns_digest, validate
from speakerdb.errors import InvalidInput, InvalidTurns, MediaChanged, MediaUnreadable, SpeakerDBError
from speakerdb.ingest.entries import MAX_SPEAKERS, MAX_TURNS, Given, Ready, Refused
from speakerdb.opener import open_files
from speakerdb.types import Fingerprint, MediaInfo


class Looking:
    """Opens media files and reads turns. Threads may share it; it writes nothing."""

    def __init__(self, catalog: Catalog, media_roots: Sequence[Path]) -> None:
        self._catalog = catalog
        self._media_roots = media_roots

    def one(self, given: Given) -> Ready:
        """One entry, whose file is opened in this process. Raises what makes it refused: `MediaError`, `InvalidInput` classes."""
        (found,) = self.part([given])
        if isinstance(found, Refused):
            raise found.error
        return found

    def part(
        self,
        entries: Iterable[Given | Refused],
        opened: Callable[[Sequence[Path]], Iterable[MediaInfo | SpeakerDBError]] = open_files,
    ) -> list[Ready | Refused]:
        """Some entries, in their order. `opened` opens files. Raises only what stops the whole run."""
        paths: list[tuple[Given | Refused, Path | None]] = [self._allowed(entry) for entry in entries]
        given = [(entry, path) for entry, path in paths if isinstance(entry, Given)]
        with self._catalog.read() as tx:
            lengths = intake.known_lengths(
                tx,
                [entry.recording_id for entry, _ in given if entry.recording_id is not None],
                [str(path) for _, path in given if path is not None],
            )
        marked = [self._marked(entry, path) for entry, path in paths]
        # The same bytes last as long as they did: only what is new is opened.
        new = {path: mark for _, path, mark in marked if path is not None and mark is not None and mark not in lengths}
        infos = dict(zip(new, opened(list(new)), strict=True))
        return [
            entry if isinstance(entry, Refused) else self._look(entry, path, mark, lengths, infos)
            for entry, path, mark in marked
        ]

    def _allowed(self, entry: Given | Refused) -> tuple[Given | Refused, Path | None]:
        """The entry with the real path of its file."""
        if isinstance(entry, Refused):
            return entry, None
        try:
            _check_id(entry.recording_id)
            if entry.path is None:
                return entry, None
            check_text(entry.path)
            real = media.check_allowed(entry.path, self._media_roots)
            check_text(real)
        except SpeakerDBError as error:
            return _refused(entry, error), None
        return entry, real

    @staticmethod
    def _marked(entry: Given | Refused, path: Path | None) -> tuple[Given | Refused, Path | None, Fingerprint | None]:
        """The same with the file's fingerprint."""
        if isinstance(entry, Refused) or path is None:
            return entry, path, None
        try:
            return entry, path, media.fingerprint(path)
        except SpeakerDBError as error:
            return _refused(entry, error), path, None

    def _look(
        self,
        given: Given,
        path: Path | None,
        fingerprint: Fingerprint | None,
        lengths: Mapping[Fingerprint, float | None],
        infos: Mapping[Path, MediaInfo | SpeakerDBError],
    ) -> Ready | Refused:
        try:
            seconds = given.seconds
            if path is not None and fingerprint is not None:
                info = infos.get(path)
                if isinstance(info, SpeakerDBError):
                    raise info
                seconds = lengths[fingerprint] if info is None else info.seconds
                if info is not None and media.fingerprint(path) != fingerprint:
                    raise MediaChanged(
                        f"{path} was replaced while it was read.", hint="Add it again when it is complete."
                    )
            if given.read_turns is None:
                return _awaiting(given, path, fingerprint, seconds)
            turns, without_speaker = given.read_turns()
            if len(turns) > MAX_TURNS:
                raise InvalidTurns(
                    f"The recording has {len(turns):,} turns; {MAX_TURNS:,} are allowed.",
                    hint="Are these the turns of one recording?",
                )
            checked = validate(turns, seconds)
            labels = {turn.speaker for turn in checked}
            if len(labels) > MAX_SPEAKERS:
                raise InvalidTurns(
                    f"The turns name {len(labels):,} speakers; {MAX_SPEAKERS:,} are allowed in one recording.",
                    hint="Is the speaker's label something else, such as a number of the turn?",
                )
            if unknown := sorted(set(given.said) - labels):
                raise InvalidInput(
                    f"There is no speaker {unknown[0]!r} in these turns.",
                    hint=f"They have: {', '.join(sorted(labels)[:20])}.",
                )
        except SpeakerDBError as error:
            if error.scope == "run":
                raise
            return _refused(given, error)
        return Ready(
            given,
            None if path is None else str(path),
            fingerprint,
            seconds,
            checked,
            turns_digest(checked),
            without_speaker,
        )


def _awaiting(given: Given, path: Path | None, fingerprint: Fingerprint | None, seconds: float | None) -> Ready:
    """A recording whose turns are yet to be found. `InvalidInput` where its speakers have names already."""
    if given.said:
        raise InvalidInput(
            "The recording came without turns, so nobody knows its speakers yet.",
            hint="Name them when they are found: `speakerdb speakers list --recording ID`.",
        )
    return Ready(given, None if path is None else str(path), fingerprint, seconds, (), AWAITED, 0)


def check_text(path: Path) -> None:
    """`MediaUnreadable` for a path that is not text: a database, and JSON, hold text."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode("utf-8", "replace").decode()
        raise MediaUnreadable(
            f"The name {shown} is not text in UTF-8.", hint="Rename the file or its folder."
        ) from error


def _refused(given: Given, error: SpeakerDBError) -> Refused:
    return Refused(given.where, given.raw, error)


def _check_id(recording_id: str | None) -> None:
    if recording_id is not None and (found := flaw(recording_id, MAX_ID_LENGTH)) is not None:
        raise InvalidInput(
            f"A recording's id {found}.", hint=f"Give it one of 1 to {MAX_ID_LENGTH} characters of text with `--id`."
        )
