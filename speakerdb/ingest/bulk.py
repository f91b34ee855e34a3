"""Bringing in a whole library: parts of some hundred recordings, looked at ahead in threads, each part one transaction.

What is held does not grow with the library, but for eight bytes' worth of memory of each id and path that was seen.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import IO

from speakerdb.catalog import journal
from speakerdb.catalog.catalog import Catalog
from speakerdb.errors import BackendError, DuplicateEntry, InvalidInput
from speakerdb.ingest.entries import Ready, Refused
from speakerdb.ingest.looking import Looking
from speakerdb.ingest.sources import Entry, Sources, refused_line
from speakerdb.ingest.writing import PartWriter, Written
from speakerdb.opener import Opener
from speakerdb.reports import AddOutcome
from speakerdb.reports.intake import IntakeEvent, IntakeReport, OnIntake, RefusedEntry

PART_RECORDINGS = 256
PART_BYTES = 8 * 1024 * 1024
"""Of the texts with turns in a part; one recording may have more."""
THREADS = 2
AHEAD = 3
"""Parts that are looked at before they are written."""
ATTEMPTS = 3
"""How often a part is written where the database is busy."""
SAMPLE = 100


class Bulk:
    """One run."""

    def __init__(
        self, catalog: Catalog, looking: Looking, opener: Opener, who: str, *, dry_run: bool, refused: RefusedFile
    ) -> None:
        self._catalog = catalog
        self._looking = looking
        self._opener = opener
        self._who = who
        self._dry_run = dry_run
        self._refused_file = refused
        self._seen: set[int] = set()
        self._would_make: set[tuple[str, str]] = set()
        self._counts: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._sample: list[RefusedEntry] = []

    def run(self, sources: Sources, on_event: OnIntake, stop: Callable[[], bool]) -> IntakeReport:
        """Bring everything in; what was written before an error stays."""
        begun = time.monotonic()
        stopped = False
        with self._refused_file, ThreadPoolExecutor(THREADS, "speakerdb-intake") as pool:
            ahead: deque[Future[list[Ready | Refused]]] = deque()
            parts = iter(_parts(sources.entries()))
            try:
                while not (stopped := stop()):
                    while len(ahead) < AHEAD and (part := next(parts, None)) is not None:
                        ahead.append(pool.submit(self._looking.part, part, self._opener.open))
                    if not ahead:
                        break
                    self._settle(ahead.popleft().result())
                    on_event(self._event(time.monotonic() - begun))
            finally:
                self._opener.close()  # first: a file that hangs would be waited for
                pool.shutdown(cancel_futures=True)
            self._refused_file.complete = not (stopped or self._dry_run)
        if not self._dry_run:
            self._record()
        return self._report(sources, stopped, time.monotonic() - begun)

    def _settle(self, part: list[Ready | Refused]) -> None:
        """Write a part, and count it."""
        once = [self._only_once(each) for each in part]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                done = self._write(once)
                break
            except BackendError as error:
                # The whole part was taken back. The database itself has waited before it said that it is busy.
                if not error.transient or attempt == ATTEMPTS:
                    raise
        for each in done:
            self._count(each)

    def _write(self, part: list[Ready | Refused]) -> list[Written | Refused]:
        if not any(isinstance(each, Ready) for each in part):
            return [each for each in part if isinstance(each, Refused)]
        with self._catalog.read() if self._dry_run else self._catalog.change() as tx:
            writer = PartWriter(tx, self._who, self._catalog.now(), dry_run=self._dry_run, would_make=self._would_make)
            return writer.write_all(part)

    def _only_once(self, each: Ready | Refused) -> Ready | Refused:
        if isinstance(each, Refused):
            return each
        for what, text in (("id", each.given.recording_id), ("file", each.path)):
            if text is not None and _mark(what, text) in self._seen:
                error = DuplicateEntry(f"An entry before this one has the {what} {text} too.")
                return Refused(each.given.where, each.given.raw, error)
        for what, text in (("id", each.given.recording_id), ("file", each.path)):
            if text is not None:
                self._seen.add(_mark(what, text))
        return each

    def _count(self, done: Written | Refused) -> None:
        if isinstance(done, Refused):
            error = done.error
            self._counts["refused"] += 1
            self._codes[error.code] += 1
            self._refused_file.write(done)
            if len(self._sample) < SAMPLE:
                where, message, hint = (_text(text) for text in (done.where, error.message, error.hint))
                self._sample.append(RefusedEntry(where, error.code, message, hint, error.exit_code))
            return
        self._seen.add(_mark("id", done.report.recording_id))
        self._counts[done.report.outcome.value] += 1
        if done.report.outcome is not AddOutcome.UNCHANGED:
            self._counts["turns"] += done.report.turns
        for name in ("named", "kept", "profiles_made", "retried"):
            self._counts[name] += int(getattr(done, name))
        self._counts["without_speaker"] += done.without_speaker
        self._counts["to_diarize"] += done.to_diarize

    def _record(self) -> None:
        count = self._counts
        if not any(count[name] for name in ("added", "changed", "named", "retried")):
            return  # a run that changed nothing leaves nothing
        with self._catalog.change() as tx:
            journal.record(
                tx, "library-brought-in", self._who, self._catalog.now(),
                added=count["added"], changed=count["changed"], unchanged=count["unchanged"], refused=count["refused"],
                named=count["named"], retried=count["retried"],
            )  # fmt: skip

    def _event(self, elapsed: float) -> IntakeEvent:
        added, changed, unchanged, refused = (self._counts[n] for n in ("added", "changed", "unchanged", "refused"))
        return IntakeEvent(added + changed + unchanged + refused, added, changed, unchanged, refused, elapsed)

    def _report(self, sources: Sources, stopped: bool, seconds: float) -> IntakeReport:
        counts = self._counts
        return IntakeReport(
            dry_run=self._dry_run,
            stopped=stopped,
            added=counts["added"],
            changed=counts["changed"],
            unchanged=counts["unchanged"],
            refused=counts["refused"],
            refused_by_code=dict(self._codes.most_common()),
            turns=counts["turns"],
            to_diarize=counts["to_diarize"],
            without_speaker=counts["without_speaker"],
            named=counts["named"],
            kept=counts["kept"],
            profiles_made=counts["profiles_made"],
            retried=counts["retried"],
            left_out=dict(sources.left_out),
            seconds=seconds,
            refused_file=self._refused_file.written,
            sample=tuple(self._sample),
        )


class RefusedFile:
    """The manifest of refused entries. It takes its name at the end, so the file that is fed may be the one that is written.

    Where that run did not come to its end, or was a dry run, what is fed stays: it holds entries that nobody brought in.
    The refused ones are then written beside it, as NAME.refused.jsonl. Only the owner may read it: names of people
    stand in it.
    """

    complete = False
    """Whether every entry was brought in or refused."""

    def __init__(self, path: Path | None, given: Sequence[Path] = ()) -> None:
        """`given` is what is brought in. `InvalidInput` for a name that would not be read as JSON Lines, and for a path that
        is there and no regular file: a device, a folder."""
        if path is not None and path.suffix.lower() not in (".jsonl", ".ndjson"):
            raise InvalidInput(
                f"The refused entries cannot be written to {path}: they are JSON Lines.",
                hint="Give `--refused` a name that ends in .jsonl, so that it can be added again.",
            )
        if path is not None and path.exists() and not path.is_file():
            raise InvalidInput(f"The refused entries cannot be written to {path}: it is not a regular file.")
        self._path = path
        self._is_fed = path is not None and path.resolve() in [each.resolve() for each in given]
        self._file: IO[str] | None = None
        self.written: str | None = None

    def write(self, refused: Refused) -> None:
        """Add an entry."""
        if self._path is None:
            return
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = self._path.with_name(self._path.name + ".partial")
            descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._file = open(descriptor, "w", encoding="utf-8")  # noqa: SIM115  closed with the run
        self._file.write(json.dumps(refused_line(refused.raw, refused.error, refused.where)) + "\n")

    def __enter__(self) -> RefusedFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None and self._path is not None:
            self._file.close()
            beside = self._is_fed and not self.complete
            path = self._path.with_stem(self._path.stem + ".refused") if beside else self._path
            os.replace(self._partial, path)
            self.written = str(path)


def _parts(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries in parts, each bounded in number and in the text of its turns."""
    part: list[Entry] = []
    weight = 0
    for entry in entries:
        part.append(entry)
        weight += entry.weight
        if len(part) >= PART_RECORDINGS or weight >= PART_BYTES:
            yield part
            part, weight = [], 0
    if part:
        yield part


def _mark(what: str, text: str) -> int:
    """A number in a text's place: a million of them take a fifth of the memory."""
    return int.from_bytes(blake2b(f"{what}\0{text}".encode("utf-8", "replace"), digest_size=8).digest())


def _text(text: str) -> str:
    """A text that can be shown and sent: names of files need not be text."""
    return text.encode("utf-8", "replace").decode()
