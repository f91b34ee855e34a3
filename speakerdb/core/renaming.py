"""Labels of a recording that was diarized again: whoever was there keeps the old one. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def labels_for(found: Iterable[str], old_label: Mapping[str, str], taken: Iterable[str]) -> dict[str, str]:
    """A label for each new one. `old_label` has those of the new speakers that were there before.

    No two are the same, and nobody new gets a label that somebody of `taken` had: it would look like that one.
    """
    used = {*taken, *old_label.values()}
    labels: dict[str, str] = {}
    number = 0
    for each in found:
        label = old_label.get(each, each)
        if each not in old_label:
            while label in used:
                label = f"SPEAKER_{number:02d}"
                number += 1
        used.add(label)
        labels[each] = label
    return labels
