"""What a person should know of the cluster, in sentences."""

from __future__ import annotations

from speakerdb.index.foreign import COPY_PREFIX
from speakerdb.index.opensearch.client import Client

LOOK = "Look at GET _cluster/health and GET _cluster/allocation/explain."
_BLOCKS = {
    "index.blocks.read_only_allow_delete": "A disk was too full, so {} is read-only. The block goes when there is room again.",
    "index.blocks.read_only": "Somebody made {} read-only: set index.blocks.read_only to null.",
    "index.blocks.write": "Somebody forbade writing to {}: set index.blocks.write to null.",
    "index.blocks.read": "Somebody forbade reading {}: set index.blocks.read to null.",
    "index.blocks.metadata": "Somebody forbade changes of {}: set index.blocks.metadata to null.",
}
_CLUSTER_BLOCKS = ("cluster.blocks.read_only", "cluster.blocks.read_only_allow_delete", "cluster.blocks.create_index")


def troubles(client: Client) -> list[str]:
    """Sentences on shards that are missing, blocks, and settings of a load that were left. `IndexUnavailable` when the
    cluster cannot be asked."""
    found = []
    if client.settings.hosts[0].startswith("https:") and not client.settings.verify_certificates:
        found.append(
            "The certificates of the OpenSearch hosts are not verified: anybody in between can read everything."
        )
    told = client.ask("GET", f"/_cluster/health/{client.pattern}", params={"level": "indices", "timeout": "1s"})
    alone = told["number_of_data_nodes"] < 2
    for wired, index in sorted(told.get("indices", {}).items()):
        name = client.ours(wired)
        if index["status"] == "red":
            found.append(f"The index {name} is red: some of its documents are on no node that is there. {LOOK}")
        elif index["status"] == "yellow" and not alone:
            found.append(
                f"The index {name} is yellow: {index['unassigned_shards']} copies of shards are missing. {LOOK}"
            )
    flat = {"flat_settings": "true"}
    options = client.ask("GET", f"/{client.pattern}/_settings", params={**flat, "expand_wildcards": "all"})
    for wired, index in sorted(options.items()):
        name, said = client.ours(wired), index["settings"]
        if name.startswith(COPY_PREFIX):
            continue  # kept as it was, and blocked on purpose
        if said.get("index.verified_before_close") == "true":
            found.append(f"The index {name} is closed: nothing of it can be read until POST {wired}/_open.")
        found += [text.format(f"the index {name}") for block, text in _BLOCKS.items() if said.get(block) == "true"]
        if said.get("index.refresh_interval") == "-1":
            found.append(
                f"The index {name} does not refresh: it is being loaded, or a load broke off. What is written is not found by"
                " searches until then; a finalize or a rebuild puts it right."
            )
    cluster = client.ask("GET", "/_cluster/settings", params=flat)
    blocked = {**cluster["persistent"], **cluster["transient"]}
    found += [f"The cluster has {block} set." for block in _CLUSTER_BLOCKS if blocked.get(block) == "true"]
    return found
