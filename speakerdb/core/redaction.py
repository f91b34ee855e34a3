"""What may leave this machine in a log or a support bundle: words that speakerdb itself made, numbers, and hashes.

Nothing is searched for by what it looks like where that can be avoided: `Redactor.value` keeps only words that it knows,
and replaces every other text by a hash, so that a name it never heard of cannot slip through.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r"\b(?:hf|api|sdb|sk|ghp|glpat)[_-][A-Za-z0-9_-]{6,}|(?i:\bbearer\s+\S+)")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/@]*:\S*|[^\s/@]+)@")
"""A password may hold any character, also those that an address would have to escape."""
_PATH = re.compile(r"https://huggingface\.co/\S+|(?<![\w.<>-])(?:~|[A-Za-z]:)?[/\\].*")
"""A path may hold spaces, commas and quotes, so it ends where its line does. Addresses of models' pages are kept."""
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_OWN_ID = re.compile(r"[a-z]{3}_[0-9a-f]{20}")
_OWN_FRAME = re.compile(r"speakerdb(?:/\w+)*\.py:\d+")
_OPTION = re.compile(r"--[a-z-]{1,40}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the values in `secrets`, what looks like a token, and the passwords of addresses."""
    for secret in sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True):
        text = text.replace(secret, "<secret>")
    return _URL.sub(r"\1<secret>@", _TOKEN.sub("<secret>", text))


class Redactor:
    """Replaces what may be private, the same text always by the same hash of `key`.

    `words` are the texts that may be kept, `commands` those of which a command line may be made; `known` maps texts that
    are private to what stands for them (a folder, a user's name), longest first; `secrets` are values that never appear.
    """

    def __init__(
        self,
        key: bytes,
        words: Iterable[str],
        *,
        commands: Iterable[str] = (),
        known: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self._key = key
        self._words = frozenset(words)
        self._commands = frozenset(commands)
        self._known = sorted((known or {}).items(), key=lambda pair: len(pair[0]), reverse=True)
        self._secrets = tuple(secrets)

    def hashed(self, text: str, kind: str = "text") -> str:
        """What stands for a text: without the key, nobody can try out which text it was."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=6).hexdigest()
        return f"{kind}-{digest}"

    def value(self, value: Any) -> Any:
        """Plain data of reports, dicts, lists and numbers. The names of a dataclass's fields are ours and kept; keys of a
        mapping are data like any other text."""
        if is_dataclass(value) and not isinstance(value, type):
            return {f.name: self.value(getattr(value, f.name)) for f in fields(value)}
        if isinstance(value, Enum):
            return self.value(value.value)
        if isinstance(value, Mapping):
            return {self._word(str(k)): self.value(v) for k, v in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(v) for v in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return self._word(str(value))

    def _word(self, text: str) -> str:
        kept = not text or text in self._words or _OWN_ID.fullmatch(text) is not None or self._is_command(text)
        return text if kept else self.hashed(text)

    def _is_command(self, text: str) -> bool:
        """Whether a text is a command line of ours with nothing in it but verbs, options and known words."""
        first, *rest = text.split(" ")
        return first == "speakerdb" and all(
            part in self._commands or part in self._words or _OPTION.fullmatch(part) for part in rest
        )

    def sentence(self, text: str) -> str:
        """A sentence of speakerdb's own making: what is known as private in it, and what follows from a path on, is replaced."""
        for private, stands_for in self._known:
            if len(private) >= 3:
                text = text.replace(private, stands_for)
        text = without_secrets(text, self._secrets)
        return _PATH.sub(
            lambda found: found.group() if found.group().startswith("https:") else self.hashed(found.group(), "path"),
            text,
        )

    def message(self, text: str) -> str:
        """An error's message: a sentence in which what is quoted may be anybody's."""
        return _QUOTED.sub(
            lambda found: found.group() if found.group()[1:-1] in self._words else self.hashed(found.group()[1:-1]),
            self.sentence(text),
        )

    def log_line(self, line: str) -> str:
        """A line of the log: date, time, level, logger and event are kept, and ``name=value`` where both are ours."""
        parts = line.split()
        if len(parts) < 5 or _STAMP.fullmatch(" ".join(parts[:2])) is None or parts[2] not in _LEVELS:
            return self.hashed(line, "line")
        logger = parts[3] if parts[3] in LOGGERS else self.hashed(parts[3])
        event = parts[4] if parts[4] in LOG_EVENTS else self.hashed(parts[4])
        return " ".join((*parts[:3], logger, event, *map(self._log_part, parts[5:])))

    def _log_part(self, part: str) -> str:
        name, equals, text = part.partition("=")
        if not equals or name not in LOG_FIELDS:
            return self.hashed(part)
        kept = all(bit in self._words or _NUMBER.fullmatch(bit) or _OWN_FRAME.fullmatch(bit) for bit in text.split(","))
        return part if kept else f"{name}={self.hashed(text)}"


_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?")
_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
LOGGERS = frozenset({"speakerdb.cli", "speakerdb.models.pyannote", "speakerdb.models.registry"})
LOG_EVENTS = frozenset({"command-began", "command-ended", "old-model-cache", "cuda-not-used:", "unexpected-error"})
LOG_FIELDS = frozenset({"verb", "pid", "version", "exit", "code", "seconds", "error", "at"})
"""What the command line writes into its log; see `speakerdb.cli.logfile`."""


def places(error: BaseException) -> str:
    """The places in speakerdb's own code that an error went through, innermost last: all that a log may say of an error
    that nobody foresaw, because its words may hold a person's."""
    package = str(Path(__file__).parent.parent)
    found = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(package):
            inside = frame.filename[len(package) :].replace("\\", "/")
            found.append(f"speakerdb{inside}:{frame.lineno}")
    return ",".join(found[-8:])
