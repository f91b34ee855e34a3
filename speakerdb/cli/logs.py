"""What a service writes to standard error: a line a record, as text or as JSON, without secrets.

A record is a static event and fields (``job-failed job=%s code=%s``), so a line of JSON has them as they are: nobody has to
take a sentence apart.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from typing import Any

from speakerdb.core.redaction import without_secrets
from speakerdb.settings import TOKEN_VARIABLES

_TEMPLATE = re.compile(r"[a-z][a-z0-9-]*(?: \w+=%[-+ #0-9.]*[a-zA-Z])*")
_FIELD = re.compile(r" (\w+)=%")
OTHER = "message"
"""The event of a line that another program's library wrote; `text` holds it."""


def begin(*, as_json: bool) -> None:
    """From here on what speakerdb logs goes to standard error, and of others what is a warning or worse."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    ours = logging.getLogger("speakerdb")
    if ours.getEffectiveLevel() > logging.INFO:
        ours.setLevel(logging.INFO)


class TextLines(logging.Formatter):
    """One line a record, in UTC."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(without_secrets(super().format(record), _secrets()).splitlines())


class JsonLines(logging.Formatter):
    """One JSON object a record: `time` (UTC), `level`, `logger`, `event`, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found: dict[str, Any] = {
            "time": f"{at}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "logger": record.name,
        }  # fmt: skip
        found |= self._said(record)
        if record.exc_info is not None and record.exc_info[0] is not None:
            found["error"] = record.exc_info[0].__name__
        return json.dumps(found, ensure_ascii=False)

    def _said(self, record: logging.LogRecord) -> dict[str, Any]:
        template, args = str(record.msg), record.args if isinstance(record.args, tuple) else ()
        names = _FIELD.findall(template)
        if not _TEMPLATE.fullmatch(template) or len(names) != len(args):
            return {"event": OTHER, "text": without_secrets(record.getMessage(), _secrets())}
        return {"event": template.partition(" ")[0]} | {
            name: value if isinstance(value, bool | int | float) else without_secrets(str(value), _secrets())
            for name, value in zip(names, args, strict=True)
        }


def _secrets() -> list[str]:
    return [value for name in TOKEN_VARIABLES if (value := os.environ.get(name, "").strip())]
