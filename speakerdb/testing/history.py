"""What many actors asked, what they were told, and what was seen meanwhile: files that survive `kill -9`.

An `Actor` (a process, or a thread of one) has a file of its own. It writes down what it is about to ask, then asks, then what
it was told: one JSON object a line, handed to the system before it goes on. So a process that is killed leaves an operation
without an answer, which may have happened or not, and never one that happened and was not written down.

Instants are nanoseconds of this machine's monotonic clock, which all processes share and nobody sets.
`history_check` proves what must be true of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from speakerdb.errors import BackendError, LeaseLost, SpeakerDBError

Answer: TypeAlias = Literal["acknowledged", "refused", "unknown", "broken"]
"""Done; not done; either of the two, as a whole; an error that no caller should ever meet."""
ENDLESS = 2**63
"""The end of an operation whose answer is unknown: it may take effect for as long as anybody runs."""
UNFORESEEN = "internal"
Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """Something that was asked, of which `args` say what exactly; and what was `told`, where an answer came."""

    actor: str
    number: int
    op: str
    args: Values
    begin: int
    end: int = ENDLESS
    answer: Answer = "unknown"
    code: str | None = None
    told: Values = field(default_factory=dict)
    lasting: bool = False
    """Without an answer it may still be done by somebody else, after its actor is gone."""

    def __str__(self) -> str:
        what = " ".join(f"{name}={value}" for name, value in self.args.items())
        return f"{self.op} {what} [{self.actor} {self.number}, {self.answer}{f' {self.code}' if self.code else ''}]"


@dataclass(frozen=True)
class Sample:
    """What stood in SQL (at one point in time) and in the index, read between two instants. See `chaos.looking`.

    `sql`: `recordings` (id: [created_at, content_version, {label: seconds}]), `speakers` (id: [recording, label, name,
    profile]), `profiles` (id: [name, merged_into]), `migration` ([id, state, source, target], or None), `loose` (what belongs
    to nothing), `undone` (what lacks its other half). `aliases`: what each names, read after SQL; `migration_after` is read
    after them. `documents`: of the last sample only, by generation the living ones of its index.
    """

    begin: int
    end: int
    sql: Values
    aliases: Mapping[str, list[str]]
    migration_after: list[Any] | None
    documents: Mapping[str, list[str]] | None = None


@dataclass(frozen=True)
class Commit:
    """A commit that was made under a lease: under which epoch, and who held the lease then, under which. See `chaos.audit`.

    `what` says of what kind it was; `claimed` is the epoch that the writer worked under, None where what was written does not
    say; a `what` that ends with `-back` or `-vanished` was never to happen at all.
    """

    what: str
    subject: str
    claimed: int | None
    epoch: int | None
    holder: str | None


@dataclass(frozen=True)
class History:
    """Everything that is known of one library's life."""

    operations: list[Operation]
    samples: list[Sample]
    commits: list[Commit]


class Actor:
    """Writes the history of one actor. Not for two threads at once."""

    def __init__(self, folder: Path, name: str, *, lasting: bool = False) -> None:
        """`lasting`: others do what it asks for, and may go on when it has given up."""
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._more = {"lasting": True} if lasting else {}
        self._file: IO[str] = (folder / f"{name}.jsonl").open("a", encoding="utf-8")
        self._number = 0

    def ask(self, op: str, act: Callable[[], object], **args: Any) -> Answer:
        """Do it, with what is asked and what is told (a dict that it returns) written down; how it was answered.

        A refusal is an error that says that nothing was done; a back end that does not answer says nothing.
        """
        self._number += 1
        self._write({"n": self._number, "at": now(), "op": op, "args": args} | self._more)
        code = None
        told: Values = {}
        try:
            returned = act()
            told = returned if isinstance(returned, dict) else {}
            answer: Answer = "acknowledged"
        except (BackendError, LeaseLost) as error:
            answer, code = "unknown", error.code
        except SpeakerDBError as error:
            answer, code = "refused", error.code
        except Exception as error:  # noqa: BLE001  what nobody foresaw is a violation, and is judged with the others
            answer, code = "broken", f"{UNFORESEEN}: {type(error).__name__}: {error}"
        self._write({"n": self._number, "at": now(), "answer": answer, "code": code, "told": told})
        return answer

    def _write(self, entry: Values) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()


def now() -> int:
    """This machine's monotonic clock, in nanoseconds."""
    return time.monotonic_ns()


def operations(folder: Path) -> list[Operation]:
    """What every actor wrote, in the order in which it was begun."""
    found = [each for path in folder.glob("*.jsonl") for each in _of(path)]
    return sorted(found, key=lambda operation: operation.begin)


def _of(path: Path) -> Iterable[Operation]:
    begun: dict[int, Operation] = {}
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # it was killed while it wrote: what it would have said is unknown
        entry = json.loads(line)
        number = entry["n"]
        if "op" in entry:
            lasting = entry.get("lasting", False)
            begun[number] = Operation(path.stem, number, entry["op"], entry["args"], entry["at"], lasting=lasting)
            continue
        sure = entry["answer"] in ("acknowledged", "refused")
        begun[number] = replace(
            begun[number],
            end=entry["at"] if sure else ENDLESS,
            answer=entry["answer"],
            code=entry["code"],
            told=entry["told"],
        )
    return begun.values()
