"""What a cluster's answers mean that say no: the one place where they become errors of ours, by status and type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from speakerdb.errors import (
    AliasMoved,
    BackendError,
    IndexExists,
    IndexMissing,
    IndexUnavailable,
    SpeakerDBError,
    StorageFull,
)

TOO_BUSY = 429
"""It is there, and has more to do than it can."""
BUSY = frozenset({TOO_BUSY, 502, 503, 504})
"""Statuses that a later try may not meet."""


@dataclass(eq=False)
class Refusal(Exception):
    """The cluster answered, and did not do what it was asked.

    `kind` is the error's type in snake case (``index_not_found_exception``), empty where the answer has none; `name` the
    index it names, on the wire.
    """

    status: int
    kind: str
    reason: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.status} {self.kind}: {self.reason}"

    @property
    def passes(self) -> bool:
        """Whether the same may be answered otherwise a moment later. A block stands until somebody lifts it."""
        return self.status in BUSY and self.kind != "cluster_block_exception"

    def translated(self, what: str) -> SpeakerDBError:
        """The error of ours, by status and type. `what` was asked, as the beginning of a sentence."""
        said = f"{what}: OpenSearch answered {self.status} {self.kind or 'without a type'}"
        details: dict[str, Any] = {"status": self.status, "kind": self.kind}
        if self.kind in ("cluster_block_exception", "index_create_block_exception"):
            return _blocked(said, self, details)
        if self.kind in ("index_not_found_exception", "alias_not_found_exception"):
            return IndexMissing(f"{said} ({self.name or self.reason}).", **details)
        if self.kind == "aliases_not_found_exception":
            return AliasMoved(f"{said} ({self.reason}).", **details)
        if self.kind in ("resource_already_exists_exception", "invalid_alias_name_exception"):
            return IndexExists(f"{said} ({self.reason}).", **details)
        if self.kind == "index_closed_exception":
            return IndexUnavailable(f"{said}.", hint=_CLOSED_HINT, **details)
        if self.status in (401, 403):
            lacking = _PERMISSIONS.search(self.reason)
            named = f": this user has {lacking[0]}" if lacking else ""
            return IndexUnavailable(f"{said}{named}.", hint=_ACCESS_HINT, **details)
        if self.status in _REDIRECTIONS:
            return IndexUnavailable(f"{said}.", hint=_PROXY_HINT, **details)
        if self.status == 413:
            return IndexUnavailable(f"{said}.", hint=_SIZE_HINT, **details)
        reason = f" ({self.reason[:500]})" if self.reason else ""
        return IndexUnavailable(f"{said}{reason}.", hint=_BUSY_HINT if self.status in BUSY else None, **details)


_REDIRECTIONS = range(300, 400)
_PERMISSIONS = re.compile(r"no permissions for \[[^\]]*\]")
"""What the security plugin says of a user who may not do it; the rest of its sentence is about the user."""
_PROXY_HINT = (
    "A proxy answers in its place: let opensearch.hosts name the cluster itself, or let the proxy pass its answers on."
)
_ACCESS_HINT = (
    "Check opensearch.username and opensearch.password, and that this user may create, read, write and delete the indices"
    " and aliases of this installation."
)
_SIZE_HINT = "Lower opensearch.bulk_megabytes below the cluster's (or a proxy's) limit for one request."
_BUSY_HINT = "The cluster is overloaded or not whole: look at GET _cluster/health, then run it again."
_DISK_HINT = (
    "Make room on the disks of the cluster's nodes, or add a node: the block goes by itself. See GET _cat/allocation?v."
)
_CLOSED_HINT = "Somebody closed the index: open it with POST INDEX/_open."
_BLOCK_HINT = (
    "Somebody forbade it in the cluster: look for index.blocks.* in GET INDEX/_settings and cluster.blocks.* in"
    " GET _cluster/settings, and set them to null when their reason is gone. The cluster itself lets no index be made while"
    " the disks of all its nodes are too full: GET _cat/allocation?v."
)


def _blocked(said: str, refusal: Refusal, details: dict[str, Any]) -> BackendError:
    if (
        refusal.status == 429
    ):  # The one that the disk watermark sets; a person's blocks are 403, a cluster's state is 503.
        return StorageFull(f"{said}: a disk of the cluster is too full to write.", hint=_DISK_HINT, **details)
    if refusal.status == 503:
        return IndexUnavailable(f"{said} ({refusal.reason}).", hint=_BUSY_HINT, **details)
    return IndexUnavailable(f"{said} ({refusal.reason}).", hint=_BLOCK_HINT, **details)


def refusal_in(status: int, info: Any) -> Refusal:
    """What an error answer says, whatever its form."""
    error = info.get("error") if isinstance(info, dict) else None
    return refusal_of(status, error)


def refusal_of(status: int, error: Any) -> Refusal:
    """The same of the `error` of one item of an answer."""
    if not isinstance(error, dict):
        return Refusal(status, "", error[:500] if isinstance(error, str) else "")
    causes = error.get("root_cause")
    kind, reason, name = (str(error.get(key) or "") for key in ("type", "reason", "index"))
    # A search's error is one of all shards; what is wrong is said by its cause.
    if (
        kind == "search_phase_execution_exception"
        and isinstance(causes, list)
        and causes
        and isinstance(causes[0], dict)
    ):
        kind, reason = str(causes[0].get("type") or kind), str(causes[0].get("reason") or reason)
    return Refusal(status, kind, reason[:500], name)


def refuse_partial(index: str, answer: Mapping[str, Any]) -> None:
    """`IndexUnavailable` for an answer that lacks a part, whatever was asked for: it is never read as the whole."""
    shards = answer.get("_shards") or {}
    # `terminated_early` says nothing: a whole answer without hits and without a total bears it, too (tried).
    if answer.get("timed_out") or shards.get("failed"):
        raise IndexUnavailable(f"A part of the index {index} did not answer.", hint="Run it again.")
