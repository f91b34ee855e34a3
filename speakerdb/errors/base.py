"""The root of the error tree."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Scope = Literal["item", "recording", "run"]


class SpeakerDBError(Exception):
    """Something went wrong for which there is no class of its own.

    `hint` says what to do next; `details` is data for machines.
    """

    code: ClassVar[str] = "error"
    transient: ClassVar[bool] = False
    scope: ClassVar[Scope] = "run"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    default_hint: ClassVar[str] = "Read the message; it should have a code of its own, so please report it."

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.details = details

    def __reduce__(self) -> Any:
        # Errors cross process borders; keyword-only arguments need saying.
        return _rebuild, (type(self), self.message, self.hint, self.details)


def _rebuild(cls: type[SpeakerDBError], message: str, hint: str, details: dict[str, Any]) -> SpeakerDBError:
    return cls(message, hint=hint, **details)
