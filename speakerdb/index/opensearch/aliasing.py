"""Alias changes as one `_aliases` request that means what our actions mean, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speakerdb.errors import AliasMoved, BackendError, IndexExists, IndexMissing, IndexUnavailable, InvalidInput
from speakerdb.index.opensearch.client import Client
from speakerdb.index.opensearch.refusals import Refusal
from speakerdb.types import AliasAction

_LATE_HINT = "It may still be carried out. See `speakerdb status` for what serves, then run it again."


def change(client: Client, actions: Sequence[AliasAction]) -> None:
    """See the port's `update_aliases`."""
    changes = _net(client, actions)
    # What is added and taken back again is in no request; it must name an index all the same.
    added = {(client.made(each.alias), client.wired(each.index)) for each in actions if each.verb == "add"}
    taken_back = {index for alias, index in added if "add" not in changes[alias, index][-1]}
    if taken_back and (absent := taken_back - client.concrete().keys()):
        raise IndexMissing(f"There is no index {', '.join(map(client.ours, sorted(absent)))} to give an alias.")
    while changes:
        try:
            _send(client, [each for pair in changes.values() for each in pair])
        except Refusal as refusal:
            if refusal.kind != "index_not_found_exception" and refusal.status != 400:
                raise refusal.translated("Changing aliases") from refusal
            # An answer that nothing was done. What need not be there may be left out of another request.
            gone = _absent(client, changes)
            if not gone:
                raise refusal.translated("Changing aliases") from refusal
            _refuse(gone, changes, refusal)
            for key in gone:
                del changes[key]
        else:
            return


def drop_with_token(client: Client, index: str, token: str) -> None:
    """Remove an index (a name on the wire) only if the alias `token` names it. `AliasMoved` otherwise.

    OpenSearch carries a `remove_index` out before all else, so a condition on that index itself can never be met in the
    same request. So the token is moved to an index without documents first (`Client.token_place`), and then removed from
    there and the index with it. Whoever takes the token away in between, as every successor does, stops a late request.
    """
    refused = AliasMoved(f"The alias {token!r} does not name the index {client.ours(index)!r}; nothing was dropped.")
    alias, place = client.wire(token), client.token_place
    if alias is None:
        raise refused
    try:
        _make(client, place)
        _send(client, [_remove(alias, index, must_exist=True), {"add": {"alias": alias, "index": place}}])
        _send(client, [_remove(alias, place, must_exist=True), {"remove_index": {"index": index}}])
    except Refusal as refusal:
        if refusal.kind in ("aliases_not_found_exception", "index_not_found_exception"):
            raise refused from refusal
        raise refusal.translated(f"Removing the index {client.ours(index)}") from refusal


def _make(client: Client, place: str) -> None:
    # One copy more where there is a node for it: the loss of a node would leave the index red.
    settings = {"number_of_shards": 1, "auto_expand_replicas": "0-1"}
    try:
        client.send("PUT", f"/{place}", {"settings": settings, "mappings": {"dynamic": "strict"}})
    except Refusal as refusal:
        if refusal.kind != "resource_already_exists_exception":
            raise


def _send(client: Client, actions: Sequence[Mapping[str, Any]]) -> None:
    """One request, never sent twice: a second one could undo what somebody did in between."""
    try:
        answer = client.send("POST", "/_aliases", {"actions": actions}, params=client.patience, repeat=False)
    except BackendError as error:
        raise type(error)(error.message, hint=f"{error.hint} {_LATE_HINT}", **error.details) from error
    if answer.get("acknowledged") is not True:
        raise IndexUnavailable("Not all nodes have taken over a change of aliases in time.", hint=_LATE_HINT)


def _net(client: Client, actions: Sequence[AliasAction]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What all actions come to, for each alias and index: what must be there before, and what is there afterwards.

    OpenSearch looks removals up in the state before the request, not in that after the actions before them.
    """
    changes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    present: dict[tuple[str, str], bool] = {}
    for action in actions:
        if action.verb not in ("add", "remove"):
            raise InvalidInput(f"An alias action is add or remove, not {action.verb!r}.")
        alias, index = client.wire(action.alias), client.wire(action.index)
        moved = AliasMoved(f"The alias {action.alias} does not name the index {action.index}.")
        if action.verb == "add":
            if index is None:
                raise IndexMissing(f"There is no index {action.index!r} to name {action.alias!r}.")
            if alias is None:
                raise IndexExists(f"{action.alias!r} cannot be an alias: it is empty or no name for OpenSearch.")
        elif alias is None or index is None:
            if action.must_exist:
                raise moved
            continue
        key = (str(alias), str(index))
        must_exist = action.verb == "remove" and action.must_exist
        if must_exist and present.get(key) is False:
            raise moved
        needed = [_remove(*key, must_exist=True)] if must_exist and key not in present else changes.get(key, [])[:1]
        needed = [each for each in needed if each.get("remove", {}).get("must_exist")]
        if action.verb == "add":
            changes[key] = [*needed, {"add": {"alias": key[0], "index": key[1]}}]
        else:
            changes[key] = needed or [_remove(*key, must_exist=False)]
        present[key] = action.verb == "add"
    return changes


def _remove(alias: str, index: str, *, must_exist: bool) -> dict[str, Any]:
    return {"remove": {"alias": alias, "index": index, "must_exist": must_exist}}


def _absent(client: Client, changes: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """The changes whose index is no concrete index."""
    concrete = client.concrete()
    return [key for key in changes if key[1] not in concrete]


def _refuse(
    gone: Sequence[tuple[str, str]], changes: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]], refusal: Refusal
) -> None:
    for key in gone:
        if any("add" in each for each in changes[key]):
            raise IndexMissing(f"There is no such index to give an alias: {refusal.reason}.") from refusal
        if any(each["remove"]["must_exist"] for each in changes[key]):
            raise AliasMoved(f"The index that an alias should name is gone: {refusal.reason}.") from refusal
