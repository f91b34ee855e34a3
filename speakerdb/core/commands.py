"""Commands that a person is advised to run: what somebody else chose stands in them as one word of a shell. No I/O."""

from __future__ import annotations

import shlex


def command(verb: str, *arguments: str, options: str = "") -> str:
    """``speakerdb VERB ARGUMENTS OPTIONS``, to be pasted into a POSIX shell.

    `options` are those that stand already, each with a space before it. Arguments of which one begins with a dash, as an option
    does, come last, after ``--``.
    """
    words = shlex.join(arguments)
    if any(each.startswith("-") for each in arguments):
        return f"speakerdb {verb}{options} -- {words}"
    return f"speakerdb {verb} {words}{options}"


def option(name: str, value: str) -> str:
    """An option (``--id``) with its value, and a space before it."""
    return f" {name}{'=' if value.startswith('-') else ' '}{shlex.quote(value)}"
