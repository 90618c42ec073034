"""The items of batches in the broker. The control worker moves them from state to state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graycat.batches.plan import Item
from graycat.batches.states import ITEM_STATES, QUEUED, RUNNING, WAITING
from graycat.bounds.stored import parse_json
from graycat.broker.client import broker_errors
from graycat.broker.keys import batch_key, batch_part_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts

if TYPE_CHECKING:
    from graycat.batches.output import ManifestEntry

#: How many items are read or written with one command.
CHUNK_ITEMS = 500


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """What changes about an item; its plan (an Item) never changes.

    ``tries``: how many tasks were created for it. ``attempts``: how often an engine was asked in its earlier tasks, all
    together. ``seen_attempts``: the same for its current task, as far as the runner has seen. ``failures``: how many
    tasks in a row failed for reasons that are not the item's fault. ``entry``: its manifest entry, once it is done.
    """

    state: str = WAITING
    tries: int = 0
    attempts: int = 0
    seen_attempts: int = 0
    failures: int = 0
    task_id: str = ""
    error: dict[str, Any] | None = None
    entry: ManifestEntry | None = None

    def to_json(self) -> str:
        """Return the record as the broker holds it; ``move_item.lua`` reads ``tries``."""
        return json.dumps(
            {
                "state": self.state,
                "tries": self.tries,
                "attempts": self.attempts,
                "seen": self.seen_attempts,
                "failures": self.failures,
                "task_id": self.task_id,
                "error": self.error,
                "line": self.entry,
            }
        )

    @classmethod
    def from_json(cls, text: bytes | None) -> ItemRecord:
        """Return the record that the broker holds; None stands for an item that was never moved."""
        if text is None:
            return cls()
        fields: dict[str, Any] = parse_json(text)
        return cls(
            state=fields["state"],
            tries=fields["tries"],
            attempts=fields["attempts"],
            seen_attempts=fields["seen"],
            failures=fields["failures"],
            task_id=fields["task_id"],
            error=fields["error"],
            entry=fields["line"],
        )


class BatchItems:
    """The items of the batches in the broker. Every method raises BrokerUnavailable."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("move_item",))

    def write_plan(self, batch_id: str, items: Iterable[Item]) -> None:
        """Write a batch's plan. Writing it again changes nothing, as long as no item was moved."""
        plan = list(items)
        for start in range(0, len(plan), CHUNK_ITEMS):
            encoded, waiting = {}, {}
            for item in plan[start : start + CHUNK_ITEMS]:
                encoded[item.number] = item.to_json()
                waiting[item.number] = item.number
            with broker_errors(), self._client.pipeline(transaction=True) as pipe:
                pipe.hset(batch_part_key(batch_id, "plan"), mapping=encoded)
                pipe.zadd(batch_part_key(batch_id, WAITING), waiting)
                pipe.execute()

    def load_plan(self, batch_id: str, numbers: Sequence[int]) -> dict[int, Item]:
        """Return items of the plan by their numbers; those that are not in the plan are left out."""
        items = {}
        for number, text in self._load(batch_id, "plan", numbers).items():
            if text is not None:
                items[number] = Item.from_json(text)
        return items

    def load_records(self, batch_id: str, numbers: Sequence[int]) -> dict[int, ItemRecord]:
        """Return the records of items by their numbers."""
        texts = self._load(batch_id, "items", numbers)
        return {number: ItemRecord.from_json(text) for number, text in texts.items()}

    def _load(self, batch_id: str, part: str, numbers: Sequence[int]) -> Mapping[int, bytes | None]:
        if not numbers:
            return {}
        with broker_errors():
            texts = self._client.hmget(batch_part_key(batch_id, part), numbers)
        return dict(zip(numbers, texts, strict=True))

    def list_numbers(self, batch_id: str, *states: str, limit: int = CHUNK_ITEMS) -> list[int]:
        """Return the first ``limit`` item numbers of each of some states, in order."""
        numbers: list[int] = []
        with broker_errors():
            for state in states:
                numbers.extend(map(int, self._client.zrange(batch_part_key(batch_id, state), 0, limit - 1)))
        return sorted(numbers)

    def list_in_flight(self, batch_id: str) -> list[int]:
        """Return the numbers of the items that have a task."""
        return self.list_numbers(batch_id, QUEUED, RUNNING)

    def count_by_state(self, batch_id: str) -> dict[str, int]:
        """Return how many items are in each state."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for state in ITEM_STATES:
                pipe.zcard(batch_part_key(batch_id, state))
            return dict(zip(ITEM_STATES, pipe.execute(), strict=True))

    def move(self, batch_id: str, number: int, old: ItemRecord, new: ItemRecord) -> bool:
        """Replace an item's record; return False if another process has moved the item."""
        arguments = (number, old.state, old.tries, new.state, new.to_json())
        with broker_errors():
            return bool(self._scripts.run("move_item", [batch_key(batch_id)], arguments) == 1)

    def move_all(self, batch_id: str, old_states: Sequence[str], new_state: str, limit: int = CHUNK_ITEMS) -> int:
        """Move up to ``limit`` items of each of some states to another state; return how many items those were."""
        numbers = self.list_numbers(batch_id, *old_states, limit=limit)
        for number, record in self.load_records(batch_id, numbers).items():
            self.move(batch_id, number, record, replace(record, state=new_state, failures=0, error=None))
        return len(numbers)
