"""One run of the command line: its global options, where it prints, and how it opens the library.

Nothing here imports the service (and with it torch and SQLAlchemy) before a command needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from speakerdb.cli.output import clean, console_for, document
from speakerdb.errors import ConfigurationError, IndexUnavailable, NotConfirmed

if TYPE_CHECKING:
    from speakerdb.cli.logfile import LogFile
    from speakerdb.service import SpeakerDB
    from speakerdb.settings import Settings

T = TypeVar("T")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
MAX_COUNT = 2**63 - 1
"""A database counts no further."""
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
WhyOption = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Why; kept in the events.")]
WORK_HINT = "next: `speakerdb work` brings profiles and index up to date."


@dataclass
class Session:
    """Global options and output of one command. `stdout` is the real one: with `--json` nothing else writes there.

    `error` is what ended the command, for its log.
    """

    stdout: IO[str]
    json: bool = False
    data_dir: Path | None = None
    config: Path | None = None
    verbose: bool = False
    verb: str = ""
    error: BaseException | None = None
    _log: LogFile | None = None
    _began: float = 0.0
    _ended: ExitStack = field(default_factory=ExitStack)
    """What ends with the command: that the events say that it was done here."""

    @classmethod
    def of(cls, context: typer.Context, as_json: bool | None = None) -> Session:
        """The session of a running command; called first in every command."""
        session = context.obj
        if not isinstance(session, Session):
            raise TypeError("the command was not started by speakerdb.cli.main")
        session.verb = context.command_path.removeprefix("speakerdb").strip()
        if as_json is not None:
            session.json = as_json
        return session

    @property
    def out(self) -> Console:
        """Where results go."""
        return console_for(self.stdout)

    @property
    def err(self) -> Console:
        """Where progress, questions and messages go."""
        return console_for(sys.stderr)

    def settings(self) -> Settings:
        """Settings with the global options applied. `ConfigurationError` when they cannot be read."""
        from speakerdb.settings import load_settings

        if self.config is not None:
            if not self.config.is_file():
                raise ConfigurationError(
                    f"There is no settings file {self.config}.", hint="Give `--config` a TOML file."
                )
            os.environ["SPEAKERDB_CONFIG"] = str(self.config)
        overrides = {} if self.data_dir is None else {"data_dir": self.data_dir}
        try:
            return load_settings(**overrides)
        except ValueError as error:  # malformed TOML, or a variable that should have been JSON
            raise ConfigurationError(f"The settings cannot be read: {error}.") from error

    def open(
        self, *, start: bool = True, by: Callable[[Callable[[], SpeakerDB]], SpeakerDB] = lambda act: act()
    ) -> SpeakerDB:
        """The library. Use it as a context manager. From here on the command is logged in the data folder. Without `start`
        an existing index is left as it is, whatever it is. What asks servers, and may wait for them, is done `by`."""
        settings = self.settings()
        self._begin_log(settings.data_dir)
        from speakerdb.catalog.journal import Actor, acting

        self._ended.enter_context(acting(Actor(source="cli")))
        db = by(lambda: open_service(settings) if start else open_service(settings, start=False))
        from speakerdb.cli.logfile import log_began

        log_began(self.verb)
        return db

    def look(self) -> SpeakerDB:
        """The library, for who only looks at the database: also while the index cannot be asked, as `status` then says."""
        try:
            return self.open()
        except IndexUnavailable:
            return self.open(start=False)

    def _begin_log(self, folder: Path) -> None:
        from speakerdb.cli.logfile import LogFile

        if self._log is None:
            self._log, self._began = LogFile(folder), monotonic()
            self._log.begin()

    def end_log(self, exit_code: int) -> None:
        """The command is over. Fine where nothing was logged."""
        self._ended.close()
        if self._log is not None:
            from speakerdb.cli.logfile import log_ended

            log_ended(self.verb, exit_code, monotonic() - self._began, self.error)
            self._log.end()
            self._log = None

    def result(self, value: T, show: Callable[[Console, T], None]) -> None:
        """The command's answer: as one JSON document, or by `show` as text."""
        if self.json:
            self.stdout.write(document(value) + "\n")
        else:
            show(self.out, value)
        self.stdout.flush()

    def show(self, show: Callable[[Console], None]) -> None:
        """Something to read before the answer: on standard output as text, on standard error beside JSON."""
        show(self.err if self.json else self.out)

    def note(self, text: str) -> None:
        """A message for a person, on standard error."""
        self.err.print(clean(text), soft_wrap=True)

    def check_terminal(self) -> None:
        """`NotConfirmed` where nobody can be asked; called before anything costly that only serves the question."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise NotConfirmed("This needs a confirmation, and there is no terminal to ask on.", hint="Pass `--yes`.")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask on the terminal. `NotConfirmed` on anything but yes, and where nobody can be asked."""
        if yes:
            return
        self.check_terminal()
        self.err.print(f"{clean(question)} [y/N] ", end="")
        answer = sys.stdin.readline()
        if answer.strip().lower() not in {"y", "yes"}:
            raise NotConfirmed("Not confirmed; nothing was changed.")


def open_service(settings: Settings, *, start: bool = True) -> SpeakerDB:
    """The composition root, imported only now."""
    from speakerdb.service import SpeakerDB

    return SpeakerDB.open(settings, start=start)


def upgrade_schema(settings: Settings) -> str:
    """The schema revision after an upgrade; no library is opened."""
    from speakerdb.service import SpeakerDB

    return SpeakerDB.upgrade(settings)
