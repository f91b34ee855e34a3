"""The swap, and how an unfinished one is decided.

Three steps, each after the one before it is certain:

1. A one-time *token* alias is put on the index that will serve. Its name holds the lease's epoch, so it is put once.
2. The *intention* is committed to SQL, with the lease touched in the same transaction.
3. One alias change, all or nothing: remove the token (`must_exist`), move the serving alias.

Whoever resolves an unfinished intention takes the lease (so no older holder can commit an intention any more), removes
the token, and only then reads the alias: from then on the swap has happened or never will, however late a stopped process
or a timed-out request wakes. The token stands *before* the intention, so a holder that was stopped between the two and wakes
late cannot pass step 2, and no request that puts the token can still be on its way when the swap is sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from speakerdb.catalog.journal import MigrationRow
from speakerdb.core.lifecycle import State
from speakerdb.errors import SafetyStop
from speakerdb.index.port import VectorIndex
from speakerdb.types import AliasAction

TOKEN_PREFIX = "speakers-swap-"  # noqa: S105  an alias, not a secret


@dataclass(frozen=True, slots=True)
class Swap:
    """Move `alias` from one concrete index to another, under a one-time token."""

    alias: str
    token: str
    leaving: str
    entering: str

    @classmethod
    def of(cls, migration: MigrationRow, epoch: int, *, leaving: str, entering: str) -> Swap:
        return cls(migration.alias, f"{TOKEN_PREFIX}{migration.id}-{epoch}", leaving, entering)

    def put_token(self, index: VectorIndex) -> None:
        """Step 1. Must be acknowledged before the intention is written, and is never tried again."""
        index.update_aliases([AliasAction.add(self.token, self.entering)])

    def perform(self, index: VectorIndex) -> None:
        """Step 3. `AliasMoved` when the token or the alias is not where it must be; then nothing changed."""
        index.update_aliases(
            [
                AliasAction.remove(self.token, self.entering),
                AliasAction.remove(self.alias, self.leaving),
                AliasAction.add(self.alias, self.entering),
            ]
        )


def remove_tokens(index: VectorIndex) -> None:
    """Take away every token alias. Only the holder of the migration's lease may.

    Until none is seen: a drop in two requests moves its token, which may happen between our reading and our removal.
    """
    before: list[AliasAction] = []
    while (actions := _removals(index)) and actions != before:  # one on another's index stays
        index.update_aliases(actions)
        before = actions


def _removals(index: VectorIndex) -> list[AliasAction]:
    return [
        AliasAction.remove(alias, target, must_exist=False)
        for alias, targets in index.aliases().items()
        if alias.startswith(TOKEN_PREFIX)
        for target in targets
    ]


def has_happened(index: VectorIndex, migration: MigrationRow, *, source: str, target: str) -> bool:
    """Decide an intention whose token is gone: whether the alias names the index that it was to name.

    An alias that names nothing went with its index, which is then built again; as both are kept current until a
    migration's end, the index that served before the swap is a safe answer whether it had happened or not.
    `SafetyStop` when it names neither index: somebody else moved it, and a person must say what serves.
    """
    entering, leaving = (target, source) if migration.state is State.FINALIZING else (source, target)
    now = index.aliases().get(migration.alias, ())
    if now == (entering,):
        return True
    if now in ((leaving,), ()):
        return False
    raise SafetyStop(
        f"The alias {migration.alias!r} names {', '.join(now)}, and should name {leaving} or {entering}.",
        hint="Somebody moved it by hand; put it back on one of the two, then run this again.",
        targets=list(now),
    )
