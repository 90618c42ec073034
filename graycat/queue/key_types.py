"""The types of the keys that the requests of one owner, or the tasks of one queue, need in the broker."""

from __future__ import annotations

from graycat.broker import keys
from graycat.families import FAMILIES
from graycat.queue.topology import QUEUES


def queue_types(queue: str) -> dict[str, str]:
    """Return the keys that all owners share in a queue, and their types."""
    return {
        queue: "list",
        keys.owners_key(queue): "zset",
        keys.parked_count_key(queue): "string",
        keys.dead_messages_key(queue): "string",
    }


def owner_types(owner: str) -> dict[str, str]:
    """Return the keys of one owner's tasks and batches, and their types.

    Those of a player are also its API token's, to which its tasks are charged.
    """
    types: dict[str, str] = {}
    for name in {owner, owner.partition("/")[0]}:
        types[keys.listed_key(name)] = "zset"
        for family in FAMILIES:
            types[keys.owned_key(family.name, name)] = "zset"
            types[keys.players_key(family.name, name)] = "zset"
        types[keys.rate_key(name)] = "zset"
        types[keys.owner_batches_key(name)] = "zset"
    for queue in QUEUES:
        types[keys.turn_key(queue, owner)] = "string"
        types[keys.parked_key(queue, owner)] = "list"
    return types
