"""The log of the command line, `speakerdb.log` in the data folder: what ran, how it ended, and warnings.

A line is a static event and ``name=value`` fields. Arguments, names, paths and messages are not written: they are a
person's, and a log is handed on. It never fails a command, and is made only where a library was opened.
"""

from __future__ import annotations

import logging
import os
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from speakerdb import __version__
from speakerdb.core.redaction import places, without_secrets
from speakerdb.errors import SpeakerDBError
from speakerdb.models.hub import OLD_CACHE_VARIABLE
from speakerdb.settings import TOKEN_VARIABLES

LOG_NAME = "speakerdb.log"
MAX_BYTES = 2_000_000
KEPT = 2
"""Older files beside the newest one."""

logger = logging.getLogger("speakerdb.cli")


class LogFile(RotatingFileHandler):
    """The file. It is opened with the first line, and whatever fails about it is no command's business."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / LOG_NAME, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8", delay=True)
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        self._level_before = logging.getLogger("speakerdb").level

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: a full disk is told of by what the command itself does."""

    def begin(self) -> None:
        """Take what speakerdb's modules log."""
        root = logging.getLogger("speakerdb")
        self._level_before = root.level
        if root.getEffectiveLevel() > logging.INFO:
            root.setLevel(logging.INFO)
        root.addHandler(self)

    def end(self) -> None:
        """Take no more, and close the file."""
        root = logging.getLogger("speakerdb")
        root.removeHandler(self)
        root.setLevel(self._level_before)
        try:
            self.close()
        except OSError:
            self.stream = None


class _Formatter(logging.Formatter):
    """One line a record, in UTC, without secrets."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        secrets = [value for name in TOKEN_VARIABLES if (value := os.environ.get(name, "").strip())]
        text = without_secrets(super().format(record), secrets)
        return " ".join(text.splitlines())


def log_began(verb: str) -> None:
    """A library was opened for a verb."""
    logger.info("command-began verb=%s pid=%d version=%s", _word(verb), os.getpid(), __version__)
    if os.environ.get(OLD_CACHE_VARIABLE):
        logger.warning("old-model-cache error=%s", OLD_CACHE_VARIABLE)


def log_ended(verb: str, exit_code: int, seconds: float, error: BaseException | None) -> None:
    """The command came to its end. Of an error: its code, or where in speakerdb one arose that nobody foresaw."""
    if isinstance(error, SpeakerDBError):
        logger.warning(
            "command-ended verb=%s exit=%d seconds=%.1f code=%s", _word(verb), exit_code, seconds, error.code
        )
    elif error is not None:
        logger.error("unexpected-error verb=%s error=%s at=%s", _word(verb), type(error).__name__, places(error))
    else:
        logger.info("command-ended verb=%s exit=%d seconds=%.1f", _word(verb), exit_code, seconds)


def _word(verb: str) -> str:
    return verb.replace(" ", ".")
