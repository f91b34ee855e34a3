"""What lies in the index, as of one moment: its concrete indices and its aliases, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from speakerdb.migrator.swap import TOKEN_PREFIX
from speakerdb.types import SERVING_ALIAS, Generation, IndexInfo


@dataclass(frozen=True, slots=True)
class Layout:
    """The concrete indices by name, and the targets of each alias."""

    infos: Mapping[str, IndexInfo]
    aliases: Mapping[str, tuple[str, ...]]

    def current(self, generation: Generation) -> str:
        """The concrete index that is kept current for a generation: the one its write alias names, else the one that
        would be made for it."""
        return current_in(self.aliases, generation)

    def misled(self, generation: Generation) -> str | None:
        """What is wrong with the aliases of a live generation whose index is there: somebody moved one by hand. None where
        nothing is."""
        own = {name for name, info in self.infos.items() if info.metadata == mark_of(generation)}
        written, serving = self.aliases.get(generation.write_alias, ()), self.aliases.get(SERVING_ALIAS, ())
        if not (own or written):
            return None
        if len(written) != 1 or written[0] not in own:
            named = " and ".join(written) or "nothing"
            return f"The alias {generation.write_alias!r} names {named}; it must name one index of {generation.name}."
        if serving != written and own.issuperset(serving) and serving:
            return f"The alias {SERVING_ALIAS!r} names {serving[0]}, and what is new is written to {written[0]}."
        return None

    def left_over(self, generations: Iterable[Generation], live: Container[str]) -> dict[str, str]:
        """Concrete indices of ours that nothing needs, and whose they are: of a generation that is not live, or beside the
        one that its write alias names; never one that another alias names. What was removed may still be in them.

        What the holder of the migration's lease is making may be among them.
        """
        generations = tuple(generations)
        ours = {generation.write_alias for generation in generations}
        named = {
            name for alias, targets in self.aliases.items() for name in targets
            if alias not in ours and not alias.startswith(TOKEN_PREFIX)
        }  # fmt: skip
        found = {}
        for generation in generations:
            written = self.aliases.get(generation.write_alias, ())
            if generation.name in live and len(written) != 1:
                continue  # which of them is the one, a rebuild finds out
            kept = {*named, *written} if generation.name in live else named
            marked = mark_of(generation)
            # By its name too: where prefixes of two installations begin alike, another's index may bear the same mark.
            for name, info in self.infos.items():
                mine = f"{name}.".startswith(f"{generation.index_name}.")
                if mine and info.metadata == marked and name not in kept:
                    found[name] = generation.name
        return found


def mark_of(generation: Generation) -> Mapping[str, str]:
    """What marks an index as this generation's."""
    return {"generation": generation.name, "fingerprint": generation.fingerprint}


def current_in(aliases: Mapping[str, tuple[str, ...]], generation: Generation) -> str:
    """The concrete index that is kept current for a generation, by what the aliases name."""
    targets = aliases.get(generation.write_alias, ())
    return targets[0] if len(targets) == 1 else generation.index_name
